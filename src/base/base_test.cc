#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/file_mapping.h"
#include "base/human.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/testing/released_secrets.h"
#include "base/threads.h"
#include "torusml/error.h"
#include "torusml/tensor.h"

namespace torusml {
namespace {

TEST(Error, TextHasCodePlaceAndHint) {
  const Error error(ErrorCode::accumulator_too_wide, "needs 19 bits", "layer 'fc2'", "fewer bits");
  EXPECT_STREQ(error.what(),
               "TML-E017 accumulator-too-wide: needs 19 bits (layer 'fc2'). Try: fewer bits");
}

TEST(Tensor, ElementCountIsCheckedForOverflow) {
  EXPECT_EQ(number_of_elements({}), 1);
  EXPECT_EQ(number_of_elements({2, 0, 3}), 0);
  EXPECT_THROW(number_of_elements({-1}), Error);
  EXPECT_THROW(number_of_elements({std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
}

TEST(Memory, BuffersAreAlignedAndZero) {
  for (std::size_t size : {std::size_t{1}, std::size_t{100}, std::size_t{3} << 20}) {
    const AlignedBuffer<std::uint8_t> buffer(size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
    EXPECT_TRUE(std::ranges::all_of(buffer, [](std::uint8_t byte) { return byte == 0; }));
    const AlignedBuffer<std::uint8_t> copy = buffer;
    EXPECT_EQ(copy.size(), size);
  }
}

TEST(Memory, SecretsAreWipedBeforeTheyAreFreed) {
  const ReleasedSecrets released;
  {
    SecretBuffer<std::uint64_t> secret(1000);
    std::ranges::fill(std::span<std::uint64_t>(secret), 0x0123456789abcdef);
    SecretBuffer<std::uint64_t> moved = std::move(secret);
    EXPECT_EQ(moved[999], 0x0123456789abcdefu);
  }
  EXPECT_EQ(released.blocks(), 1u);
  EXPECT_EQ(released.not_zero(), 0u);
}

TEST(Threads, EveryIndexRunsOnceAndExceptionsComeBack) {
  std::vector<std::atomic<int>> hits(1000);
  with_threads(2, [&] { parallel_for(hits.size(), [&](std::size_t i) { ++hits[i]; }); });
  EXPECT_TRUE(std::ranges::all_of(hits, [](const std::atomic<int>& h) { return h == 1; }));
  EXPECT_THROW(
      parallel_for(10, [](std::size_t) { throw Error(ErrorCode::internal, "from a thread"); }),
      Error);
}

TEST(Threads, AreBoundedPerCall) {
  const int all = threads_used(0);
  with_threads(1, [&] {
    EXPECT_EQ(threads_used(0), 1);
    EXPECT_EQ(threads_used(5), 1);  // nesting widens nothing
    with_threads(0, [&] { EXPECT_EQ(threads_used(0), 1); });
    std::atomic<int> others = 0;
    const auto here = std::this_thread::get_id();
    parallel_for(1000, [&](std::size_t) { others += std::this_thread::get_id() != here; });
    EXPECT_EQ(others, 0);
  });
  EXPECT_EQ(threads_used(0), all);
  EXPECT_EQ(threads_used(1000000), all);
  try {
    with_threads(-1, [] { FAIL(); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(error.where(), "threads");
  }
}

TEST(Numbers, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.00 kB");
  EXPECT_EQ(human_bytes(54'321'000), "54.3 MB");
  EXPECT_EQ(human_bytes(999'999), "1.00 MB");
  EXPECT_EQ(human_bytes(2'300'000'000), "2.30 GB");
}

TEST(Memory, AllocatedBytesAreRounded) {
  EXPECT_EQ(allocated_bytes(0), 0u);
  EXPECT_EQ(allocated_bytes(1), 64u);
  EXPECT_EQ(allocated_bytes(64), 64u);
  EXPECT_EQ(allocated_bytes((std::size_t{2} << 20) + 1), std::size_t{4} << 20);
}

TEST(Progress, CountsToTheTotal) {
  std::vector<std::size_t> seen;
  ProgressCounter counter(
      [&](std::size_t done, std::size_t total) {
        EXPECT_EQ(total, 100u);
        seen.push_back(done);
      },
      100);
  parallel_for(100, [&](std::size_t) { counter.advance(); });
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_EQ(seen.back(), 100u);
}

class FileMappings : public testing::Test {
 protected:
  ~FileMappings() override { std::filesystem::remove(path_); }

  void refused(const std::string& path, const std::string& what) {
    try {
      FileMapping{path};
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::file_unreadable);
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  }

  const std::string path_ =
      (std::filesystem::temp_directory_path() / ("torusml_mapping_" + std::to_string(getpid())))
          .string();
};

TEST_F(FileMappings, ShowTheFile) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, 2 * kHugePageBytes + 5}) {
    std::string content(size, 'a');
    content.back() = 'z';
    std::ofstream(path_, std::ios::binary) << content;
    FileMapping mapping(path_);
    const auto bytes = mapping.bytes();
    EXPECT_EQ(reinterpret_cast<std::size_t>(bytes.data()) % kHugePageBytes, 0u);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), content.begin(), content.end()));
    // A moved mapping stays where it is; the name of the file may go.
    std::filesystem::remove(path_);
    FileMapping moved = std::move(mapping);
    EXPECT_TRUE(mapping.bytes().empty());
    EXPECT_EQ(moved.bytes().data(), bytes.data());
    EXPECT_EQ(moved.bytes().back(), 'z');
    moved = FileMapping();
    EXPECT_TRUE(moved.bytes().empty());
  }
}

TEST_F(FileMappings, OfNothing) {
  std::ofstream(path_) << "";
  EXPECT_TRUE(FileMapping(path_).bytes().empty());
  std::filesystem::remove(path_);
  refused(path_, "No such file or directory (file '" + path_ + "')");
  refused("/dev/zero", "not a regular file");
  refused(std::filesystem::temp_directory_path().string(), "not a regular file");
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  refused(path_, "not a regular file");
}

}  // namespace
}  // namespace torusml
