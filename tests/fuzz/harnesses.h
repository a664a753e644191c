// What is fuzzed: one harness for each reader of bytes from elsewhere. A new reader takes a line in
// harnesses.cc and seeds in seeds.cc.
//
// A harness reads the input. It may end with an Error of the codes that the reader's header names;
// whatever else it throws, and any other code, is a finding. Where the input is read, what it holds
// must survive writing and reading: the second writing gives the same bytes as the first.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace torusml::fuzz {

// Changes bytes at random, as long as `limit` allows: LLVMFuzzerMutate, or a test's own.
using Mutator = std::function<void(std::string& bytes, std::size_t limit)>;

struct Harness {
  const char* name;
  void (*run)(std::string_view input);
  // Mutates below the checks that stop every careless change: repairs hashes. Null: bytes at
  // random.
  void (*mutate)(std::string& input, std::size_t limit, unsigned seed, const Mutator& mutator);
};

const std::vector<Harness>& harnesses();
// Says what was found and ends the process.
[[noreturn]] void report(const std::string& finding);
// Of a container, below its hashes: a section, a property, the header's numbers, or its bytes.
void mutate_container(std::string& input, std::size_t limit, unsigned seed, const Mutator& mutator);
// Null if there is none of this name.
const Harness* find_harness(std::string_view name);

}  // namespace torusml::fuzz
