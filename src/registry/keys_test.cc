// Uploads, uses, quotas and ages of keys.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "registry/testing/temporary_registry.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

class Keys : public ::testing::Test {
 protected:
  void open(const RegistryLimits& limits = {}) {
    registry_.reset();
    registry_.emplace(folder_ / "data", limits, true, clock_.clock());
  }
  std::string path_of(const std::string& name) const { return folder_ / ("data/keys/" + name); }
  bool is_used(const std::string& tenant, const TestKey& key) {
    return file_bytes(registry_->use_key(tenant, key.id).path()) == key.bytes;
  }

  TemporaryFolder folder_;
  TestClock clock_;
  std::optional<Registry> registry_;
};

TEST_F(Keys, AreUploadedAndUsed) {
  open();
  const TestKey key = make_key(1);
  const KeyRecord record = upload(*registry_, "alice", key);
  EXPECT_TRUE(record.is_complete());
  EXPECT_EQ(record.id, key.id);
  EXPECT_EQ(record.bytes, key.bytes.size());
  EXPECT_EQ(record.created, clock_.now());
  clock_.add(5);
  EXPECT_TRUE(is_used("alice", key));
  EXPECT_EQ(registry_->key("alice", key.id)->last_used, clock_.now());
  ASSERT_EQ(registry_->keys("alice").size(), 1u);
  open();
  EXPECT_TRUE(is_used("alice", key));
  EXPECT_TRUE(registry_->delete_key("alice", key.id));
  EXPECT_FALSE(registry_->delete_key("alice", key.id));
  EXPECT_EQ(registry_->key("alice", key.id), std::nullopt);
  EXPECT_EQ(code_of([&] { registry_->use_key("alice", key.id); }), ErrorCode::not_found);
  EXPECT_TRUE(files_below(folder_ / "data/keys").empty());
}

TEST_F(Keys, AreForTheirOwnerAlone) {
  open();
  const TestKey whole = make_key(1), part = make_key(2);
  upload(*registry_, "alice", whole);
  upload(*registry_, "alice", part, 0, 100);
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "data")) {
    struct stat status;
    ASSERT_EQ(stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, entry.is_directory() ? 0700u : 0600u) << entry.path();
  }
}

TEST_F(Keys, AreUploadedInParts) {
  open();
  const TestKey key = make_key(1, 300'000);
  EXPECT_EQ(upload(*registry_, "alice", key, 0, 1000).received, 1000u);
  EXPECT_EQ(upload(*registry_, "alice", key, 1000, 70'000).received, 70'000u);
  EXPECT_EQ(code_of([&] { registry_->use_key("alice", key.id); }), ErrorCode::not_found);
  for (const std::uint64_t offset : {0, 69'999, 70'001}) {
    EXPECT_EQ(code_of([&] { registry_->open_upload("alice", key.id, key.bytes.size(), offset); }),
              ErrorCode::request_invalid);
  }
  EXPECT_EQ(code_of([&] { registry_->open_upload("alice", key.id, 99'999, 70'000); }),
            ErrorCode::request_invalid);
  open();  // now the hash of the first bytes is computed anew
  EXPECT_EQ(registry_->key("alice", key.id)->received, 70'000u);
  EXPECT_TRUE(upload(*registry_, "alice", key, 70'000).is_complete());
  EXPECT_TRUE(is_used("alice", key));
  EXPECT_EQ(files_below(folder_ / "data/keys"), std::set<std::string>{"alice/" + key.id});
  EXPECT_EQ(code_of([&] { upload(*registry_, "alice", key); }), ErrorCode::request_invalid);
}

TEST_F(Keys, AnUploadThatIsDestroyedKeepsItsBytes) {
  open();
  const TestKey key = make_key(1);
  {
    KeyUpload upload = registry_->open_upload("alice", key.id, key.bytes.size(), 0);
    upload.write(as_bytes(std::string_view(key.bytes).substr(0, 4321)));
    EXPECT_EQ(upload.received(), 4321u);
    EXPECT_EQ(code_of([&] { registry_->open_upload("alice", key.id, key.bytes.size(), 0); }),
              ErrorCode::request_invalid);
  }
  EXPECT_EQ(registry_->key("alice", key.id)->received, 4321u);
  EXPECT_TRUE(upload(*registry_, "alice", key, 4321).is_complete());
}

TEST_F(Keys, ARestartedUploadBeginsAnew) {
  open();
  const TestKey key = make_key(1);
  upload(*registry_, "alice", key, 0, 1000);
  // One that is refused leaves all as it was; another size is no reason.
  EXPECT_EQ(code_of([&] { registry_->open_upload("alice", key.id, key.bytes.size(), 1, true); }),
            ErrorCode::request_invalid);
  EXPECT_EQ(registry_->key("alice", key.id)->received, 1000u);
  registry_->open_upload("alice", key.id, 99, 0, true);
  EXPECT_EQ(registry_->key("alice", key.id)->received, 0u);
  EXPECT_EQ(registry_->key("alice", key.id)->bytes, 99u);
  KeyUpload upload = registry_->open_upload("alice", key.id, key.bytes.size(), 0, true);
  upload.write(as_bytes(key.bytes));
  EXPECT_TRUE(upload.finish().is_complete());
  EXPECT_TRUE(is_used("alice", key));
}

TEST_F(Keys, ARestartLeavesAnOpenUploadAndAWholeKeyAlone) {
  open();
  const TestKey key = make_key(1);
  const auto restart = [&] {
    return code_of([&] { registry_->open_upload("alice", key.id, key.bytes.size(), 0, true); });
  };
  upload(*registry_, "alice", key, 0, 1000);
  KeyUpload first = registry_->open_upload("alice", key.id, key.bytes.size(), 1000);
  first.write(as_bytes(std::string_view(key.bytes).substr(1000)));
  EXPECT_EQ(restart(), ErrorCode::request_invalid);
  EXPECT_EQ(registry_->key("alice", key.id)->received, 1000u);
  EXPECT_TRUE(first.finish().is_complete());
  EXPECT_EQ(restart(), ErrorCode::request_invalid);
  EXPECT_TRUE(is_used("alice", key));
}

TEST_F(Keys, BytesThatWereNotAcknowledgedAreDropped) {
  open();
  const TestKey key = make_key(1);
  upload(*registry_, "alice", key, 0, 1000);
  registry_.reset();
  std::ofstream(path_of("alice/" + key.id + ".part"), std::ios::app) << "more than the record says";
  open();
  EXPECT_TRUE(upload(*registry_, "alice", key, 1000).is_complete());
  EXPECT_TRUE(is_used("alice", key));
}

TEST_F(Keys, MoreThanWasAnnouncedIsRefused) {
  open();
  const TestKey key = make_key(1);
  KeyUpload upload = registry_->open_upload("alice", key.id, 1000, 0);
  EXPECT_EQ(code_of([&] { upload.write(as_bytes(key.bytes)); }), ErrorCode::request_invalid);
  upload.write(as_bytes(std::string_view(key.bytes).substr(0, 999)));
  EXPECT_EQ(upload.finish().received, 999u);
  EXPECT_EQ(code_of([&] { upload.finish(); }), ErrorCode::internal);
  EXPECT_EQ(code_of([&] { upload.write({}); }), ErrorCode::internal);
}

TEST_F(Keys, WrongContentIsRefusedAndForgotten) {
  open();
  TestKey changed = make_key(1), text{std::string(5000, 'x'), ""},
          model = make_key(2, 1000, FileKind::model), cut = make_key(3);
  changed.bytes[40'000] ^= 1;
  cut.bytes.resize(30'000);
  text.id = to_hex(sha256(as_bytes(text.bytes)));
  cut.id = to_hex(sha256(as_bytes(cut.bytes)));
  for (const TestKey& key : {changed, text, model, cut}) {
    EXPECT_EQ(code_of([&] { upload(*registry_, "alice", key); }), ErrorCode::request_invalid);
    EXPECT_EQ(registry_->key("alice", key.id), std::nullopt);
  }
  EXPECT_TRUE(files_below(folder_ / "data/keys").empty());
}

TEST_F(Keys, NamesThatLeadElsewhereAreRefused) {
  open();
  const std::string id(64, 'a');
  for (const char* tenant : {"", ".", "..", "../x", "a/b", ".hidden", "a b", "a\n", "\xc3\xa4"})
    EXPECT_EQ(code_of([&] { registry_->open_upload(tenant, id, 10, 0); }),
              ErrorCode::invalid_argument)
        << tenant;
  EXPECT_EQ(code_of([&] { registry_->open_upload(std::string(65, 'a'), id, 10, 0); }),
            ErrorCode::invalid_argument);
  const std::string upper(64, 'A'), path = "../" + std::string(61, 'a');
  for (const std::string& name : {std::string(), std::string(63, 'a'), upper, path, id + ".part"}) {
    EXPECT_EQ(code_of([&] { registry_->open_upload("alice", name, 10, 0); }),
              ErrorCode::request_invalid)
        << name;
    EXPECT_EQ(registry_->key("alice", name), std::nullopt);
    EXPECT_FALSE(registry_->delete_key("alice", name));
  }
  EXPECT_EQ(code_of([&] { registry_->open_upload("alice", id, 0, 0); }),
            ErrorCode::request_invalid);
}

TEST_F(Keys, LinksAreNotFollowed) {
  open();
  const TestKey key = make_key(1), other = make_key(2);
  upload(*registry_, "alice", key, 0, 1000);
  const std::string part = path_of("alice/" + key.id + ".part"), victim = folder_ / "victim";
  std::ofstream(victim) << std::string(2000, 'v');
  fs::remove(part);
  fs::create_symlink(victim, part);
  EXPECT_EQ(code_of([&] { upload(*registry_, "alice", key, 1000); }), ErrorCode::file_unreadable);
  fs::create_symlink(victim, path_of("alice/" + other.id + ".part"));
  EXPECT_EQ(code_of([&] { upload(*registry_, "alice", other); }), ErrorCode::file_unwritable);
  fs::create_directory(folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", path_of("bob"));
  EXPECT_EQ(code_of([&] { upload(*registry_, "bob", other); }), ErrorCode::file_unwritable);
  EXPECT_EQ(file_bytes(victim), std::string(2000, 'v'));
  EXPECT_TRUE(fs::is_empty(folder_ / "elsewhere"));
  open();
  EXPECT_TRUE(registry_->keys("alice").empty());
}

TEST_F(Keys, QuotasOfATenant) {
  const TestKey key = make_key(1, 10'000), second = make_key(2, 10'000),
                third = make_key(3, 10'000);
  const std::uint64_t bytes = key.bytes.size();
  open({.keys_per_tenant = 2});
  upload(*registry_, "alice", key);
  upload(*registry_, "alice", second, 0, 10);  // a part counts
  EXPECT_EQ(code_of([&] { upload(*registry_, "alice", third); }), ErrorCode::quota_exceeded);
  upload(*registry_, "bob", third);
  upload(*registry_, "alice", second, 10);
  open({.key_bytes_per_tenant = 3 * bytes - 1});
  EXPECT_EQ(code_of([&] { upload(*registry_, "alice", third); }), ErrorCode::quota_exceeded);
  open({.key_bytes_per_tenant = bytes});  // less than it has
  EXPECT_EQ(code_of([&] { upload(*registry_, "alice", third); }), ErrorCode::quota_exceeded);
  open({.key_bytes_per_tenant = 3 * bytes});
  upload(*registry_, "alice", third);
  open({.one_key_bytes = bytes - 1});
  EXPECT_EQ(code_of([&] { registry_->open_upload("carol", key.id, bytes, 0); }),
            ErrorCode::quota_exceeded);
  EXPECT_EQ(code_of([&] { registry_->open_upload("carol", key.id, ~std::uint64_t{0}, 0); }),
            ErrorCode::quota_exceeded);
  EXPECT_EQ(registry_->keys("alice").size(), 3u);
}

TEST_F(Keys, TheLeastRecentlyUsedMakeRoom) {
  std::vector<TestKey> keys;
  for (int i = 0; i < 6; ++i) keys.push_back(make_key(i, 10'000));
  const RegistryLimits limits{.key_bytes = 3 * keys[0].bytes.size() + 10};
  open(limits);
  for (int i = 0; i < 3; ++i) upload(*registry_, "alice", keys[i]);
  EXPECT_TRUE(is_used("alice", keys[0]));
  open(limits);  // the order lasts
  upload(*registry_, "bob", keys[3]);
  EXPECT_EQ(registry_->key("alice", keys[1].id), std::nullopt);
  EXPECT_FALSE(fs::exists(path_of("alice/" + keys[1].id)));
  {
    const KeyUse use = registry_->use_key("alice", keys[2].id);
    EXPECT_TRUE(is_used("alice", keys[0]));
    EXPECT_TRUE(is_used("bob", keys[3]));
    upload(*registry_, "bob", keys[4]);  // 2 is the oldest, but in use
    EXPECT_EQ(registry_->key("alice", keys[0].id), std::nullopt);
    EXPECT_EQ(file_bytes(use.path()), keys[2].bytes);
    const KeyUse other = registry_->use_key("bob", keys[3].id),
                 last = registry_->use_key("bob", keys[4].id);
    EXPECT_EQ(code_of([&] { upload(*registry_, "bob", keys[5]); }), ErrorCode::server_busy);
    EXPECT_EQ(registry_->key("bob", keys[5].id), std::nullopt);
  }
  upload(*registry_, "bob", keys[5]);
  open({.key_bytes = keys[0].bytes.size()});  // the operator has less room now
  registry_->clean_up();
  EXPECT_EQ(registry_->keys("alice").size() + registry_->keys("bob").size(), 1u);
  EXPECT_TRUE(is_used("bob", keys[5]));
}

TEST_F(Keys, OfUnfinishedJobsStay) {
  const TestKey key = make_key(1, 10'000), second = make_key(2, 10'000);
  open({.key_bytes = key.bytes.size(), .unused_key = Seconds(10)});
  upload(*registry_, "alice", key);
  const JobRecord job = registry_->add_job({.tenant = "alice", .key = key.id, .request = "x"});
  EXPECT_EQ(code_of([&] { upload(*registry_, "bob", second); }), ErrorCode::server_busy);
  clock_.add(100);
  registry_->clean_up();
  EXPECT_TRUE(is_used("alice", key));
  registry_->finish_job(job.id, "y");
  upload(*registry_, "bob", second);
  EXPECT_EQ(registry_->key("alice", key.id), std::nullopt);
}

TEST_F(Keys, InUseSurviveTheirDeletion) {
  open();
  const TestKey key = make_key(1);
  upload(*registry_, "alice", key);
  {
    std::optional<KeyUse> use = registry_->use_key("alice", key.id);
    EXPECT_TRUE(registry_->delete_key("alice", key.id));
    EXPECT_EQ(code_of([&] { registry_->use_key("alice", key.id); }), ErrorCode::not_found);
    EXPECT_EQ(file_bytes(use->path()), key.bytes);
    upload(*registry_, "alice", key, 0, 100);  // again, meanwhile
    EXPECT_EQ(file_bytes(use->path()), key.bytes);
    upload(*registry_, "alice", key, 100);
    use.reset();
    EXPECT_TRUE(is_used("alice", key));
    KeyUse last = registry_->use_key("alice", key.id);
    const KeyUse moved = std::move(last);
    registry_->delete_key("alice", key.id);
    EXPECT_EQ(file_bytes(moved.path()), key.bytes);
  }
  EXPECT_TRUE(files_below(folder_ / "data/keys").empty());
}

TEST_F(Keys, AnUploadOfADeletedKeyIsNotFound) {
  open();
  const TestKey key = make_key(1);
  for (const std::size_t sent : {std::size_t{100}, key.bytes.size()}) {
    KeyUpload open = registry_->open_upload("alice", key.id, key.bytes.size(), 0);
    open.write(as_bytes(std::string_view(key.bytes).substr(0, sent)));
    EXPECT_TRUE(registry_->delete_key("alice", key.id));
    EXPECT_EQ(code_of([&] { open.finish(); }), ErrorCode::not_found);
  }
  EXPECT_TRUE(registry_->keys("alice").empty());
  EXPECT_TRUE(files_below(folder_ / "data/keys").empty());
  EXPECT_TRUE(upload(*registry_, "alice", key).is_complete());
}

TEST_F(Keys, DamageIsFoundAtTheFirstUse) {
  open();
  const TestKey key = make_key(1), cut = make_key(2), gone = make_key(3);
  for (const TestKey& k : {key, cut, gone}) upload(*registry_, "alice", k);
  registry_.reset();
  {
    std::fstream file(path_of("alice/" + key.id), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(30'000);
    file.put(static_cast<char>(key.bytes[30'000] ^ 4));
  }
  fs::resize_file(path_of("alice/" + cut.id), 100);
  fs::remove(path_of("alice/" + gone.id));
  open();
  EXPECT_EQ(code_of([&] { registry_->use_key("alice", key.id); }), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of([&] { registry_->use_key("alice", key.id); }), ErrorCode::not_found);
  EXPECT_TRUE(registry_->keys("alice").empty());
  EXPECT_TRUE(files_below(folder_ / "data/keys").empty());
  EXPECT_TRUE(upload(*registry_, "alice", key).is_complete());
  EXPECT_TRUE(is_used("alice", key));
}

TEST_F(Keys, OrphansAreRemovedAtTheStart) {
  open();
  const TestKey key = make_key(1), part = make_key(2), orphan = make_key(3);
  upload(*registry_, "alice", key);
  upload(*registry_, "alice", part, 0, 10);
  registry_.reset();
  fs::create_directory(path_of("bob"));
  for (const std::string& name : {"alice/" + orphan.id, "alice/" + orphan.id + ".part",
                                  "bob/" + key.id, "alice/" + key.id + ".part"})
    std::ofstream(path_of(name)) << "x";
  std::ofstream(path_of("alice/README")) << "not ours";
  std::ofstream(path_of("file")) << "not ours";
  open();
  EXPECT_EQ(files_below(folder_ / "data/keys"),
            (std::set<std::string>{"alice/" + key.id, "alice/" + part.id + ".part", "alice/README",
                                   "file"}));
  EXPECT_FALSE(fs::exists(path_of("bob")));
}

TEST_F(Keys, AWholeFileCompletesItsRecordAtTheStart) {
  open();
  const TestKey key = make_key(1);
  upload(*registry_, "alice", key, 0, key.bytes.size() - 1);
  registry_.reset();  // as if the process had died between the file's name and the record
  fs::remove(path_of("alice/" + key.id + ".part"));
  std::ofstream(path_of("alice/" + key.id), std::ios::binary) << key.bytes;
  open();
  EXPECT_TRUE(registry_->key("alice", key.id)->is_complete());
  EXPECT_TRUE(is_used("alice", key));
}

TEST_F(Keys, OldOnesAreDeleted) {
  open({.unused_key = Seconds(1000), .idle_upload = Seconds(100)});
  const TestKey key = make_key(1), part = make_key(2), pinned = make_key(3), open_one = make_key(4);
  upload(*registry_, "alice", key);
  upload(*registry_, "alice", pinned);
  upload(*registry_, "alice", part, 0, 10);
  const KeyUse use = registry_->use_key("alice", pinned.id);
  KeyUpload held = registry_->open_upload("alice", open_one.id, open_one.bytes.size(), 0);
  clock_.add(100);
  registry_->clean_up();
  EXPECT_EQ(registry_->keys("alice").size(), 4u);
  clock_.add(1);
  registry_->clean_up();
  EXPECT_EQ(registry_->key("alice", part.id), std::nullopt);
  clock_.add(800);
  EXPECT_TRUE(is_used("alice", key));
  clock_.add(1000);
  registry_->clean_up();
  EXPECT_TRUE(registry_->key("alice", key.id));
  clock_.add(1);
  registry_->clean_up();
  EXPECT_EQ(registry_->keys("alice").size(), 2u);
  EXPECT_EQ(file_bytes(use.path()), pinned.bytes);
  held.write(as_bytes(open_one.bytes));
  EXPECT_TRUE(held.finish().is_complete());
}

TEST_F(Keys, AClockThatJumpsMakesNothingOld) {
  constexpr std::int64_t kYear = 366 * 24 * 3600, kDay = 24 * 3600;
  open();
  const TestKey key = make_key(1), part = make_key(2);
  upload(*registry_, "alice", key);
  upload(*registry_, "alice", part, 0, 10);
  for (const std::int64_t jump : {10 * kYear, -30 * kYear, 20 * kYear, -kDay}) {
    clock_.add(jump);
    registry_->clean_up();
    EXPECT_TRUE(registry_->key("alice", key.id)) << jump;
    EXPECT_TRUE(is_used("alice", key)) << jump;
    clock_.add(jump);
    open();
    registry_->clean_up();
    EXPECT_TRUE(registry_->key("alice", key.id)) << jump;
  }
  // After all that it still grows old, in time that is lived through.
  for (int hour = 0; hour < 30 * 24; ++hour) {
    clock_.add(3599);
    registry_->clean_up();
  }
  EXPECT_TRUE(registry_->key("alice", key.id));
  EXPECT_FALSE(registry_->key("alice", part.id));
  for (int hour = 0; hour < 2; ++hour) {
    clock_.add(3599);
    registry_->clean_up();
  }
  EXPECT_FALSE(registry_->key("alice", key.id));
}

TEST_F(Keys, PreparedFilesGoWithTheLastKey) {
  open();
  const TestKey key = make_key(1), other = make_key(2);
  for (const char* tenant : {"alice", "bob"}) upload(*registry_, tenant, key);
  const std::string mine = registry_->prepared_keys_folder() + "/" + key.id,
                    orphan = registry_->prepared_keys_folder() + "/" + other.id;
  for (const std::string& folder : {mine, orphan}) {
    fs::create_directory(folder);
    std::ofstream(folder + "/abc-avx3-1.prepared") << "x";
  }
  registry_->clean_up();
  EXPECT_FALSE(fs::exists(orphan));
  registry_->delete_key("alice", key.id);
  EXPECT_TRUE(fs::exists(mine));
  registry_->delete_key("bob", key.id);
  EXPECT_FALSE(fs::exists(mine));
}

TEST_F(Keys, ManyThreads) {
  std::vector<TestKey> keys;
  for (int i = 0; i < 8; ++i) keys.push_back(make_key(i, 20'000));
  open({.key_bytes = 5 * keys[0].bytes.size()});
  std::atomic<int> used = 0, uploaded = 0;
  std::atomic<bool> is_wrong = false;
  const auto work = [&](int thread) {
    const std::string tenant = thread % 2 == 0 ? "alice" : "bob";
    std::mt19937 random(thread);
    for (int round = 0; round < 40; ++round) {
      const TestKey& key = keys[random() % keys.size()];
      try {
        const std::optional<KeyRecord> known = registry_->key(tenant, key.id);
        if (!known || !known->is_complete()) {
          upload(*registry_, tenant, key, known ? known->received : 0,
                 random() % 3 == 0 ? 15'000 : std::string::npos);
          ++uploaded;
        }
        const KeyUse use = registry_->use_key(tenant, key.id);
        if (file_bytes(use.path()) != key.bytes) is_wrong = true;
        ++used;
        if (random() % 8 == 0) registry_->delete_key(tenant, key.id);
        if (random() % 8 == 0) registry_->clean_up();
      } catch (const Error& error) {
        const bool is_due = error.code() == ErrorCode::not_found ||
                            error.code() == ErrorCode::request_invalid ||
                            error.code() == ErrorCode::server_busy;
        if (!is_due) {
          ADD_FAILURE() << error.what();
          is_wrong = true;
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 6; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(is_wrong);
  EXPECT_GT(used, 20);
  EXPECT_GT(uploaded, 20);
  open();
  std::set<std::string> due;
  for (const char* tenant : {"alice", "bob"}) {
    for (const KeyRecord& key : registry_->keys(tenant))
      due.insert(std::string(tenant) + "/" + key.id + (key.is_complete() ? "" : ".part"));
  }
  EXPECT_EQ(files_below(folder_ / "data/keys"), due);
}

TEST_F(Keys, TheFirstUseIsCheckedOnceByManyThreads) {
  open();
  const TestKey key = make_key(1, 4'000'000);
  upload(*registry_, "alice", key);
  open();
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 6; ++i) threads.emplace_back([&] { good += is_used("alice", key); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 6);
}

}  // namespace
}  // namespace torusml
