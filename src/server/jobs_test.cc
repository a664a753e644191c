// Jobs while the disk is full.
#include "server/jobs.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <filesystem>

#include "server/infer_body.h"
#include "server/testing/comes_true.h"
#include "server/testing/running_server.h"

namespace torusml {
namespace {

// No file can be written while it lives. Nothing is to be expected meanwhile: the report of a
// failure may go to a file.
class FullDisk {
 public:
  FullDisk() {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{0, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;

 private:
  rlimit before_;
};

class JobsOnAFullDisk : public ::testing::Test {
 protected:
  JobsOnAFullDisk() : log_([this](const std::string& line) { take(line); }) {
    std::filesystem::create_directory(folder_ / "models");
    save_model(shared_model().model, folder_ / "models/net.tml");
    settings_.concurrent_runs = 1;
    settings_.threads_per_run = 1;
    models_.emplace(folder_ / "models", log_);
    registry_.emplace(folder_ / "data", settings_.registry);
    keys_.emplace(settings_.prepared_key_bytes, registry_->prepared_keys_folder());
    engine_ = std::make_unique<Engine>(settings_, *keys_, metrics_, log_);
    const SmallClient& client = shared_client();
    KeyUpload upload = registry_->open_upload("alice", client.key_id, client.keys.size(), 0);
    upload.write(as_bytes(client.keys));
    upload.finish();
  }
  ~JobsOnAFullDisk() override {
    release();
    if (jobs_) jobs_->stop();
    engine_.reset();
  }

  // Keeps the engine's one run busy until release(), so that jobs that have started do not end.
  void occupy() {
    const std::string& key = shared_client().key_id;
    engine_->submit({.model = models_->find("net", "1"),
                     .key = key,
                     .use = std::make_shared<KeyUse>(registry_->use_key("alice", key)),
                     .inputs = shared_client().encrypt(1),
                     .deadline = std::chrono::steady_clock::now() + std::chrono::hours(1),
                     .done = [this](const WorkResult&) {
                       is_occupied_ = true;
                       is_released_.wait(false);
                     }});
    ASSERT_TRUE(comes_true([&] { return is_occupied_.load(); }));
  }
  void release() {
    is_released_ = true;
    is_released_.notify_all();
  }
  void start() {
    jobs_ = std::make_unique<JobRunner>(settings_, *registry_, *models_, *engine_, log_);
  }
  std::string add(const SmallClient& client = shared_client()) {
    return registry_
        ->add_job({.tenant = "alice",
                   .model = "net",
                   .version = "1",
                   .key = shared_client().key_id,
                   .request = to_bytes(client.encrypt(3))})
        .id;
  }
  JobRecord job(const std::string& id) { return *registry_->job("alice", id); }
  bool reaches(const std::string& id, JobState state) {
    return comes_true([&] { return job(id).state == state; });
  }
  bool is_logged(const std::string& event) {
    return comes_true([&] {
      const std::lock_guard lock(mutex_);
      return text_.find("\"event\":\"" + event + "\"") != std::string::npos;
    });
  }
  void expect_result(const std::string& id) {
    EXPECT_EQ(shared_client().decrypt(registry_->job_result("alice", id)),
              SmallClient::expected(3));
  }

  ServerSettings settings_;

 private:
  void take(const std::string& line) {
    const std::lock_guard lock(mutex_);
    text_ += line;
  }

  TemporaryFolder folder_;
  std::mutex mutex_;
  std::string text_;
  std::atomic<bool> is_occupied_ = false, is_released_ = false;
  Log log_;
  Metrics metrics_;
  std::optional<ModelStore> models_;
  std::optional<PreparedKeyStore> keys_;

 protected:
  std::optional<Registry> registry_;
  std::unique_ptr<JobRunner> jobs_;  // outlives the engine
  std::unique_ptr<Engine> engine_;
};

TEST_F(JobsOnAFullDisk, AResultIsWrittenLater) {
  start();
  occupy();
  const std::string id = jobs_
                             ->add({.tenant = "alice",
                                    .model = "net",
                                    .version = "1",
                                    .key = shared_client().key_id,
                                    .request = to_bytes(shared_client().encrypt(3))})
                             .id;
  ASSERT_TRUE(reaches(id, JobState::running));
  bool is_kept = false, has_request = false;
  {
    const FullDisk full;
    release();
    is_kept = is_logged("job_unwritten") && job(id).state == JobState::running;
    has_request = !registry_->job_request(id).empty();
  }
  EXPECT_TRUE(is_kept);
  EXPECT_TRUE(has_request);
  ASSERT_TRUE(reaches(id, JobState::done));
  expect_result(id);
  EXPECT_TRUE(comes_true([&] { return jobs_->unfinished() == 0; }));
}

TEST_F(JobsOnAFullDisk, AJobStartsLater) {
  const std::string id = add();
  bool waits = false;
  {
    const FullDisk full;
    start();
    waits = is_logged("job_waits") && job(id).state == JobState::queued;
  }
  EXPECT_TRUE(waits);
  ASSERT_TRUE(reaches(id, JobState::done));
  expect_result(id);
}

TEST_F(JobsOnAFullDisk, AnErrorIsWrittenLater) {
  const std::string id = add(SmallClient(shared_model()));  // under another key
  occupy();
  start();
  ASSERT_TRUE(reaches(id, JobState::running));
  bool is_kept = false;
  {
    const FullDisk full;
    release();
    is_kept = is_logged("job_unwritten") && job(id).state == JobState::running;
  }
  EXPECT_TRUE(is_kept);
  ASSERT_TRUE(reaches(id, JobState::failed));
  EXPECT_EQ(job(id).error->code(), ErrorCode::wrong_key);
}

TEST_F(JobsOnAFullDisk, AResultIsGivenUpInTheEnd) {
  settings_.result_patience = Seconds(0);
  const std::string id = add();
  occupy();
  start();
  ASSERT_TRUE(reaches(id, JobState::running));
  bool is_kept = false;
  {
    const FullDisk full;
    release();
    is_kept = is_logged("job_unwritten") && !registry_->job_request(id).empty();
  }
  EXPECT_TRUE(is_kept);
  ASSERT_TRUE(reaches(id, JobState::failed));
  EXPECT_EQ(job(id).error->code(), ErrorCode::file_unwritable);
}

TEST_F(JobsOnAFullDisk, AStopWritesWhatWaits) {
  const std::string id = add();
  occupy();
  start();
  ASSERT_TRUE(reaches(id, JobState::running));
  {
    const FullDisk full;
    release();
    is_logged("job_unwritten");
  }
  jobs_->stop();
  EXPECT_EQ(job(id).state, JobState::done);
}

}  // namespace
}  // namespace torusml
