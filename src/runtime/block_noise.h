// Gaussian torus words for a block of samples of the simulator. Speed and repeatability matter
// here, secrecy does not.
//
//   BlockNoise noise(seed, first_sample, lanes);   // lane b is sample first_sample + b
//   noise.start(node);
//   noise.fill(words, sigma);                      // rows x lanes, row by row
//
// A lane's words depend on (seed, sample, node) and on what was filled since start(), not on the
// block around it: word c of a stream is a mix of its key and c (SplitMix64 as a counter). Pairs of
// words become pairs of Gaussians by Box-Muller with 64 bits of radius, so that the tail is right
// to 9.4 sigma (2^-65) and empty beyond (random/gaussian.h). The last bits of a word may differ
// between instruction sets.
// Thread rule: one object per thread. Cost: about 3 ns a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tfhe/types.h"

namespace torusml {

// The finaliser of SplitMix64.
inline std::uint64_t mix_words(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

class BlockNoise {
 public:
  // Lanes come in multiples of this.
  static constexpr std::size_t kLaneStep = 16;

  BlockNoise(std::uint64_t seed, std::size_t first_sample, std::size_t lanes);

  void start(std::size_t node);
  // words: rows x lanes. sigma in turns, 0 for none (which costs the stream nothing).
  void fill(std::span<Torus> words, double sigma);
  void fill_uniform(std::span<Torus> words);

 private:
  // The next word of every lane.
  void draw(std::uint64_t* words);

  std::vector<std::uint64_t> samples_;  // by lane, a mix of seed and sample
  std::vector<std::uint64_t> streams_;  // by lane, what the next word is a mix of
  std::vector<std::uint64_t> uniform_, gaussian_;
};

}  // namespace torusml
