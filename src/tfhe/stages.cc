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
  const std::size_t n = keys.small(), rest = keys.big() - n;
  const std::size_t rows = rest * keys.parameters.keyswitch.level_count;
  AlignedBuffer<std::int32_t> digits(rows * count);
  for (std::size_t c = 0; c < count; ++c) {
    const auto row = inputs.row(first + c);
    std::uint32_t* out = small + c * keys.keyswitch_pitch;
    const std::int64_t error =
        keyswitch_digits(row.subspan(n, rest), keys.parameters.keyswitch, digits.data() + c * rows);
    // The beginning of the mask stands under the small key already.
    for (std::size_t i = 0; i < n; ++i) out[i] = round_to_32(row[i]);
    out[n] = round_to_32(row[keys.big()] + static_cast<Torus>(error >> 1));
    std::fill(out + n + 1, out + keys.keyswitch_pitch, 0u);
  }
  current_kernels().subtract_products(digits.data(), rows, count, keys.keyswitch.data(),
                                      keys.keyswitch_pitch, small);
}

void switch_row(const std::uint32_t* small, std::size_t n, std::uint64_t modulus,
                std::uint32_t* switched, std::uint32_t grain_log2) {
  modulus >>= grain_log2;
  const int shift = 64 - std::countr_zero(modulus);
  std::uint64_t error = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Torus word = std::uint64_t{small[i]} << 32;
    const std::uint64_t rounded = switch_modulus(word, modulus);
    error += (rounded << shift) - word;
    switched[i] = static_cast<std::uint32_t>(rounded << grain_log2);
  }
  const auto mean = static_cast<Torus>(static_cast<std::int64_t>(error) >> 1);
  const std::uint64_t body = switch_modulus((std::uint64_t{small[n]} << 32) + mean, modulus);
  switched[n] = static_cast<std::uint32_t>(body << grain_log2);
}

void extract_mask(std::span<const Torus> polynomial, std::size_t coefficient, Torus* mask) {
  const std::size_t size = polynomial.size();
  for (std::size_t j = 0; j <= coefficient; ++j) mask[j] = polynomial[coefficient - j];
  for (std::size_t j = coefficient + 1; j < size; ++j) {
    mask[j] = 0 - polynomial[size + coefficient - j];
  }
}

BlindRotation::BlindRotation(const EvaluationKeys::State& keys, std::uint32_t extension_log2,
                             std::size_t capacity)
    : keys_(keys),
      kernels_(current_kernels()),
      plan_(fft_plan(keys.parameters.polynomial_size)),
      extension_log2_(extension_log2),
      shards_(std::size_t{1} << extension_log2),
      word_bytes_(keys.parameters.accumulator_bits / 8),
      words_(capacity * shards_ * keys.polynomials() * keys.size() * word_bytes_),
      item_doubles_(shards_ * keys.step.rows * keys.step.row_pitch),
      rows_(capacity * item_doubles_) {
  StepShape widest = keys.step;
  widest.shards_log2 = extension_log2;
  scratch_ = AlignedBuffer<double>(widest.scratch_doubles(plan_.points));
}

void BlindRotation::run(std::span<const std::uint32_t* const> rows,
                        std::span<const Torus* const> tables, std::uint32_t tables_log2) {
  rotate(rows, tables, tables_log2, false);
}

void BlindRotation::run(const std::uint32_t* switched, std::span<const Torus* const> tables,
                        bool whole) {
  std::vector<const std::uint32_t*> rows(tables.size());
  for (std::size_t c = 0; c < rows.size(); ++c) rows[c] = switched + c * (keys_.small() + 1);
  rotate(rows, tables, 0, whole);
}

void BlindRotation::rotate(std::span<const std::uint32_t* const> rows,
                           std::span<const Torus* const> tables, std::uint32_t tables_log2,
                           bool whole) {
  for (std::size_t c = 0; c < rows.size(); ++c)
    load_tables(tables.data() + (c << tables_log2), tables_log2, rows[c][keys_.small()], c);
  const auto sweeps = static_cast<std::uint32_t>(whole ? 0 : extension_log2_);
  for (std::uint32_t skip_log2 = 0; skip_log2 <= sweeps; ++skip_log2)
    sweep(rows, skip_log2, skip_log2 == sweeps);
}

// The trivial ciphertext of X^-body times the tables side by side.
void BlindRotation::load_tables(const Torus* const* tables, std::uint32_t tables_log2,
                                std::uint32_t body, std::size_t c) {
  const std::size_t period = shards_ * keys_.size(), masks = keys_.polynomials() - 1;
  const std::size_t table_mask = (std::size_t{1} << tables_log2) - 1;
  const auto entry = [&](std::size_t position) {
    const Torus* table = tables[position & table_mask];
    return table == nullptr ? Torus{0} : table[position >> tables_log2];
  };
  for (std::size_t shard = 0; shard < shards_; ++shard) {
    std::fill_n(words(c, shard, 0), masks * keys_.size() * word_bytes_, std::uint8_t{0});
    auto* narrow = reinterpret_cast<std::uint32_t*>(words(c, shard, masks));
    auto* wide = reinterpret_cast<Torus*>(words(c, shard, masks));
    for (std::size_t j = 0; j < keys_.size(); ++j) {
      const std::size_t index = ((j << extension_log2_) + shard + body) & (2 * period - 1);
      const Torus word = index < period ? entry(index) : 0 - entry(index - period);
      if (word_bytes_ == sizeof(Torus)) {
        wide[j] = word;
      } else {
        narrow[j] = round_to_32(word);
      }
    }
  }
}

// All steps whose exponents are multiples of 2^skip_log2 but not of twice that; in the last sweep
// all that are multiples.
void BlindRotation::sweep(std::span<const std::uint32_t* const> rows, std::uint32_t skip_log2,
                          bool last) {
  const std::size_t group = keys_.parameters.grouping_factor;
  const std::uint64_t turn = std::uint64_t{2} * keys_.size() << extension_log2_;
  for (std::size_t index = 0; index < keys_.steps(); ++index) {
    parts_.clear();
    for (std::size_t c = 0; c < rows.size(); ++c) {
      const std::uint32_t* masks = rows[c] + index * group;
      const std::uint32_t a = masks[0], b = group == 2 ? masks[1] : 0;
      if ((a | b) == 0) continue;
      const auto zeros = static_cast<std::uint32_t>(std::countr_zero(a | b));
      if (skip_log2 != 0 && zeros < skip_log2) continue;
      if (!last && zeros != skip_log2) continue;
      Part part{c, {.rows = rows_.data() + c * item_doubles_}};
      part.item.exponents[0] = a >> skip_log2;
      part.item.exponents[1] = b >> skip_log2;
      part.item.exponents[2] =
          static_cast<std::uint32_t>((std::uint64_t{a} + b) & (turn - 1)) >> skip_log2;
      parts_.push_back(part);
    }
    if (!parts_.empty()) step(index, skip_log2);
  }
}

void BlindRotation::step(std::size_t index, std::uint32_t skip_log2) {
  const std::size_t active = shards_ >> skip_log2, pitch = keys_.step.row_pitch;
  const std::uint32_t bits = keys_.parameters.accumulator_bits;
  StepShape shape = keys_.step;
  shape.shards_log2 = static_cast<std::uint32_t>(extension_log2_) - skip_log2;
  shape.shard_pitch = shape.rows * pitch;
  items_.clear();
  for (const Part& part : parts_) {
    items_.push_back(part.item);
    for (std::size_t shard = 0; shard < active; ++shard) {
      for (std::size_t p = 0; p < shape.columns; ++p) {
        kernels_.split_digits(
            plan_, keys_.parameters.bootstrap, bits, words(part.ciphertext, shard << skip_log2, p),
            part.item.rows + shard * shape.shard_pitch + p * pitch, shape.columns * pitch);
      }
    }
  }
  kernels_.multiply_step(plan_, shape, keys_.matrix(index), items_, scratch_.data());
  for (const Part& part : parts_) {
    for (std::size_t shard = 0; shard < active; ++shard) {
      for (std::size_t p = 0; p < shape.columns; ++p) {
        kernels_.join_add(plan_, bits, part.item.rows + shard * shape.shard_pitch + p * pitch,
                          words(part.ciphertext, shard << skip_log2, p));
      }
    }
  }
}

std::vector<Torus> BlindRotation::accumulator(std::size_t c, std::size_t shard,
                                              std::size_t polynomial) const {
  const std::uint8_t* bytes = words(c, shard, polynomial);
  std::vector<Torus> result(keys_.size());
  for (std::size_t j = 0; j < result.size(); ++j) {
    result[j] = word_bytes_ == sizeof(Torus)
                    ? reinterpret_cast<const Torus*>(bytes)[j]
                    : Torus{reinterpret_cast<const std::uint32_t*>(bytes)[j]} << 32;
  }
  return result;
}

void BlindRotation::extract(std::size_t c, std::span<Torus> row, std::size_t coefficient) const {
  const std::size_t size = keys_.size(), masks = keys_.polynomials() - 1;
  for (std::size_t p = 0; p < masks; ++p) {
    extract_mask(accumulator(c, 0, p), coefficient, row.data() + p * size);
  }
  row[masks * size] = accumulator(c, 0, masks)[coefficient];
}

}  // namespace torusml
