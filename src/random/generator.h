// Random numbers from AES-128 in counter mode.
//
// Two generators that must never be confused:
//   PublicGenerator  expands a public seed to masks; deterministic, the seed travels with the
//                    ciphertext.
//   SecretGenerator  keys and noise; seeded by the operating system, reseeds in a forked child,
//                    its state is wiped. Only tests may give it a seed (TestSeed::make of
//                    random/test_seed.h, which no shipped target links).
//
//   SecretGenerator random;
//   random.fill_binary(key);
//   random.fill_gaussian(noise, 0x1p-50);
//   PublicGenerator masks(random.make_public_seed());
//   masks.fill(words);
//
// Thread rule: one generator per thread (SecretGenerator::split makes more of them).
// Cost: about 1 ns for a word, some 10 ns for a Gaussian sample.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

namespace torusml {

class PublicGenerator {
 public:
  explicit PublicGenerator(const std::array<std::uint8_t, 16>& seed);
  ~PublicGenerator();
  PublicGenerator(PublicGenerator&&) noexcept;
  PublicGenerator& operator=(PublicGenerator&&) noexcept;

  void fill(std::span<std::uint64_t> words);
  void fill(std::span<std::uint32_t> words);
  // Moves to byte position `bytes` of the stream: lets threads expand parts of it.
  void seek(std::uint64_t bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class SecretGenerator {
 public:
  SecretGenerator();  // seeded by the operating system
  ~SecretGenerator();
  SecretGenerator(SecretGenerator&&) noexcept;
  SecretGenerator& operator=(SecretGenerator&&) noexcept;

  void fill(std::span<std::uint64_t> words);
  // 0 or 1, uniformly, one per word.
  void fill_binary(std::span<std::uint64_t> bits);
  // Rounded centred Gaussian torus words, standard deviation sigma * 2^64; branch-free in the
  // samples. Error invalid_argument unless 0 <= sigma <= 2^-5.
  void fill_gaussian(std::span<std::uint64_t> words, double sigma);
  // A fresh public seed.
  std::array<std::uint8_t, 16> make_public_seed();
  // An independent generator, seeded by this one, for another thread.
  SecretGenerator split();

 private:
  friend struct TestSeed;
  struct State;
  explicit SecretGenerator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace torusml
