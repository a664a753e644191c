// A SecretGenerator with a given seed, for reproducible tests. Target torusml_random_test_seed,
// which only tests link: whoever knows the seed knows the secrets.
//
//   SecretGenerator random = TestSeed::make(7);
#pragma once

#include <cstdint>

#include "random/generator.h"

namespace torusml {

struct TestSeed {
  static SecretGenerator make(std::uint64_t seed);
};

}  // namespace torusml
