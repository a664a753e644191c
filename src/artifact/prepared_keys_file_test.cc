#include "artifact/prepared_keys_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <random>
#include <thread>

#include "base/file_mapping.h"
#include "base/memory.h"
#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "random/test_seed.h"
#include "tfhe/kernels.h"
#include "tfhe/result_packing.h"
#include "tfhe/secret_keys.h"
#include "tfhe/testing/on_target.h"
#include "tfhe/wide_lookup.h"
#include "torusml/error.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

// The header, as docs/formats.md describes it.
constexpr std::size_t kByteOrderAt = 8, kLayoutAt = 12, kTargetAt = 16, kParametersAt = 32,
                      kIdAt = 104, kPartsAt = 136, kPartBytes = 48, kSha256At = 280,
                      kHeaderBytes = 312;

// Tiny and insecure, almost without noise.
TfheParameters plain() {
  TfheParameters p;
  p.small_dimension = {12};
  p.glwe_dimension = {1};
  p.polynomial_size = {256};
  p.bootstrap = {14, 2};
  p.keyswitch = {4, 6};
  p.small_variance = {0x1p-58};
  p.glwe_variance = {0x1p-110};
  return p;
}

TfheParameters two_bits_a_step() {
  TfheParameters p = plain();
  p.grouping_factor = 2;
  return p;
}

TfheParameters narrow() {
  TfheParameters p = two_bits_a_step();
  p.accumulator_bits = 32;
  p.bootstrap = {10, 2};
  return p;
}

TfheParameters two_masks() {
  TfheParameters p = plain();
  p.glwe_dimension = {2};
  return p;
}

TfheParameters with_trace() {
  TfheParameters p = two_bits_a_step();
  p.bootstrap = {10, 4};
  p.glwe_variance = {0x1p-120};
  p.circuit_bootstrap = {6, 3};
  p.trace = {8, 5};
  return p;
}

// A trace without circuit bootstrapping.
TfheParameters for_packing() {
  TfheParameters p = with_trace();
  p.circuit_bootstrap = {};
  return p;
}

struct Keys {
  explicit Keys(const TfheParameters& parameters, std::uint64_t seed = 1)
      : random(TestSeed::make(seed)),
        secret(SecretKeys::generate(parameters, random)),
        seeded(make_evaluation_keys(secret, random)) {}

  SecretGenerator random;
  SecretKeys secret;
  SeededEvaluationKeys seeded;
};

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "torusml_prepared_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::size_t entries(const std::string& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

unsigned mode_of(const std::string& path) {
  struct stat status;
  EXPECT_EQ(stat(path.c_str(), &status), 0);
  return status.st_mode & 0777;
}

void expect_same_parts(const EvaluationKeys& a, const EvaluationKeys& b) {
  const PreparedParts left = a.parts(), right = b.parts();
  for (std::size_t i = 0; i < left.size(); ++i)
    EXPECT_TRUE(std::ranges::equal(left[i], right[i])) << "part " << i;
}

LweBatch bootstrap(const EvaluationKeys& keys, const LweBatch& inputs) {
  std::vector<Torus> table(keys.parameters().polynomial_size.value);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = (2 * (i / 16) + 1) << 58;
  LweBatch outputs(inputs.dimension, inputs.count);
  bootstrap_batch(keys, inputs, std::vector<const Torus*>(inputs.count, table.data()), 0, outputs);
  return outputs;
}

LweBatch wide_lookup(const EvaluationKeys& keys, const LweBatch& inputs) {
  const WideShape shape{.index_bits = 9, .bits_per_rotation = 2, .digit_bits = 3, .digit_count = 3};
  std::vector<std::uint64_t> entries(std::size_t{1} << shape.index_bits);
  for (std::size_t i = 0; i < entries.size(); ++i) entries[i] = (5 * i + 3) % entries.size();
  std::vector<std::vector<Torus>> words(shape.digit_count, std::vector<Torus>(8));
  for (std::size_t s = 0; s < words.size(); ++s) {
    for (std::size_t d = 0; d < 8; ++d) words[s][d] = Torus{d} << (54 + 3 * s);
  }
  const WideTable table(keys.parameters().polynomial_size, shape, entries, words);
  LweBatch outputs(inputs.dimension, inputs.count);
  wide_lookup_batch(keys, inputs, std::vector<const WideTable*>(inputs.count, &table), outputs);
  return outputs;
}

class EverySet : public testing::TestWithParam<TfheParameters> {};

TEST_P(EverySet, MappedKeysComputeTheSameBits) {
  Keys keys(GetParam());
  const Folder folder;
  const EvaluationKeys prepared = EvaluationKeys::prepare(keys.seeded);
  const PreparedKeysFile file(keys.seeded);
  file.save(prepared, folder.file("keys"));
  const EvaluationKeys mapped = file.map(folder.file("keys"));
  EXPECT_EQ(mapped.parameters(), prepared.parameters());
  EXPECT_EQ(mapped.bytes(), prepared.bytes());
  expect_same_parts(mapped, prepared);
  for (const auto& part : mapped.parts())
    EXPECT_EQ(reinterpret_cast<std::size_t>(part.data()) % kHugePageBytes, 0u);

  std::vector<Torus> phases;
  for (Torus b = 0; b < 5; ++b) phases.push_back((2 * b + 1) << 59);
  const LweBatch inputs = expand(encrypt(keys.secret, phases, keys.random));
  EXPECT_TRUE(
      std::ranges::equal(bootstrap(mapped, inputs).words, bootstrap(prepared, inputs).words));
  if (GetParam().has_trace()) {
    EXPECT_TRUE(std::ranges::equal(pack_results(mapped, inputs, 64).words,
                                   pack_results(prepared, inputs, 64).words));
  }
  if (!GetParam().has_circuit_bootstrap()) return;
  EXPECT_TRUE(
      std::ranges::equal(wide_lookup(mapped, inputs).words, wide_lookup(prepared, inputs).words));
}

INSTANTIATE_TEST_SUITE_P(Sets, EverySet,
                         testing::Values(plain(), two_bits_a_step(), narrow(), two_masks(),
                                         with_trace(), for_packing()));

class PreparedKeys : public testing::Test {
 protected:
  PreparedKeys() {
    file_.save(EvaluationKeys::prepare(keys_.seeded), path_);
    bytes_ = file_bytes(path_);
  }

  // The file with some bytes changed, and the header's hash made to fit if `sealed`.
  ErrorCode code_with(std::size_t at, const std::string& bytes, bool sealed = true) {
    std::string header = bytes_.substr(0, kHeaderBytes);
    if (at < kHeaderBytes) header.replace(at, bytes.size(), bytes);
    if (sealed) {
      const Digest digest =
          sha256({reinterpret_cast<const std::uint8_t*>(header.data()), kSha256At});
      std::memcpy(header.data() + kSha256At, digest.data(), digest.size());
    }
    patch(0, header);
    if (at >= kHeaderBytes) patch(at, bytes);
    const ErrorCode code = code_of_mapping();
    patch(0, bytes_.substr(0, kHeaderBytes));
    patch(at, bytes_.substr(at, bytes.size()));
    return code;
  }

  void patch(std::size_t at, const std::string& bytes) {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file << bytes;
  }

  ErrorCode code_of(const std::string& bytes) {
    write_file(path_, bytes);
    return code_of_mapping();
  }

  ErrorCode code_of_mapping() {
    try {
      file_.map(path_);
    } catch (const Error& error) {
      EXPECT_NE(error.where().find(path_), std::string::npos);
      return error.code();
    }
    return ErrorCode{0};  // none
  }

  std::string other_byte(std::size_t at) const { return {static_cast<char>(bytes_[at] ^ 0x10)}; }

  const Keys keys_{with_trace()};
  const Folder folder_;
  const PreparedKeysFile file_{keys_.seeded};
  const std::string path_ = folder_.file("keys");
  std::string bytes_;
};

TEST_F(PreparedKeys, TheFileIsAsTheFormatSays) {
  EXPECT_EQ(mode_of(path_), 0600u);
  EXPECT_EQ(bytes_.substr(0, 8), "\x89TPK\r\n\x1a\n");
  const auto number = [&](std::size_t at) {
    std::uint64_t value;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  };
  EXPECT_EQ(bytes_.substr(kTargetAt).c_str(), std::string(current_kernels().target));
  std::uint64_t offset = kHugePageBytes;
  const PartSizes sizes = EvaluationKeys::part_sizes(keys_.seeded);
  for (std::size_t part = 0; part < 3; ++part) {
    EXPECT_EQ(number(kPartsAt + part * kPartBytes), offset);
    EXPECT_EQ(number(kPartsAt + part * kPartBytes + 8), sizes[part]);
    EXPECT_GT(sizes[part], 0u);
    offset += (sizes[part] + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  }
  EXPECT_EQ(bytes_.size(), offset);
  // What lies between takes no room, where the file system can leave holes.
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_LE(static_cast<std::size_t>(status.st_blocks) * 512, bytes_.size());
}

TEST_F(PreparedKeys, EveryFieldOfTheHeaderCounts) {
  const std::vector<std::pair<std::size_t, ErrorCode>> fields{
      {0, ErrorCode::file_foreign},
      {7, ErrorCode::file_foreign},
      {kByteOrderAt, ErrorCode::file_version},
      {kLayoutAt, ErrorCode::file_version},
      {kTargetAt, ErrorCode::file_version},
      {kTargetAt + 15, ErrorCode::file_version},
      {kIdAt, ErrorCode::wrong_key},
      {kIdAt + 31, ErrorCode::wrong_key}};
  for (const auto& [at, code] : fields) EXPECT_EQ(code_with(at, other_byte(at)), code) << at;
  for (std::size_t at = kParametersAt; at < kIdAt; ++at)
    EXPECT_EQ(code_with(at, other_byte(at)), ErrorCode::wrong_key) << at;
  for (std::size_t at = kPartsAt; at < kSha256At; ++at)
    EXPECT_EQ(code_with(at, other_byte(at)), ErrorCode::file_corrupt) << at;
  for (std::size_t at = 0; at < kHeaderBytes; ++at) {
    const ErrorCode code = code_with(at, other_byte(at), false);
    const ErrorCode expected = at < 8           ? ErrorCode::file_foreign
                               : at < kTargetAt ? ErrorCode::file_version
                                                : ErrorCode::file_corrupt;
    EXPECT_EQ(code, expected) << at;
  }
  EXPECT_EQ(code_of(bytes_), ErrorCode{0});
}

TEST_F(PreparedKeys, EveryBitOfThePartsCounts) {
  std::mt19937_64 random(1);
  std::uint64_t offset = kHugePageBytes;
  for (const std::size_t size : EvaluationKeys::part_sizes(keys_.seeded)) {
    for (const std::size_t at : {std::size_t{0}, size - 1, random() % size, random() % size}) {
      EXPECT_EQ(code_with(offset + at, other_byte(offset + at)), ErrorCode::file_corrupt) << at;
    }
    offset += (size + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  }
}

TEST_F(PreparedKeys, CutAndExtendedFiles) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kHeaderBytes - 1, kHeaderBytes,
                                 kHugePageBytes, kHugePageBytes + 5, bytes_.size() - 1}) {
    EXPECT_EQ(code_of(bytes_.substr(0, size)), ErrorCode::file_truncated) << size;
  }
  EXPECT_EQ(code_of(bytes_ + '\0'), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of(std::string(bytes_.size(), 'x')), ErrorCode::file_foreign);
}

TEST_F(PreparedKeys, OtherKeysAreRefused) {
  Keys others(with_trace(), 2);
  const PreparedKeysFile other(others.seeded);
  EXPECT_NE(other.name(), file_.name());
  const std::string text = error_text(ErrorCode::wrong_key, [&] { other.map(path_); });
  EXPECT_NE(text.find("it was made of the keys "), std::string::npos) << text;
  // One bit anywhere in the keys gives another file.
  const auto name_with = [&](const std::function<void(SeededEvaluationKeys&)>& change) {
    SeededEvaluationKeys changed = keys_.seeded;
    change(changed);
    return PreparedKeysFile(changed).name();
  };
  const std::vector<std::function<void(SeededEvaluationKeys&)>> changes{
      [](auto& k) { k.seed[15] ^= 1; }, [](auto& k) { k.bootstrap_bodies.back() ^= 1; },
      [](auto& k) { k.keyswitch_bodies.front() ^= 1; }, [](auto& k) { k.trace_bodies.back() ^= 1; },
      [](auto& k) { k.parameters.small_variance.value *= 2; }};
  for (const auto& change : changes) EXPECT_NE(name_with(change), file_.name());
  EXPECT_EQ(name_with([](auto&) {}), file_.name());
}

TEST_F(PreparedKeys, AnotherInstructionSetHasAnotherFile) {
  const std::string name = file_.name(), best = current_kernels().target;
  for (const std::string& other : target_names()) {
    OnTarget target;
    if (other == best || !target.use(other)) continue;
    EXPECT_NE(PreparedKeysFile(keys_.seeded).name(), name);
    error_text(ErrorCode::file_version, [&] { file_.map(path_); });
  }
}

// A program whose preparation changed, while its layout number did not.
TEST_F(PreparedKeys, NumbersThatThisProgramWouldNotMakeAreRefused) {
  const Keys others(with_trace(), 2);
  file_.save(EvaluationKeys::prepare(others.seeded), path_);
  const std::string text = error_text(ErrorCode::file_version, [&] { file_.map(path_); });
  EXPECT_NE(text.find("other numbers"), std::string::npos) << text;
}

TEST_F(PreparedKeys, PlacesThatCannotBeUsed) {
  const EvaluationKeys prepared = EvaluationKeys::prepare(keys_.seeded);
  error_text(ErrorCode::file_unwritable, [&] { file_.save(prepared, folder_.file("no/keys")); });
  error_text(ErrorCode::file_unwritable, [&] { file_.save(prepared, folder_.path()); });
  error_text(ErrorCode::file_unreadable, [&] { file_.map(folder_.file("none")); });
  error_text(ErrorCode::file_unreadable, [&] { file_.map(folder_.path()); });
  error_text(ErrorCode::file_unreadable, [&] { file_.map("/dev/zero"); });
}

TEST_F(PreparedKeys, KeysOfTheWrongSizeAreRefused) {
  SeededEvaluationKeys wrong = keys_.seeded;
  wrong.trace_bodies.pop_back();
  error_text(ErrorCode::wrong_key, [&] { PreparedKeysFile{wrong}; });
  error_text(ErrorCode::wrong_key, [&] { load_prepared_keys(wrong, folder_.path()); });
}

// Files of a folder.

TEST_F(PreparedKeys, TheSecondStartMaps) {
  const std::string folder = folder_.file("folder");
  const LoadedKeys first = load_prepared_keys(keys_.seeded, folder);
  EXPECT_TRUE(first.is_mapped);
  EXPECT_EQ(first.warning, "");
  EXPECT_EQ(mode_of(folder), 0700u);
  ASSERT_EQ(entries(folder), 1u);
  const std::string path = folder + "/" + file_.name();
  EXPECT_EQ(mode_of(path), 0600u);
  const auto written = fs::last_write_time(path);
  const LoadedKeys second = load_prepared_keys(keys_.seeded, folder);
  EXPECT_TRUE(second.is_mapped);
  EXPECT_EQ(second.warning, "");
  EXPECT_EQ(fs::last_write_time(path), written);
  expect_same_parts(first.keys, second.keys);
  // The name may go while keys are in use.
  fs::remove(path);
  expect_same_parts(first.keys, EvaluationKeys::prepare(keys_.seeded));
  // Keys of several sets lie side by side.
  const Keys others(plain());
  load_prepared_keys(others.seeded, folder);
  load_prepared_keys(keys_.seeded, folder);
  EXPECT_EQ(entries(folder), 2u);
}

TEST_F(PreparedKeys, WithoutAFolderNothingIsWritten) {
  const LoadedKeys loaded = load_prepared_keys(keys_.seeded, "");
  EXPECT_FALSE(loaded.is_mapped);
  EXPECT_EQ(loaded.warning, "");
  TfheParameters none = plain();
  none.bootstrap = none.keyswitch = {};
  const Keys empty(none);
  const LoadedKeys nothing = load_prepared_keys(empty.seeded, folder_.file("folder"));
  EXPECT_FALSE(nothing.is_mapped);
  EXPECT_EQ(nothing.warning, "");
  EXPECT_FALSE(fs::exists(folder_.file("folder")));
}

TEST_F(PreparedKeys, AWrongFileIsMadeAnew) {
  const std::string path = folder_.file(file_.name());
  std::string flipped = bytes_;
  flipped[kHugePageBytes + 100] ^= 1;
  for (const std::string& content :
       {std::string(), std::string("text"), bytes_.substr(0, 4 << 20), flipped}) {
    write_file(path, content);
    const LoadedKeys loaded = load_prepared_keys(keys_.seeded, folder_.path());
    EXPECT_TRUE(loaded.is_mapped);
    EXPECT_TRUE(loaded.warning.starts_with("prepared keys were made anew: TML-E01"))
        << loaded.warning;
    EXPECT_EQ(load_prepared_keys(keys_.seeded, folder_.path()).warning, "");
  }
  EXPECT_EQ(entries(folder_.path()), 2u);  // path_, and this one
}

void expect_own_copy(const LoadedKeys& loaded, const SeededEvaluationKeys& seeded,
                     const std::string& what) {
  EXPECT_FALSE(loaded.is_mapped);
  EXPECT_TRUE(loaded.warning.starts_with("prepared keys are not shared: TML-E0")) << loaded.warning;
  EXPECT_NE(loaded.warning.find(what), std::string::npos) << loaded.warning;
  expect_same_parts(loaded.keys, EvaluationKeys::prepare(seeded));
}

TEST_F(PreparedKeys, AFolderThatCannotBeUsedIsAWarning) {
  expect_own_copy(load_prepared_keys(keys_.seeded, folder_.file("no/folder")), keys_.seeded,
                  "No such file or directory (folder '" + folder_.file("no/folder") + "')");
  expect_own_copy(load_prepared_keys(keys_.seeded, path_), keys_.seeded, "Not a directory");
}

// As a user whom permissions bind.
class Unprivileged {
 public:
  Unprivileged() {
    if (geteuid() == 0) is_changed_ = seteuid(kNobody) == 0;
  }
  ~Unprivileged() {
    if (is_changed_ && seteuid(0) != 0) std::abort();
  }
  static constexpr uid_t kNobody = 65534;

 private:
  bool is_changed_ = false;
};

TEST_F(PreparedKeys, AFolderThatIsReadOnly) {
  const std::string folder = folder_.file("folder"), path = folder + "/" + file_.name();
  fs::create_directory(folder);
  if (geteuid() == 0) {
    fs::permissions(folder_.path(), fs::perms{0755});
    ASSERT_EQ(chown(folder.c_str(), Unprivileged::kNobody, 0), 0);
  }
  fs::permissions(folder, fs::perms{0500});
  {
    const Unprivileged user;
    expect_own_copy(load_prepared_keys(keys_.seeded, folder), keys_.seeded, "Permission denied");
  }
  fs::permissions(folder, fs::perms{0700});
  {
    const Unprivileged user;
    EXPECT_TRUE(load_prepared_keys(keys_.seeded, folder).is_mapped);
    fs::permissions(folder, fs::perms{0500});
    EXPECT_TRUE(load_prepared_keys(keys_.seeded, folder).is_mapped);
    // A file of somebody else.
    fs::permissions(path, fs::perms{0});
    expect_own_copy(load_prepared_keys(keys_.seeded, folder), keys_.seeded, "Permission denied");
  }
  fs::permissions(folder, fs::perms{0700});
}

TEST_F(PreparedKeys, AFullDisk) {
  const std::string folder = folder_.file("folder");
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{3 << 19, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const LoadedKeys loaded = load_prepared_keys(keys_.seeded, folder);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  expect_own_copy(loaded, keys_.seeded, "cannot write");
  EXPECT_EQ(entries(folder), 0u);
}

TEST_F(PreparedKeys, ManyStartsAtOnce) {
  const std::string folder = folder_.file("folder");
  std::vector<std::optional<LoadedKeys>> loaded(6);
  std::vector<std::thread> starts;
  for (auto& keys : loaded)
    starts.emplace_back([&] { keys.emplace(load_prepared_keys(keys_.seeded, folder)); });
  for (std::thread& start : starts) start.join();
  const EvaluationKeys prepared = EvaluationKeys::prepare(keys_.seeded);
  for (const auto& keys : loaded) {
    EXPECT_TRUE(keys->is_mapped);
    EXPECT_EQ(keys->warning, "");
    expect_same_parts(keys->keys, prepared);
  }
  EXPECT_EQ(entries(folder), 1u);
}

// Proportional and resident size of the mapping that begins at this address, in bytes.
struct Sizes {
  std::size_t proportional = 0, resident = 0;
};

Sizes mapping_sizes(const void* address) {
  std::ifstream pages("/proc/self/smaps");
  Sizes sizes;
  bool is_inside = false;
  for (std::string line; std::getline(pages, line);) {
    std::size_t first = 0, last = 0, kilobytes = 0;
    if (std::sscanf(line.c_str(), "%zx-%zx ", &first, &last) == 2)
      is_inside = first == reinterpret_cast<std::size_t>(address);
    if (is_inside && std::sscanf(line.c_str(), "Pss: %zu", &kilobytes) == 1)
      sizes.proportional = kilobytes * 1024;
    if (is_inside && std::sscanf(line.c_str(), "Rss: %zu", &kilobytes) == 1)
      sizes.resident = kilobytes * 1024;
  }
  return sizes;
}

// Another process maps the file and reads all of it; each then has half of what there is once.
TEST_F(PreparedKeys, ProcessesShareOneCopy) {
  int ready[2], done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t child = fork();  // before this process maps anything
  if (child == 0) {
    char go = 0;
    if (read(done[0], &go, 1) != 1) _exit(1);
    const FileMapping mapping(path_);
    std::size_t sum = 0;
    for (const std::uint8_t byte : mapping.bytes()) sum += byte;
    if (sum == 0 || write(ready[1], "x", 1) != 1) _exit(1);
    if (read(done[0], &go, 1) != 1) _exit(1);
    _exit(0);
  }
  const EvaluationKeys keys = file_.map(path_);
  const std::uint8_t* begin = keys.parts()[0].data() - kHugePageBytes;
  const Sizes alone = mapping_sizes(begin);
  EXPECT_GE(alone.resident, keys.bytes());
  EXPECT_GT(alone.proportional, alone.resident * 9 / 10);
  ASSERT_EQ(write(done[1], "x", 1), 1);
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  const Sizes shared = mapping_sizes(begin);
  EXPECT_GE(shared.resident, alone.resident);
  EXPECT_LT(shared.proportional, shared.resident * 6 / 10);
  ASSERT_EQ(write(done[1], "x", 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  for (const int end : {ready[0], ready[1], done[0], done[1]}) close(end);
}

}  // namespace
}  // namespace torusml
