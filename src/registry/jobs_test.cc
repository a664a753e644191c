// Jobs: their states, what of them lasts, and that tenants see their own things alone.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/testing/errors.h"
#include "registry/testing/temporary_registry.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

class Jobs : public ::testing::Test {
 protected:
  void open(const RegistryLimits& limits = {}) {
    registry_.reset();
    registry_.emplace(folder_ / "data", limits, true, clock_.clock());
  }
  JobRecord add(const std::string& request, const std::string& idempotency_key = "") {
    return registry_->add_job({.tenant = "alice",
                               .model = "net",
                               .version = "1",
                               .key = "abc",
                               .idempotency_key = idempotency_key,
                               .request = request});
  }
  std::optional<JobRecord> job(const std::string& id) { return registry_->job("alice", id); }
  std::set<std::string> files() const { return files_below(folder_ / "data/jobs"); }

  TemporaryFolder folder_;
  TestClock clock_;
  std::optional<Registry> registry_;
};

TEST_F(Jobs, AreDone) {
  open();
  const std::string request("a\0b", 3), result(70'000, 'r');
  const JobRecord added = add(request);
  EXPECT_EQ(added.state, JobState::queued);
  EXPECT_EQ(registry_->job_request(added.id), request);
  EXPECT_EQ(code_of([&] { registry_->job_result("alice", added.id); }), ErrorCode::request_invalid);
  registry_->start_job(added.id);
  EXPECT_EQ(job(added.id)->state, JobState::running);
  clock_.add(7);
  registry_->finish_job(added.id, result);
  const JobRecord done = *job(added.id);
  EXPECT_EQ(done.state, JobState::done);
  EXPECT_EQ(done.tenant, "alice");
  EXPECT_EQ(done.model, "net");
  EXPECT_EQ(done.version, "1");
  EXPECT_EQ(done.key, "abc");
  EXPECT_EQ(done.created, clock_.now() - 7);
  EXPECT_EQ(done.finished, clock_.now());
  EXPECT_EQ(done.result_bytes, result.size());
  EXPECT_FALSE(done.error);
  EXPECT_EQ(code_of([&] { registry_->job_request(added.id); }), ErrorCode::not_found);
  EXPECT_EQ(files(), std::set<std::string>{added.id + ".result"});
  open();
  EXPECT_EQ(registry_->job_result("alice", added.id), result);
  EXPECT_TRUE(registry_->delete_job("alice", added.id));
  EXPECT_FALSE(registry_->delete_job("alice", added.id));
  EXPECT_EQ(code_of([&] { registry_->job_result("alice", added.id); }), ErrorCode::not_found);
  EXPECT_TRUE(files().empty());
}

TEST_F(Jobs, Fail) {
  open();
  const JobRecord failed = add("a"), cancelled = add("b");
  registry_->fail_job(failed.id, Error(ErrorCode::wrong_key, "what", "where", "hint"));
  registry_->fail_job(cancelled.id, Error(ErrorCode::cancelled, "stop"));
  open();
  const JobRecord found = *job(failed.id);
  EXPECT_EQ(found.state, JobState::failed);
  EXPECT_STREQ(found.error->what(), "TML-E020 wrong-key: what (where). Try: hint");
  EXPECT_EQ(job(cancelled.id)->state, JobState::cancelled);
  EXPECT_EQ(job(cancelled.id)->error->code(), ErrorCode::cancelled);
  EXPECT_EQ(code_of([&] { registry_->job_result("alice", failed.id); }),
            ErrorCode::request_invalid);
  EXPECT_TRUE(files().empty());
}

TEST_F(Jobs, UnfinishedOnesSurviveARestart) {
  open();
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(add("request " + std::to_string(i)).id);
  registry_->start_job(ids[0]);
  registry_->finish_job(ids[2], "y");
  open();
  const std::vector<JobRecord> unfinished = registry_->unfinished_jobs();
  ASSERT_EQ(unfinished.size(), 4u);
  const std::vector<int> order{0, 1, 3, 4};
  for (std::size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(unfinished[i].id, ids[order[i]]);
    EXPECT_EQ(registry_->job_request(ids[order[i]]), "request " + std::to_string(order[i]));
  }
}

TEST_F(Jobs, OneThatHasEndedStaysAsItIs) {
  open();
  const JobRecord done = add("a"), failed = add("b"), deleted = add("c");
  const Error error(ErrorCode::wrong_key, "what");
  registry_->finish_job(done.id, "result");
  registry_->fail_job(failed.id, error);
  registry_->delete_job("alice", deleted.id);
  for (const std::string& id : {done.id, failed.id, deleted.id, std::string("none")}) {
    registry_->start_job(id);
    registry_->fail_job(id, Error(ErrorCode::cancelled, "late"));
    registry_->finish_job(id, "late");
  }
  EXPECT_EQ(registry_->job_result("alice", done.id), "result");
  EXPECT_EQ(job(failed.id)->error->code(), ErrorCode::wrong_key);
  EXPECT_FALSE(job(deleted.id));
  EXPECT_EQ(files(), std::set<std::string>{done.id + ".result"});
}

TEST_F(Jobs, ARepeatedRequestGivesTheSameJob) {
  open({.jobs_per_tenant = 2});
  const JobRecord first = add("a", "key-1");
  EXPECT_EQ(add("a", "key-1").id, first.id);
  EXPECT_NE(add("a", "key-2").id, first.id);
  EXPECT_EQ(add("a", "key-1").id, first.id);  // the quota does not count it
  registry_->finish_job(first.id, "y");
  open({.jobs_per_tenant = 2});
  EXPECT_EQ(add("a", "key-1").state, JobState::done);
  EXPECT_NE(registry_->add_job({.tenant = "bob", .idempotency_key = "key-1"}).id, first.id);
  EXPECT_EQ(code_of([&] { add("a", std::string(65, 'k')); }), ErrorCode::request_invalid);
  registry_->delete_job("alice", first.id);
  EXPECT_NE(add("a", "key-1").id, first.id);
}

TEST_F(Jobs, ManyThreadsRepeatOneRequest) {
  open();
  std::vector<std::string> ids(6);
  std::vector<std::thread> threads;
  for (std::string& id : ids) threads.emplace_back([&] { id = add("a", "key").id; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 1u);
  EXPECT_EQ(files(), std::set<std::string>{ids[0] + ".request"});
}

TEST_F(Jobs, Quota) {
  open({.jobs_per_tenant = 2});
  const JobRecord first = add("a");
  add("b");
  EXPECT_EQ(code_of([&] { add("c"); }), ErrorCode::quota_exceeded);
  registry_->finish_job(first.id, "y");  // its result waits
  EXPECT_EQ(code_of([&] { add("c"); }), ErrorCode::quota_exceeded);
  EXPECT_EQ(registry_->add_job({.tenant = "bob"}).state, JobState::queued);
  registry_->delete_job("alice", first.id);
  add("c");
}

TEST_F(Jobs, QuotaOfBytes) {
  open({.job_bytes_per_tenant = 100});
  EXPECT_EQ(code_of([&] { add(std::string(101, 'a')); }), ErrorCode::quota_exceeded);
  const JobRecord first = add(std::string(60, 'a'));
  EXPECT_EQ(code_of([&] { add(std::string(41, 'b')); }), ErrorCode::quota_exceeded);
  const JobRecord second = add(std::string(40, 'b'));
  registry_->add_job({.tenant = "bob", .request = std::string(100, 'c')});
  registry_->finish_job(first.id, std::string(10, 'r'));  // instead of its request
  EXPECT_EQ(code_of([&] { add(std::string(51, 'c')); }), ErrorCode::quota_exceeded);
  registry_->fail_job(second.id, Error(ErrorCode::internal, "x"));  // keeps nothing
  const JobRecord third = add(std::string(90, 'c'));
  registry_->finish_job(third.id, std::string(500, 'r'));  // results come, whatever their size
  EXPECT_EQ(code_of([&] { add(""); }), ErrorCode::quota_exceeded);
  registry_->delete_job("alice", third.id);
  add(std::string(90, 'd'));
}

TEST_F(Jobs, NamesAreChecked) {
  open();
  EXPECT_EQ(code_of([&] { registry_->add_job({.tenant = "../alice"}); }),
            ErrorCode::invalid_argument);
  EXPECT_EQ(
      code_of([&] { registry_->add_job({.tenant = "alice", .model = std::string(257, 'm')}); }),
      ErrorCode::request_invalid);
  EXPECT_EQ(code_of([&] { registry_->job_request("../lock"); }), ErrorCode::not_found);
}

TEST_F(Jobs, OldOnesAreDeleted) {
  open({.finished_job = Seconds(100)});
  const JobRecord done = add("a"), waiting = add("b"), failed = add("c");
  registry_->finish_job(done.id, "y");
  registry_->fail_job(failed.id, Error(ErrorCode::internal, "x"));
  clock_.add(100);
  registry_->clean_up();
  EXPECT_TRUE(job(done.id));
  clock_.add(1);
  registry_->clean_up();
  EXPECT_FALSE(job(done.id));
  EXPECT_FALSE(job(failed.id));
  EXPECT_TRUE(job(waiting.id));
  EXPECT_EQ(files(), std::set<std::string>{waiting.id + ".request"});
}

TEST_F(Jobs, AClockThatJumpsKeepsResults) {
  open();
  const JobRecord done = add("a");
  registry_->finish_job(done.id, "y");
  for (const std::int64_t years : {10, -20, 5}) {
    clock_.add(years * 366 * 24 * 3600);
    registry_->clean_up();
    EXPECT_TRUE(job(done.id));
  }
}

TEST_F(Jobs, DamageIsFound) {
  open();
  const JobRecord waiting = add("request"), cut = add("request"), done = add("request"),
                  lost = add("request");
  registry_->finish_job(done.id, "result");
  registry_->finish_job(lost.id, "result");
  const std::string folder = folder_ / "data/jobs/";
  fs::resize_file(folder + cut.id + ".request", 3);
  fs::resize_file(folder + done.id + ".result", 3);
  EXPECT_EQ(code_of([&] { registry_->job_request(cut.id); }), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of([&] { registry_->job_result("alice", done.id); }), ErrorCode::file_corrupt);
  registry_.reset();
  fs::remove(folder + lost.id + ".result");
  std::ofstream(folder + std::string(32, 'a') + ".request") << "orphan";
  std::ofstream(folder + "README") << "not ours";
  open();
  for (const std::string& id : {cut.id, done.id, lost.id}) {
    EXPECT_EQ(job(id)->state, JobState::failed);
    EXPECT_EQ(job(id)->error->code(), ErrorCode::file_corrupt);
  }
  EXPECT_EQ(registry_->job_request(waiting.id), "request");
  EXPECT_EQ(files(), (std::set<std::string>{waiting.id + ".request", "README"}));
}

// Every function that takes a tenant, asked by another one for what is alice's: as if it were not
// there.
TEST_F(Jobs, TenantsSeeTheirOwnThingsAlone) {
  open();
  const TestKey whole = make_key(1), part = make_key(2);
  upload(*registry_, "alice", whole);
  upload(*registry_, "alice", part, 0, 100);
  const JobRecord waiting = add("a", "repeat"), done = add("b");
  registry_->finish_job(done.id, "y");
  Registry& r = *registry_;
  struct Question {
    const char* name;
    std::function<bool(const std::string& tenant)> finds;
  };
  const auto is_found = [](const std::function<void()>& action) {
    return code_of(action) != ErrorCode::not_found;
  };
  const std::vector<Question> questions{
      {"key", [&](auto& t) { return r.key(t, whole.id).has_value(); }},
      {"key in part", [&](auto& t) { return r.key(t, part.id).has_value(); }},
      {"keys", [&](auto& t) { return !r.keys(t).empty(); }},
      {"use_key", [&](auto& t) { return is_found([&] { r.use_key(t, whole.id); }); }},
      {"job", [&](auto& t) { return r.job(t, waiting.id).has_value(); }},
      {"job_result", [&](auto& t) { return is_found([&] { r.job_result(t, done.id); }); }},
      {"add_job",
       [&](auto& t) {
         const JobRecord job = r.add_job({.tenant = t, .idempotency_key = "repeat"});
         if (job.id != waiting.id) r.delete_job(t, job.id);
         return job.id == waiting.id;
       }},
      {"delete_key", [&](auto& t) { return r.delete_key(t, whole.id); }},
      {"delete_job", [&](auto& t) { return r.delete_job(t, waiting.id); }},
  };
  for (const char* stranger : {"bob", "Alice", "alic", "alice2", "alice%", "*", "", "../alice"}) {
    for (const Question& question : questions) {
      const bool makes_things = std::string_view(question.name) == "add_job";
      if (makes_things && std::string_view(stranger).find_first_of("%*/") != std::string::npos)
        continue;
      if (makes_things && *stranger == '\0') continue;
      EXPECT_FALSE(question.finds(stranger)) << question.name << " by '" << stranger << "'";
    }
  }
  // A stranger's upload of the same key begins at 0 and leaves alice's alone.
  EXPECT_EQ(code_of([&] { upload(r, "bob", part, 100); }), ErrorCode::request_invalid);
  EXPECT_TRUE(upload(r, "bob", part).is_complete());
  EXPECT_TRUE(r.delete_key("bob", part.id));
  EXPECT_EQ(r.key("alice", part.id)->received, 100u);
  for (const Question& question : questions) EXPECT_TRUE(question.finds("alice")) << question.name;
}

}  // namespace
}  // namespace torusml
