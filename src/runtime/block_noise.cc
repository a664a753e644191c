#include "runtime/block_noise.h"

#include <algorithm>
#include <cmath>

#include "random/gaussian.h"

namespace torusml {
namespace {

constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15;

// uniform_to_gaussian takes a sigma of 2^-5 turns at most; a wider one is that of words which are
// shifted up by so many bits, modulo a turn.
int spare_bits(double sigma) {
  int exponent = 0;
  std::frexp(sigma, &exponent);  // sigma < 2^exponent
  return std::clamp(exponent + 5, 0, 63);
}

}  // namespace

BlockNoise::BlockNoise(std::uint64_t seed, std::size_t first_sample, std::size_t lanes)
    : samples_(lanes), streams_(lanes) {
  for (std::size_t b = 0; b < lanes; ++b)
    samples_[b] = mix_words(seed + kGamma * (first_sample + b + 1));
}

void BlockNoise::start(std::size_t node) {
  for (std::size_t b = 0; b < samples_.size(); ++b)
    streams_[b] = mix_words(samples_[b] ^ mix_words(kGamma * (node + 1)));
}

void BlockNoise::draw(std::uint64_t* words) {
  for (std::size_t b = 0; b < streams_.size(); ++b) words[b] = mix_words(streams_[b] += kGamma);
}

void BlockNoise::fill(std::span<Torus> words, double sigma) {
  if (sigma == 0) {
    std::ranges::fill(words, Torus{0});
    return;
  }
  const std::size_t lanes = streams_.size();
  const std::size_t pair_rows = (words.size() / lanes + 1) / 2;
  const std::size_t pairs = pair_rows * lanes;
  uniform_.resize(2 * pairs);
  gaussian_.resize(2 * pairs);
  for (std::size_t row = 0; row < 2 * pair_rows; ++row) draw(uniform_.data() + row * lanes);
  const int shift = spare_bits(sigma);
  uniform_to_gaussian(uniform_.data(), pairs, std::ldexp(sigma, 64 - shift), gaussian_.data());
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = gaussian_[i] << shift;
}

void BlockNoise::fill_uniform(std::span<Torus> words) {
  for (std::size_t i = 0; i < words.size(); i += streams_.size()) draw(words.data() + i);
}

}  // namespace torusml
