#include "tfhe/stages.h"

#include <algorithm>
#include <bit>

namespace torusml {
namespace {

// Digits of one ciphertext's mask, row after row of the keyswitch key; returns the sum of the
// rounding errors (rounded minus exact).
//
// A digit in [-B/2, B/2 - 1] has a mean of -1/2, which times the key's fixed errors would be an
// offset that all ciphertexts under one key share. So a word is negated before the cut, and its
// digits after it, when one of its dropped bits, which is as good as random, says so.
std::int64_t keyswitch_digits(std::span<const Torus> mask, const Gadget& gadget,
                              std::int32_t* digits) {
  const int base_log2 = static_cast<int>(gadget.base_log2);
  const int levels = static_cast<int>(gadget.level_count);
  const int dropped = 64 - base_log2 * levels;
  const std::uint64_t half_unit = std::uint64_t{1} << (dropped - 1);
  const std::uint64_t digit_mask = (std::uint64_t{1} << base_log2) - 1;
  std::uint64_t offset = half_unit;  // rounding, and B/2 for each digit
  for (int level = 1; level <= levels; ++level) {
    offset += std::uint64_t{1} << (63 - base_log2 * (level - 1));
  }
  const auto half_base = static_cast<std::int32_t>(std::uint32_t{1} << (base_log2 - 1));
  std::uint64_t error = 0;
  for (const Torus input : mask) {
    const std::uint64_t flip = 0 - (input >> (dropped - 2) & 1);  // all ones: negate
    const Torus word = (input ^ flip) - flip;
    const std::uint64_t shifted = word + offset;
    const std::uint64_t rounding = half_unit - ((word + half_unit) & ((half_unit << 1) - 1));
    error += (rounding ^ flip) - flip;
    const auto sign = static_cast<std::int32_t>(flip | 1);
    for (int level = 1; level <= levels; ++level) {
      const std::uint64_t field = shifted >> (64 - base_log2 * level) & digit_mask;
      *digits++ = sign * (static_cast<std::int32_t>(field) - half_base);
    }
  }
  return static_cast<std::int64_t>(error);
}

std::uint32_t round_to_32(Torus word) {
  return static_cast<std::uint32_t>((word + (std::uint64_t{1} << 31)) >> 32);
}

}  // namespace

std::uint64_t switch_modulus(Torus word, std::uint64_t modulus) {
  const int bits = std::countr_zero(modulus);
  if (bits == 0) return 0;
  return ((word >> (63 - bits)) + 1) >> 1 & (modulus - 1);
}

void keyswitch_block(const EvaluationKeys::State& keys, const LweBatch& inputs, std::size_t first,
                     std::size_t count, std::uint32_t* small) {
  const std::size_t rows = keys.big() * keys.parameters.keyswitch.level_count;
  AlignedBuffer<std::int32_t> digits(rows * count);
  std::fill_n(small, count * keys.keyswitch_pitch, 0u);
  for (std::size_t c = 0; c < count; ++c) {
    const auto row = inputs.row(first + c);
    const std::int64_t error = keyswitch_digits(row.first(keys.big()), keys.parameters.keyswitch,
                                                digits.data() + c * rows);
    small[c * keys.keyswitch_pitch + keys.small()] =
        round_to_32(row[keys.big()] + static_cast<Torus>(error >> 1));
  }
  current_kernels().subtract_products(digits.data(), rows, count, keys.keyswitch.data(),
                                      keys.keyswitch_pitch, small);
}

void switch_row(const std::uint32_t* small, std::size_t n, std::uint64_t modulus,
                std::uint32_t* switched) {
  const int shift = 64 - std::countr_zero(modulus);
  std::uint64_t error = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Torus word = std::uint64_t{small[i]} << 32;
    const std::uint64_t rounded = switch_modulus(word, modulus);
    error += (rounded << shift) - word;
    switched[i] = static_cast<std::uint32_t>(rounded);
  }
  const auto mean = static_cast<Torus>(static_cast<std::int64_t>(error) >> 1);
  switched[n] =
      static_cast<std::uint32_t>(switch_modulus((std::uint64_t{small[n]} << 32) + mean, modulus));
}

BlindRotation::BlindRotation(const EvaluationKeys::State& keys, std::uint32_t extension_log2,
                             std::size_t capacity)
    : keys_(keys),
      kernels_(current_kernels()),
      plan_(fft_plan(keys.parameters.polynomial_size)),
      extension_log2_(extension_log2),
      shards_(std::size_t{1} << extension_log2),
      words_((capacity + (shards_ == 1 ? 0 : 1)) * shards_ * keys.polynomials() * keys.size()),
      accumulators_(capacity),
      spare_(nullptr),
      digits_(keys.size() * keys.parameters.bootstrap.level_count),
      transformed_(keys.product.rows * keys.size()),
      products_(keys.product.columns * keys.size()),
      work_(keys.size()) {
  const std::size_t stride = shards_ * keys.polynomials() * keys.size();
  for (std::size_t c = 0; c < capacity; ++c) accumulators_[c] = words_.data() + c * stride;
  if (shards_ != 1) spare_ = words_.data() + capacity * stride;
}

void BlindRotation::run(const std::uint32_t* switched, std::span<const Torus* const> tables) {
  const std::size_t n = keys_.small();
  for (std::size_t c = 0; c < tables.size(); ++c) {
    load_table(tables[c], switched[c * (n + 1) + n], c);
  }
  for (std::size_t bit = 0; bit < n; ++bit) {
    for (std::size_t c = 0; c < tables.size(); ++c) {
      const std::uint32_t shift = switched[c * (n + 1) + bit];
      if (shift != 0) step(c, bit, shift);
    }
  }
}

// The trivial ciphertext of X^-body * table.
void BlindRotation::load_table(const Torus* table, std::uint32_t body, std::size_t c) {
  const std::size_t period = shards_ * keys_.size();
  for (std::size_t shard = 0; shard < shards_; ++shard) {
    Torus* polynomials = accumulators_[c] + shard * keys_.polynomials() * keys_.size();
    Torus* words = std::fill_n(polynomials, (keys_.polynomials() - 1) * keys_.size(), 0);
    for (std::size_t j = 0; j < keys_.size(); ++j) {
      const std::size_t index = ((j << extension_log2_) + shard + body) & (2 * period - 1);
      words[j] = index < period ? table[index] : 0 - table[index - period];
    }
  }
}

// Accumulator += matrix of this bit times (X^shift - 1) * accumulator. With Y = X^(2^h) and
// shift = 2^h * turns + r, shard j takes shard j - r times Y^turns, or, where j < r, the shard 2^h
// further times Y^(turns + 1).
void BlindRotation::step(std::size_t c, std::size_t bit, std::uint32_t shift) {
  const std::size_t size = keys_.size(), count = keys_.polynomials();
  const std::size_t levels = keys_.parameters.bootstrap.level_count;
  const std::size_t r = shift & (shards_ - 1), turns = shift >> extension_log2_;
  Torus* old_shards = accumulators_[c];
  Torus* new_shards = spare_ == nullptr ? old_shards : spare_;
  for (std::size_t shard = 0; shard < shards_; ++shard) {
    const bool wraps = shard < r;
    const Torus* source = old_shards + (shard + (wraps ? shards_ : 0) - r) * count * size;
    const std::size_t rotation = (turns + (wraps ? 1 : 0)) & (2 * size - 1);
    const Torus* old_shard = old_shards + shard * count * size;
    for (std::size_t p = 0; p < count; ++p) {
      kernels_.rotated_digits(size, keys_.parameters.bootstrap, source + p * size, rotation,
                              old_shard + p * size, digits_.data());
      for (std::size_t level = 0; level < levels; ++level) {
        kernels_.forward(plan_, digits_.data() + level * size,
                         transformed_.data() + (level * count + p) * size);
      }
    }
    kernels_.multiply(keys_.product, transformed_.data(), keys_.matrix(bit), products_.data());
    for (std::size_t p = 0; p < count; ++p) {
      kernels_.inverse_add(plan_, products_.data() + p * size, work_.data(), old_shard + p * size,
                           new_shards + (shard * count + p) * size);
    }
  }
  if (spare_ != nullptr) std::swap(accumulators_[c], spare_);
}

void BlindRotation::extract(std::size_t c, std::span<Torus> row) const {
  const std::size_t size = keys_.size(), masks = keys_.polynomials() - 1;
  for (std::size_t p = 0; p < masks; ++p) {
    const auto mask = accumulator(c, 0, p);
    row[p * size] = mask[0];
    for (std::size_t j = 1; j < size; ++j) row[p * size + j] = 0 - mask[size - j];
  }
  row[masks * size] = accumulator(c, 0, masks)[0];
}

}  // namespace torusml
