// libFuzzer's entry points; TORUSML_FUZZ_HARNESS names the harness. ./dev fuzz runs it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "harnesses.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t limit);

namespace {

const torusml::fuzz::Harness& chosen() {
  static const torusml::fuzz::Harness* const harness = [] {
    const char* name = std::getenv("TORUSML_FUZZ_HARNESS");
    const torusml::fuzz::Harness* found = torusml::fuzz::find_harness(name ? name : "");
    if (found != nullptr) return found;
    std::fprintf(stderr, "TORUSML_FUZZ_HARNESS must be one of:\n");
    for (const auto& known : torusml::fuzz::harnesses()) std::fprintf(stderr, "%s\n", known.name);
    std::exit(2);
  }();
  return *harness;
}

void mutate_bytes(std::string& bytes, std::size_t limit) {
  const std::size_t size = bytes.size() < limit ? bytes.size() : limit;
  bytes.resize(limit);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, limit));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  chosen().run({reinterpret_cast<const char*>(data), size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t limit, unsigned seed) {
  if (chosen().mutate == nullptr) return LLVMFuzzerMutate(data, size, limit);
  std::string input(reinterpret_cast<const char*>(data), size);
  chosen().mutate(input, limit, seed, mutate_bytes);
  if (input.size() > limit) input.resize(limit);
  std::memcpy(data, input.data(), input.size());
  return input.size();
}
