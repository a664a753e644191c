// kill -9 at random moments of uploads, jobs and evictions: a child works on a registry and says
// what was acknowledged, the parent kills it and looks at what is left.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <sstream>

#include "base/testing/file_bytes.h"
#include "registry/testing/temporary_registry.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

class Crash : public ::testing::Test {
 protected:
  Crash() : data_(folder_ / "data") {
    const std::uint32_t seed = std::random_device()();
    std::printf("seed %u\n", seed);
    random_.seed(seed);
  }

  // Runs work(say) in a child, kills it a moment after it said at most `most_lines` lines (a
  // quarter of the children: after they began), and returns what it had said.
  template <class Work>
  std::vector<std::string> run_and_kill(int most_lines, const Work& work) {
    int pipes[2];
    EXPECT_EQ(pipe(pipes), 0);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      close(pipes[0]);
      const auto say = [&](const std::string& text) {
        const std::string line = text + "\n";
        if (write(pipes[1], line.data(), line.size()) < 0) _exit(1);
      };
      try {
        work(say);
      } catch (const std::exception& error) {
        say(std::string("error ") + error.what());
      }
      _exit(0);
    }
    close(pipes[1]);
    const auto up_to = [&](int most) { return std::uniform_int_distribution(0, most)(random_); };
    std::string said;
    const auto read_more = [&] {
      char buffer[4096];
      const ssize_t got = read(pipes[0], buffer, sizeof buffer);
      if (got > 0) said.append(buffer, got);
      return got > 0;
    };
    const int lines_due = up_to(3) == 0 ? 0 : up_to(most_lines);
    while (std::ranges::count(said, '\n') < lines_due && read_more()) {
    }
    usleep(up_to(lines_due == 0 ? 20'000 : 2000));
    kill(child, SIGKILL);
    while (read_more()) {
    }
    close(pipes[0]);
    waitpid(child, nullptr, 0);
    std::vector<std::string> lines;
    std::istringstream stream(said);
    for (std::string line; std::getline(stream, line);) {
      EXPECT_FALSE(line.starts_with("error")) << line;
      lines.push_back(line);
    }
    acknowledged_ += lines.size();
    return lines;
  }

  // Every file has its record and every record its file.
  void check_files(Registry& registry, const std::vector<std::string>& tenants) {
    std::set<std::string> due;
    for (const std::string& tenant : tenants) {
      for (const KeyRecord& key : registry.keys(tenant)) {
        const std::string name = tenant + "/" + key.id + (key.is_complete() ? "" : ".part");
        due.insert(name);
        EXPECT_GE(fs::file_size(data_ + "/keys/" + name), key.received);
      }
    }
    EXPECT_EQ(files_below(data_ + "/keys"), due);
  }

  const TemporaryFolder folder_;
  const std::string data_;
  std::mt19937 random_;
  std::size_t acknowledged_ = 0;
};

constexpr int kRounds = 34;  // of each: more than 100 in all

TEST_F(Crash, Upload) {
  std::size_t parts = 0, whole = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::map<std::string, TestKey> keys;
    for (int i = 0; i < 6; ++i) {
      TestKey key = make_key(random_(), 150'000);
      keys[key.id] = std::move(key);
    }
    const std::uint32_t child_seed = random_();
    const auto said = run_and_kill(150, [&](const auto& say) {
      Registry registry(data_, {});
      std::mt19937 random(child_seed);
      for (const auto& [id, key] : keys) {
        for (std::size_t at = 0; at < key.bytes.size();) {
          const std::size_t next = std::min(key.bytes.size(), at + 1 + random() % 12'000);
          at = upload(registry, "alice", key, at, next).received;
          say(id + " " + std::to_string(at));
        }
      }
    });
    std::map<std::string, std::uint64_t> acknowledged;
    for (const std::string& line : said)
      acknowledged[line.substr(0, 64)] = std::stoull(line.substr(65));
    Registry registry(data_, {});
    check_files(registry, {"alice"});
    for (const auto& [id, key] : keys) {
      const std::optional<KeyRecord> record = registry.key("alice", id);
      const std::uint64_t received = record ? record->received : 0;
      EXPECT_GE(received, acknowledged[id]);
      if (received > 0) ++(record->is_complete() ? whole : parts);
      if (!record || !record->is_complete()) upload(registry, "alice", key, received);
      EXPECT_EQ(file_bytes(registry.use_key("alice", id).path()), key.bytes);
      registry.delete_key("alice", id);
    }
  }
  std::printf("%zu parts, %zu whole keys found, %zu acknowledgements\n", parts, whole,
              acknowledged_);
  EXPECT_GT(whole, 0u);
}

TEST_F(Crash, Jobs) {
  const auto request_of = [](int i) {
    return std::string(500 + 37 * i, static_cast<char>('a' + i % 26));
  };
  const auto result_of = [](int i) {
    return std::string(900 + 11 * i, static_cast<char>('A' + i % 26));
  };
  RegistryLimits limits;
  limits.jobs_per_tenant = 1'000'000;
  int checked = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto name = [&](int i) { return std::to_string(round) + "-" + std::to_string(i); };
    const auto new_job = [&](int i, std::string_view request) {
      return NewJob{
          .tenant = "alice", .model = "net", .idempotency_key = name(i), .request = request};
    };
    const auto said = run_and_kill(100, [&](const auto& say) {
      Registry registry(data_, limits);
      for (int i = 0;; ++i) {
        const std::string number = std::to_string(i), request = request_of(i);
        const std::string id = registry.add_job(new_job(i, request)).id;
        say("added " + number + " " + id);
        if (i % 5 == 0) continue;
        registry.start_job(id);
        if (i % 5 == 1) continue;
        if (i % 5 == 2) {
          registry.fail_job(id, Error(ErrorCode::wrong_key, "what"));
          say("failed " + number + " " + id);
        } else {
          registry.finish_job(id, result_of(i));
          say("done " + number + " " + id);
        }
        if (i % 5 == 4) {
          say("deleting " + number + " " + id);
          registry.delete_job("alice", id);
          say("deleted " + number + " " + id);
        }
      }
    });
    std::map<int, std::pair<std::string, std::string>> last;  // what was said of each
    for (const std::string& line : said) {
      std::istringstream words(line);
      std::string what, id;
      int number = 0;
      words >> what >> number >> id;
      last[number] = {what, id};
    }
    Registry registry(data_, limits);
    for (const auto& [number, entry] : last) {
      const auto& [what, id] = entry;
      const std::optional<JobRecord> job = registry.job("alice", id);
      ++checked;
      if (what == "deleting") {
        registry.delete_job("alice", id);
        continue;
      }
      ASSERT_EQ(job.has_value(), what != "deleted");
      if (!job) continue;
      EXPECT_EQ(registry.add_job(new_job(number, "again")).id, id);
      const bool is_unfinished = job->state == JobState::queued || job->state == JobState::running;
      if (is_unfinished) {
        EXPECT_EQ(registry.job_request(id), request_of(number));
      }
      if (job->state == JobState::done) {
        EXPECT_EQ(registry.job_result("alice", id), result_of(number));
      }
      EXPECT_FALSE(what == "done" && job->state != JobState::done);
      EXPECT_FALSE(what == "failed" && job->state != JobState::failed);
      // The last step may have been done and not said.
      EXPECT_FALSE(what == "added" && job->state == JobState::failed && number % 5 != 2);
      registry.delete_job("alice", id);
    }
    // One more may have been accepted and not said; it is whole, too.
    for (const JobRecord& job : registry.unfinished_jobs()) {
      EXPECT_GE(registry.job_request(job.id).size(), 500u);
      registry.delete_job("alice", job.id);
    }
    EXPECT_TRUE(files_below(data_ + "/jobs").empty());
  }
  std::printf("%d jobs looked at, %zu acknowledgements\n", checked, acknowledged_);
  EXPECT_GT(checked, 0);
}

TEST_F(Crash, Eviction) {
  std::vector<TestKey> keys;
  std::map<std::string, std::string> bytes;
  for (int i = 0; i < 8; ++i) {
    keys.push_back(make_key(100 + i, 30'000));
    bytes[keys[i].id] = keys[i].bytes;
  }
  RegistryLimits limits;
  limits.key_bytes = 3 * keys[0].bytes.size() + 100;
  std::size_t whole = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint32_t child_seed = random_();
    const auto said = run_and_kill(40, [&](const auto& say) {
      Registry registry(data_, limits);
      std::mt19937 random(child_seed);
      for (int step = 0;; ++step) {
        const std::string tenant = random() % 2 == 0 ? "alice" : "bob";
        const TestKey& key = keys[random() % keys.size()];
        const std::optional<KeyRecord> known = registry.key(tenant, key.id);
        if (!known || !known->is_complete()) {
          const std::size_t from = known ? known->received : 0;
          const bool is_part = step % 16 == 0 && from == 0;  // few, as parts make no room
          upload(registry, tenant, key, from, is_part ? 10'000 : std::string::npos);
          if (is_part) registry.delete_key(tenant, key.id);
        } else {
          const KeyUse use = registry.use_key(tenant, key.id);
          if (random() % 4 == 0) registry.delete_key(tenant, key.id);
        }
        if (step % 5 == 0) registry.clean_up();
        say("step");
      }
    });
    Registry registry(data_, limits);
    check_files(registry, {"alice", "bob"});
    std::uint64_t stored = 0;
    for (const char* tenant : {"alice", "bob"}) {
      for (const KeyRecord& key : registry.keys(tenant)) {
        stored += key.bytes;
        if (!key.is_complete()) {
          registry.delete_key(tenant, key.id);
          continue;
        }
        ++whole;
        EXPECT_EQ(file_bytes(registry.use_key(tenant, key.id).path()), bytes[key.id]);
      }
    }
    EXPECT_LE(stored, limits.key_bytes);
  }
  std::printf("%zu whole keys found, %zu steps\n", whole, acknowledged_);
  EXPECT_GT(whole, 0u);
}

}  // namespace
}  // namespace torusml
