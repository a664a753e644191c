// The folder itself: who may have it, other versions, damage, full disks.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "registry/sqlite.h"
#include "registry/testing/temporary_registry.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

ErrorCode open_code(const std::string& path, bool serves = true) {
  return code_of([&] { Registry(path, {}, serves); });
}

TEST(Folder, OneServer) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  std::optional<Registry> server(std::in_place, data, RegistryLimits{});
  EXPECT_EQ(open_code(data), ErrorCode::file_unwritable);
  {
    Registry beside(data, {}, false);
    EXPECT_EQ(code_of([&] { beside.keys("alice"); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { beside.unfinished_jobs(); }), ErrorCode::invalid_argument);
    EXPECT_EQ(code_of([&] { beside.clean_up(); }), ErrorCode::invalid_argument);
  }
  EXPECT_EQ(open_code(data), ErrorCode::file_unwritable);
  server.reset();
  Registry next(data, {});
}

TEST(Folder, MustBeItsOwners) {
  const TemporaryFolder folder;
  EXPECT_EQ(open_code(folder / "none/data"), ErrorCode::file_unwritable);
  std::ofstream(folder / "file") << "x";
  EXPECT_EQ(open_code(folder / "file"), ErrorCode::file_unwritable);
  fs::create_directory(folder / "shared");
  fs::permissions(folder / "shared", fs::perms(0770));
  EXPECT_EQ(open_code(folder / "shared"), ErrorCode::file_unwritable);
  fs::permissions(folder / "shared", fs::perms(0750));
  EXPECT_EQ(open_code(folder / "shared"), ErrorCode{});
  fs::create_directory_symlink(folder / "shared", folder / "link");
  EXPECT_EQ(open_code(folder / "link"), ErrorCode{});
  fs::remove(folder / "shared/registry.db");
  fs::create_symlink(folder / "file", folder / "shared/registry.db");
  EXPECT_NE(open_code(folder / "shared"), ErrorCode{});
}

TEST(Folder, OtherSchemasAreRefused) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", path = data + "/registry.db";
  const auto change = [&](const char* sql) { Database(path).execute(sql); };
  { Registry registry(data, {}); }
  change("PRAGMA user_version = 2");
  for (const bool serves : {true, false}) {
    EXPECT_EQ(open_code(data, serves), ErrorCode::file_version);
    try {
      Registry(data, {}, serves);
    } catch (const Error& error) {
      EXPECT_EQ(error.message(), "it has schema version 2, this program reads 1");
      EXPECT_NE(error.hint().find("newer"), std::string::npos);
    }
  }
  change("PRAGMA user_version = 1; PRAGMA application_id = 5");
  EXPECT_EQ(open_code(data), ErrorCode::file_foreign);
  fs::remove(path);
  std::ofstream(path) << "";
  change("CREATE TABLE other(a)");
  EXPECT_EQ(open_code(data), ErrorCode::file_foreign);
  std::ofstream(path) << std::string(10'000, 'x');
  EXPECT_EQ(open_code(data), ErrorCode::file_foreign);
  fs::remove(path);
  std::ofstream(path) << "";
  EXPECT_EQ(open_code(data), ErrorCode{});
}

// Bytes of the database changed at random places, and its end cut: an error or none, never a crash.
TEST(Folder, ADamagedDatabase) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", path = data + "/registry.db";
  const TestKey key = make_key(1, 1000);
  std::string token;
  {
    Registry registry(data, {});
    token = registry.add_token({.tenant = "alice", .models = {"net"}}).text;
    upload(registry, "alice", key);
    for (int i = 0; i < 50; ++i) registry.add_job({.tenant = "alice", .request = "x"});
  }
  const std::string good = file_bytes(path);
  std::mt19937 random(1);
  int errors = 0;
  for (int round = 0; round < 60; ++round) {
    std::string bad = good;
    if (round % 4 == 0) bad.resize(random() % bad.size());
    for (int i = 0; i <= round && !bad.empty(); ++i)
      bad[random() % bad.size()] = static_cast<char>(random());
    for (const char* log : {"-wal", "-shm"}) fs::remove(path + log);
    std::ofstream(path, std::ios::binary) << bad;
    try {
      Registry registry(data, {});
      registry.authenticate(token);
      registry.keys("alice");
      registry.unfinished_jobs();
      registry.tokens();
      registry.add_job({.tenant = "alice", .request = "x"});
      registry.clean_up();
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::internal) << error.what();
      ++errors;
    }
  }
  EXPECT_GT(errors, 20);
}

// Full disks. Limits of a process and mounts are for a child.

int run_in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void limit_files(std::uint64_t bytes) {
  signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &limit);
}

bool is_busy(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::server_busy) return true;
    std::fprintf(stderr, "%s\n", error.what());
  }
  return false;
}

#define CHECK_IN_CHILD(condition)                                \
  if (!(condition)) {                                            \
    std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
    return 1;                                                    \
  }

TEST(FullDisk, LeavesNothingHalfWritten) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  EXPECT_EQ(
      run_in_child([&] {
        const TestKey key = make_key(1, 2'000'000), part = make_key(2, 2'000'000);
        Registry registry(data, {});
        upload(registry, "alice", part, 0, 500'000);
        const JobRecord job = registry.add_job({.tenant = "alice", .request = "x"});
        KeyUpload early = registry.open_upload("bob", key.id, key.bytes.size(), 0);
        limit_files(1'000'000);
        // When it is announced, or while it is written.
        CHECK_IN_CHILD(is_busy([&] { upload(registry, "alice", key); }));
        CHECK_IN_CHILD(!registry.key("alice", key.id));
        CHECK_IN_CHILD(is_busy([&] { early.write(as_bytes(key.bytes)); }));
        CHECK_IN_CHILD(!registry.key("bob", key.id));
        CHECK_IN_CHILD(is_busy([&] { upload(registry, "alice", part, 500'000); }));
        CHECK_IN_CHILD(registry.key("alice", part.id)->received == 500'000);
        CHECK_IN_CHILD(fs::file_size(data + "/keys/alice/" + part.id + ".part") == 500'000);
        CHECK_IN_CHILD(is_busy([&] {
          registry.add_job({.tenant = "alice", .request = std::string(2'000'000, 'x')});
        }));
        CHECK_IN_CHILD(is_busy([&] { registry.finish_job(job.id, std::string(2'000'000, 'y')); }));
        CHECK_IN_CHILD(registry.job_request(job.id) == "x");
        CHECK_IN_CHILD(files_below(data + "/jobs").size() == 1);
        CHECK_IN_CHILD(files_below(data + "/keys").size() == 1);
        limit_files(RLIM_INFINITY);
        CHECK_IN_CHILD(upload(registry, "alice", part, 500'000).is_complete());
        CHECK_IN_CHILD(upload(registry, "alice", key).is_complete());
        registry.finish_job(job.id, "y");
        CHECK_IN_CHILD(registry.job_result("alice", job.id) == "y");
        return 0;
      }),
      0);
}

// What SQLite says of a limit that is not the disk's own.
bool is_refused(const std::function<void()>& action) {
  const ErrorCode code = code_of(action);
  return code == ErrorCode::server_busy || code == ErrorCode::file_unwritable;
}

// The database can grow no more, and neither can its log.
TEST(FullDisk, OfTheDatabase) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  EXPECT_EQ(run_in_child([&] {
              RegistryLimits limits;
              limits.jobs_per_tenant = 100'000;
              Registry registry(data, limits);
              const NewToken token = registry.add_token({.tenant = "alice"});
              const TestKey key = make_key(1, 1000);
              upload(registry, "alice", key, 0, 500);
              limit_files(250'000);
              int added = 0;
              const auto add_jobs = [&] {
                for (; added < 5000; ++added)
                  registry.add_job({.tenant = "alice", .model = std::string(200, 'm')});
              };
              CHECK_IN_CHILD(is_refused(add_jobs));
              CHECK_IN_CHILD(files_below(data + "/jobs").size() == static_cast<std::size_t>(added));
              CHECK_IN_CHILD(is_refused(add_jobs));
              CHECK_IN_CHILD(registry.authenticate(token.text).tenant == "alice");
              limit_files(RLIM_INFINITY);
              CHECK_IN_CHILD(upload(registry, "alice", key, 500).is_complete());
              CHECK_IN_CHILD(registry.unfinished_jobs().size() == static_cast<std::size_t>(added));
              return 0;
            }),
            0);
}

TEST(FullDisk, OfASmallFileSystem) {
  const TemporaryFolder folder;
  constexpr int kCannotMount = 77;
  const int status = run_in_child([&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.path().c_str(), "tmpfs", 0, "size=2m,mode=700") != 0)
      return kCannotMount;
    const std::string data = folder / "data";
    Registry registry(data, {});
    std::vector<TestKey> keys;
    std::size_t stored = 0;
    for (int i = 0; i < 8; ++i) keys.push_back(make_key(i, 400'000));
    const auto fill = [&] {
      for (const TestKey& key : keys) {
        upload(registry, "alice", key);
        ++stored;
      }
    };
    CHECK_IN_CHILD(is_busy(fill));
    CHECK_IN_CHILD(stored >= 2);
    CHECK_IN_CHILD(files_below(data + "/keys").size() == stored);
    const auto add_jobs = [&] {
      for (int i = 0; i < 64; ++i)
        registry.add_job({.tenant = "alice", .request = std::string(100'000, 'x')});
    };
    CHECK_IN_CHILD(is_busy(add_jobs));
    CHECK_IN_CHILD(files_below(data + "/jobs").size() == registry.unfinished_jobs().size());
    CHECK_IN_CHILD(registry.delete_key("alice", keys[0].id));
    CHECK_IN_CHILD(registry.delete_key("alice", keys[1].id));
    CHECK_IN_CHILD(upload(registry, "alice", keys[7]).is_complete());
    return 0;
  });
  if (status == kCannotMount) GTEST_SKIP() << "no right to mount a file system";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace torusml
