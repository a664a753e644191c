// The corpora through their harnesses, and some mutations of each, without libFuzzer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/testing/file_bytes.h"
#include "harnesses.h"

namespace torusml::fuzz {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpora = TORUSML_SOURCE_DIR "/tests/fuzz/corpus";

std::vector<std::pair<std::string, std::string>> corpus(const std::string& harness) {
  std::vector<std::pair<std::string, std::string>> inputs;
  for (const auto& entry : fs::directory_iterator(kCorpora / harness)) {
    inputs.emplace_back(entry.path().filename().string(), file_bytes(entry.path()));
  }
  std::ranges::sort(inputs);  // mutations are the same everywhere
  return inputs;
}

class Corpus : public ::testing::TestWithParam<Harness> {};

// A finding ends the process; the name of the input stands before it.
TEST_P(Corpus, IsReadWithoutFindings) {
  const auto inputs = corpus(GetParam().name);
  EXPECT_FALSE(inputs.empty());
  for (const auto& [name, input] : inputs) {
    SCOPED_TRACE(name);
    EXPECT_NO_THROW(GetParam().run(input)) << name;
  }
}

TEST_P(Corpus, MutationsAreReadWithoutFindings) {
  // TORUSML_FUZZ_MUTATIONS asks for more of each input.
  const char* asked = std::getenv("TORUSML_FUZZ_MUTATIONS");
  const int mutations = asked == nullptr ? 20 : std::atoi(asked);
  std::mt19937_64 random(7);
  const Mutator few_bytes = [&](std::string& bytes, std::size_t) {
    static constexpr unsigned char kValues[] = {0, 1, 0x7f, 0x80, 0xff, '0', '9', '-', '{', '['};
    for (int i = 0; i < 3 && !bytes.empty(); ++i) {
      bytes[random() % bytes.size()] =
          static_cast<char>(random() % 2 == 0 ? random() : kValues[random() % std::size(kValues)]);
    }
  };
  for (const auto& [name, input] : corpus(GetParam().name)) {
    for (int i = 0; i < mutations; ++i) {
      std::string changed = input;
      if (GetParam().mutate == nullptr)
        few_bytes(changed, input.size());
      else
        GetParam().mutate(changed, 2 * input.size() + 4096, static_cast<unsigned>(random()),
                          few_bytes);
      EXPECT_NO_THROW(GetParam().run(changed)) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Corpus, ::testing::ValuesIn(harnesses()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace torusml::fuzz
