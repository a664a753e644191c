#include "random/test_seed.h"

#include <cstring>

#include "random/secret_state.h"

namespace torusml {

SecretGenerator TestSeed::make(std::uint64_t seed) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &seed, sizeof(seed));
  using State = SecretGenerator::State;
  return SecretGenerator(std::make_unique<State>(bytes, State::Origin::test));
}

}  // namespace torusml
