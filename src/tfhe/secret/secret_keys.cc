#include "tfhe/secret_keys.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "tfhe/validate.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Key bits are 0 or 1, so that a product needs no branch on them.
Torus dot(std::span<const Torus> mask, const SecretBuffer<std::uint64_t>& key) {
  Torus sum = 0;
  for (std::size_t j = 0; j < key.size(); ++j) sum += mask[j] * key[j];
  return sum;
}

void check_key(const SecretKeys& keys) {
  check_parameters(keys.parameters);
  const std::size_t big = keys.parameters.big_dimension().value;
  if (keys.big.size() != big) {
    throw Error(
        ErrorCode::wrong_key,
        fmt::format("the secret key has {} bits, its parameters ask for {}", keys.big.size(), big),
        "secret key");
  }
}

// Of LWE ciphertexts and packed ones.
void check_dimension(const SecretKeys& keys, LweDimension dimension) {
  if (dimension == keys.parameters.big_dimension()) return;
  throw Error(ErrorCode::wrong_key,
              fmt::format("ciphertexts of dimension {} under a key of dimension {}",
                          dimension.value, keys.parameters.big_dimension().value),
              "decrypt");
}

// Coefficient j of mask times key modulo X^N + 1.
Torus coefficient(std::span<const Torus> mask, const SecretBuffer<std::uint64_t>& key,
                  std::size_t j) {
  const std::size_t size = mask.size();
  Torus sum = 0;
  for (std::size_t i = 0; i <= j; ++i) sum += mask[i] * key[j - i];
  for (std::size_t i = j + 1; i < size; ++i) sum -= mask[i] * key[size + j - i];
  return sum;
}

}  // namespace

SecretKeys SecretKeys::generate(const TfheParameters& parameters, SecretGenerator& random) {
  check_parameters(parameters);
  SecretKeys keys;
  keys.parameters = parameters;
  keys.big = SecretBuffer<std::uint64_t>(parameters.big_dimension().value);
  random.fill_binary(keys.big);
  return keys;
}

SeededLweBatch encrypt(const SecretKeys& keys, std::span<const Torus> phases,
                       SecretGenerator& random) {
  check_key(keys);
  SeededLweBatch batch;
  batch.dimension = keys.parameters.big_dimension();
  batch.seed = random.make_public_seed();
  batch.bodies.resize(phases.size());
  SecretBuffer<Torus> noise(phases.size());
  random.fill_gaussian(noise, std::sqrt(keys.parameters.glwe_variance.value));
  PublicGenerator masks(batch.seed);
  AlignedBuffer<Torus> mask(batch.dimension.value);
  for (std::size_t i = 0; i < phases.size(); ++i) {
    masks.fill(mask);
    batch.bodies[i] = dot(mask, keys.big) + phases[i] + noise[i];
  }
  return batch;
}

SecretBuffer<Torus> decrypt(const SecretKeys& keys, const LweBatch& ciphertexts) {
  check_key(keys);
  check_dimension(keys, ciphertexts.dimension);
  SecretBuffer<Torus> phases(ciphertexts.count);
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const auto row = ciphertexts.row(i);
    phases[i] = row[keys.big.size()] - dot(row, keys.big);
  }
  return phases;
}

SecretBuffer<Torus> decrypt(const SecretKeys& keys, const PackedResults& results) {
  check_key(keys);
  check_dimension(keys, results.dimension);
  if (!std::has_single_bit(results.dimension.value)) {
    throw Error(ErrorCode::wrong_key,
                fmt::format("packed results under a key of dimension {}, which is no power of two",
                            results.dimension.value),
                "decrypt");
  }
  SecretBuffer<Torus> phases(results.count);
  std::size_t done = 0;
  for (std::size_t c = 0; c < results.ciphertexts(); ++c) {
    const std::span<const Torus> mask = results.mask(c), bodies = results.bodies(c);
    for (std::size_t i = 0; i < bodies.size(); ++i)
      phases[done++] = bodies[i] - coefficient(mask, keys.big, i * results.stride_of(c));
  }
  return phases;
}

}  // namespace torusml
