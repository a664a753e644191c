#include "tfhe/wide_lookup.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/progress.h"
#include "tfhe/blocks.h"
#include "tfhe/circuit_bootstrap.h"
#include "tfhe/stages.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kColumns = 2;  // mask and body: k = 1

// The bits that one rotation reads: value bits first .. first + count - 1.
struct BitGroup {
  std::uint32_t first = 0, count = 0;
};

BitGroup bit_group(const WideShape& shape, std::uint32_t rotation) {
  const std::uint32_t first = rotation * shape.bits_per_rotation;
  return {first, std::min(shape.bits_per_rotation, shape.index_bits - first)};
}

// A rotation's functions change sign with the upper bit of its group. So what it tells of a lower
// bit is whether that differs from the upper one, and these differences address the table. Value
// to address:
std::uint32_t address(std::uint32_t value, const WideShape& shape) {
  std::uint32_t result = value;
  for (std::uint32_t r = 0; r < shape.rotations(); ++r) {
    const BitGroup group = bit_group(shape, r);
    const std::uint32_t lower = ((1u << (group.count - 1)) - 1) << group.first;
    if (value >> (group.first + group.count - 1) & 1) result ^= lower;
  }
  return result;
}

// Weight of the lowest value bit in torus words.
Torus unit(const WideShape& shape) { return Torus{1} << (63 - shape.index_bits); }

// What is taken from the input after a rotation: half the weight of the group's upper bit, with the
// sign that leaves the rest in the middle of the next group's boxes.
Torus taken_amplitude(const WideShape& shape, const BitGroup& group) {
  return unit(shape) << (group.first + group.count - 1) >> 1;
}

// The GLWE message of a bit at a level is q/B^level; the rotation gives plus or minus half of it.
Torus half_message(const TfheParameters& p, std::size_t level) {
  return Torus{1} << (63 - p.circuit_bootstrap.base_log2 * level);
}

// All tables of a rotation, entry u for phases [u, u + 1) * stride / (2 N): each bit at each level,
// then what is taken from the input.
std::vector<std::vector<Torus>> rotation_tables(const WideShape& shape, const BitGroup& group,
                                                const TfheParameters& p) {
  const std::size_t levels = p.circuit_bootstrap.level_count;
  const std::size_t entries = p.polynomial_size.value >> rotation_stride_log2(group.count, p);
  std::vector<std::vector<Torus>> tables;
  for (std::uint32_t t = 0; t < group.count; ++t) {
    for (std::size_t level = 1; level <= levels; ++level) {
      const Torus half = half_message(p, level);
      std::vector<Torus>& table = tables.emplace_back(entries);
      for (std::size_t u = 0; u < entries; ++u) {
        const std::size_t lower_bits = (u << (group.count - 1)) / entries;  // the upper bit is 0
        const bool is_set = t + 1 < group.count && (lower_bits >> t & 1) != 0;
        table[u] = is_set ? half : 0 - half;
      }
    }
  }
  tables.emplace_back(entries, 0 - taken_amplitude(shape, group));
  return tables;
}

// The middle of the box of digit value d in the half torus, half a table step before which its
// rounding to an index is a floor.
Torus digit_phase(std::uint64_t d, std::uint32_t digit_bits, std::size_t size) {
  return (Torus{2 * d + 1} << (62 - digit_bits)) - (Torus{1} << 62) / size;
}

// Half the torus must have an index for each value of the group's lower bits.
bool has_room(const WideShape& shape, const TfheParameters& p) {
  const std::uint32_t bits = shape.bits_per_rotation;
  return std::uint64_t{p.polynomial_size.value} >> rotation_stride_log2(bits, p) >=
         1u << (bits - 1);
}

// All that one thread needs for a block of ciphertexts with tables of one shape.
class WideBlock {
 public:
  WideBlock(const EvaluationKeys::State& keys, const WideShape& shape, std::size_t count)
      : keys_(keys),
        shape_(shape),
        count_(count),
        size_(keys.size()),
        levels_(keys.parameters.circuit_bootstrap.level_count),
        matrix_doubles_(ggsw_shape(keys.parameters).matrix_doubles(size_ / 2)),
        rest_(keys.parameters.big_dimension(), count),
        scaled_(keys.parameters.big_dimension(), count),
        small_(count * keys.keyswitch_pitch),
        switched_(count * (keys.small() + 1)),
        rotation_(keys, 0, count),
        bootstrap_(keys, shape.bits_per_rotation * levels_),
        glwes_(shape.bits_per_rotation * levels_ * kColumns * size_),
        matrices_(count * shape.index_bits * matrix_doubles_) {}

  // The GGSW ciphertexts of the bits of inputs first .. first + count - 1.
  void read_bits(const LweBatch& inputs, std::size_t first) {
    for (std::size_t c = 0; c < count_; ++c)
      std::ranges::copy(inputs.row(first + c), rest_.row(c).begin());
    for (std::uint32_t r = 0; r < shape_.rotations(); ++r) read_group(bit_group(shape_, r));
  }

  // Entries of a table of each of these values, to rows first .. first + count - 1.
  void look_up(std::span<const WideTable* const> tables, LweBatch& outputs, std::size_t first) {
    LweBatch digits(keys_.parameters.big_dimension(), count_ * shape_.digit_count);
    pick_entries(tables, digits);
    for (std::size_t c = 0; c < count_; ++c) std::ranges::fill(outputs.row(first + c), Torus{0});
    for (std::size_t d = 0; d < digits.count; d += count_)
      refresh(digits, d, tables, outputs, first);
  }

 private:
  // Keyswitch and rotation of ciphertexts first .. first + count_ - 1, which reads 2^tables_log2
  // tables of each.
  void rotate(const LweBatch& inputs, std::size_t first, std::uint32_t tables_log2,
              std::span<const Torus* const> tables) {
    const std::size_t n = keys_.small(), pitch = keys_.keyswitch_pitch;
    keyswitch_block(keys_, inputs, first, count_, small_.data());
    std::vector<const std::uint32_t*> rows(count_);
    for (std::size_t c = 0; c < count_; ++c) {
      std::uint32_t* row = switched_.data() + c * (n + 1);
      switch_row(small_.data() + c * pitch, n, 2 * size_, row, tables_log2);
      rows[c] = row;
    }
    rotation_.run(rows, tables, tables_log2);
  }

  // One rotation: GGSW ciphertexts of the group's bits; takes the upper bit from what is left of
  // the inputs.
  void read_group(const BitGroup& group) {
    const TfheParameters& p = keys_.parameters;
    const std::uint32_t stride_log2 = rotation_stride_log2(group.count, p);
    const std::uint32_t shift = shape_.index_bits + 1 - group.first - group.count;
    for (std::size_t c = 0; c < count_; ++c) {
      std::ranges::transform(rest_.row(c), scaled_.row(c).begin(),
                             [&](Torus word) { return word << shift; });
      scaled_.row(c).back() -= (Torus{1} << 62) / (size_ >> stride_log2);
    }
    const std::vector<std::vector<Torus>> tables = rotation_tables(shape_, group, p);
    std::vector<const Torus*> read(count_ << stride_log2, nullptr);
    for (std::size_t c = 0; c < count_; ++c) {
      std::ranges::transform(tables, read.begin() + static_cast<std::ptrdiff_t>(c << stride_log2),
                             [](const std::vector<Torus>& table) { return table.data(); });
    }
    rotate(scaled_, 0, stride_log2, read);
    const bool is_last = group.first + group.count == shape_.index_bits;
    for (std::size_t c = 0; c < count_; ++c) {
      make_matrices(c, group);
      if (is_last) continue;
      rotation_.extract(c, scaled_.row(c), group.count * levels_);
      const auto rest = rest_.row(c);
      std::ranges::transform(rest, scaled_.row(c), rest.begin(), std::minus<Torus>());
    }
  }

  void make_matrices(std::size_t c, const BitGroup& group) {
    const auto mask = rotation_.accumulator(c, 0, 0), body = rotation_.accumulator(c, 0, 1);
    const auto size_log2 = static_cast<std::uint32_t>(std::countr_zero(size_));
    const std::size_t count = group.count * levels_;
    for (std::size_t j = 0; j < count; ++j) {
      Torus* glwe = glwes_.data() + j * kColumns * size_;
      move_to_front(mask, j, 0, glwe);
      move_to_front(body, j, half_message(keys_.parameters, j % levels_ + 1), glwe + size_);
    }
    bootstrap_.trace(glwes_.data(), count);
    for (std::uint32_t t = 0; t < group.count; ++t) {
      const std::uint32_t bit = group.first + t;
      bootstrap_.make_ggsw(glwes_.data() + t * levels_ * kColumns * size_,
                           bit < size_log2 ? 1 : kHalfNegated, matrix(c, bit));
    }
  }

  // X^-j times a polynomial, plus a constant, divided by N: as the trace multiplies coefficient 0,
  // the only one that is left, by N, it does not matter which of the N quotients on the torus.
  void move_to_front(std::span<const Torus> polynomial, std::size_t j, Torus constant,
                     Torus* out) const {
    const int size_log2 = std::countr_zero(size_);
    const auto word = [&](std::size_t i) {
      return i + j < size_ ? polynomial[i + j] : 0 - polynomial[i + j - size_];
    };
    out[0] = (word(0) + constant) >> size_log2;
    for (std::size_t i = 1; i < size_; ++i) out[i] = word(i) >> size_log2;
  }

  double* matrix(std::size_t c, std::size_t bit) {
    return matrices_.data() + (c * shape_.index_bits + bit) * matrix_doubles_;
  }

  // Row s * count_ + c: digit s of the entry of ciphertext c.
  void pick_entries(std::span<const WideTable* const> tables, LweBatch& digits) {
    VerticalPacking packing(keys_);
    AlignedBuffer<Torus> entries(tables.front()->packed() * kColumns * size_);
    std::vector<const double*> matrices(shape_.index_bits);
    for (std::size_t c = 0; c < count_; ++c) {
      for (std::size_t bit = 0; bit < matrices.size(); ++bit) matrices[bit] = matrix(c, bit);
      packing.run(matrices, *tables[c], entries.data());
      for (std::uint32_t s = 0; s < shape_.digit_count; ++s) {
        const Torus* glwe = entries.data() + tables[c]->packed_of(s) * kColumns * size_;
        const std::size_t coefficient = tables[c]->coefficient(s);
        const auto row = digits.row(s * count_ + c);
        extract_mask({glwe, size_}, coefficient, row.data());
        row[size_] = glwe[size_ + coefficient];
      }
    }
  }

  // Bootstraps of one digit of all entries, added to the results.
  void refresh(const LweBatch& digits, std::size_t row, std::span<const WideTable* const> tables,
               LweBatch& outputs, std::size_t first) {
    std::vector<const Torus*> refreshed(count_);
    for (std::size_t c = 0; c < count_; ++c)
      refreshed[c] = tables[c]->refresh(static_cast<std::uint32_t>(row / count_));
    rotate(digits, row, 0, refreshed);
    for (std::size_t c = 0; c < count_; ++c) {
      rotation_.extract(c, scaled_.row(c));
      const auto result = outputs.row(first + c);
      std::ranges::transform(result, scaled_.row(c), result.begin(), std::plus<Torus>());
    }
  }

  const EvaluationKeys::State& keys_;
  const WideShape shape_;
  const std::size_t count_, size_, levels_, matrix_doubles_;
  LweBatch rest_, scaled_;  // inputs less the bits that were read; a rotation's operand or result
  AlignedBuffer<std::uint32_t> small_, switched_;
  BlindRotation rotation_;
  CircuitBootstrap bootstrap_;
  AlignedBuffer<Torus> glwes_;      // [bit of the group][level]
  AlignedBuffer<double> matrices_;  // [ciphertext][index bit]
};

[[noreturn]] void refuse(ErrorCode code, const std::string& message) {
  throw Error(code, message, "wide_lookup_batch");
}

void check(const LweBatch& inputs, std::span<const WideTable* const> tables,
           std::span<LweBatch* const> outputs) {
  if (outputs.empty()) refuse(ErrorCode::wrong_shape, "there is no room for results");
  for (const LweBatch* output : outputs) {
    if (output == nullptr) refuse(ErrorCode::invalid_argument, "the results of a table are null");
    if (output->dimension != inputs.dimension || output->count != inputs.count ||
        tables.size() != inputs.count * outputs.size()) {
      refuse(ErrorCode::wrong_shape,
             fmt::format("{} ciphertexts, {} tables, room for {} results of dimension {} each",
                         inputs.count, tables.size(), output->count, output->dimension.value));
    }
    if (inputs.count != 0 && inputs.words.data() == output->words.data())
      refuse(ErrorCode::invalid_argument, "outputs alias inputs");
    if (std::ranges::count(outputs, output) != 1)
      refuse(ErrorCode::invalid_argument, "outputs alias each other");
  }
}

void check(const EvaluationKeys::State& keys, const LweBatch& inputs,
           std::span<const WideTable* const> tables, std::span<LweBatch* const> outputs) {
  if (!keys.parameters.has_circuit_bootstrap())
    refuse(ErrorCode::wrong_key, "the key set has no keys for circuit bootstrapping");
  if (inputs.dimension != keys.parameters.big_dimension()) {
    refuse(ErrorCode::wrong_key,
           fmt::format("ciphertexts of dimension {} under a key of dimension {}",
                       inputs.dimension.value, keys.big()));
  }
  check(inputs, tables, outputs);
  if (!tables.empty() && tables.front() != nullptr &&
      !has_room(tables.front()->shape(), keys.parameters)) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("{} bits a rotation with {} levels do not fit into polynomials of {}",
                       tables.front()->shape().bits_per_rotation,
                       keys.parameters.circuit_bootstrap.level_count, keys.size()));
  }
  for (const WideTable* table : tables) {
    if (table == nullptr) refuse(ErrorCode::invalid_argument, "a table is null");
    if (!(table->shape() == tables.front()->shape()))
      refuse(ErrorCode::wrong_shape, "tables of one call have one shape");
    if (table->size() != keys.parameters.polynomial_size) {
      refuse(ErrorCode::wrong_shape, fmt::format("a table for polynomials of {} under keys for {}",
                                                 table->size().value, keys.size()));
    }
  }
}

void check(PolynomialSize size, const WideShape& shape, std::span<const std::uint64_t> entries,
           const std::vector<std::vector<Torus>>& digit_words) {
  const auto fail = [](const std::string& message) {
    throw Error(ErrorCode::wrong_shape, message, "table of a wide lookup");
  };
  const auto outside = [](std::uint32_t value, std::uint32_t most) {
    return value < 1 || value > most;
  };
  if (outside(shape.index_bits, kMostIndexBits) ||
      outside(shape.bits_per_rotation, std::min(kMostBitsPerRotation, shape.index_bits)) ||
      outside(shape.digit_bits, kMostDigitBits) ||
      outside(shape.digit_count, 64 / shape.digit_bits)) {
    fail(
        fmt::format("{} index bits, {} a rotation, {} digits of {} bits; at most {}, {}, 64 bits "
                    "and {} are possible",
                    shape.index_bits, shape.bits_per_rotation, shape.digit_count, shape.digit_bits,
                    kMostIndexBits, kMostBitsPerRotation, kMostDigitBits));
  }
  if (size.value >> shape.digit_bits < 2) {
    fail(fmt::format("digits of {} bits in polynomials of {}", shape.digit_bits, size.value));
  }
  if (entries.size() != std::size_t{1} << shape.index_bits)
    fail(fmt::format("{} entries for {} index bits", entries.size(), shape.index_bits));
  const std::uint32_t bits = shape.digit_bits * shape.digit_count;
  for (const std::uint64_t entry : entries) {
    if (bits < 64 && entry >> bits != 0)
      fail(fmt::format("an entry of {}; digits hold {} bits", entry, bits));
  }
  const bool has_words = digit_words.size() == shape.digit_count &&
                         std::ranges::all_of(digit_words, [&](const std::vector<Torus>& words) {
                           return words.size() == std::size_t{1} << shape.digit_bits;
                         });
  if (!has_words) fail("each digit needs a word for each of its values");
}

}  // namespace

WideTable::WideTable(PolynomialSize size, const WideShape& shape,
                     std::span<const std::uint64_t> entries,
                     const std::vector<std::vector<Torus>>& digit_words)
    : shape_(shape), size_(size.value) {
  check(size, shape, entries, digit_words);
  const std::size_t values = entries.size();
  slots_ = std::max<std::size_t>(1, size_ / values);
  leaves_ = std::max<std::size_t>(1, values / size_);
  packed_ = (shape.digit_count + slots_ - 1) / slots_;
  words_.resize(packed_ * leaves_ * size_);
  refresh_.resize(shape.digit_count * size_);
  const std::uint64_t digit_mask = (std::uint64_t{1} << shape.digit_bits) - 1;
  for (std::uint32_t s = 0; s < shape.digit_count; ++s) {
    Torus* words = words_.data() + packed_of(s) * leaves_ * size_ + coefficient(s);
    for (std::uint32_t value = 0; value < values; ++value) {
      const std::uint64_t digit = entries[value] >> (s * shape.digit_bits) & digit_mask;
      words[address(value, shape)] = digit_phase(digit, shape.digit_bits, size_);
    }
    for (std::size_t i = 0; i < size_; ++i)
      refresh_[s * size_ + i] = digit_words[s][(i << shape.digit_bits) / size_];
  }
}

std::size_t WideTable::bytes() const { return (words_.size() + refresh_.size()) * sizeof(Torus); }

void wide_lookup_batch(const EvaluationKeys& evaluation_keys, const LweBatch& inputs,
                       std::span<const WideTable* const> tables, std::span<LweBatch* const> outputs,
                       const ProgressCallback& progress) {
  const EvaluationKeys::State& keys = evaluation_keys.state();
  check(keys, inputs, tables, outputs);
  if (inputs.count == 0) return;
  const std::size_t results = outputs.size();
  ProgressCounter counter(progress, inputs.count * results);
  for_blocks(inputs.count, kMostItems, [&](std::size_t first, std::size_t count) {
    WideBlock block(keys, tables.front()->shape(), count);
    block.read_bits(inputs, first);
    std::vector<const WideTable*> read(count);
    for (std::size_t t = 0; t < results; ++t) {
      for (std::size_t c = 0; c < count; ++c) read[c] = tables[(first + c) * results + t];
      block.look_up(read, *outputs[t], first);
      counter.advance(count);
    }
  });
}

void wide_lookup_batch(const EvaluationKeys& keys, const LweBatch& inputs,
                       std::span<const WideTable* const> tables, LweBatch& outputs,
                       const ProgressCallback& progress) {
  LweBatch* const results[] = {&outputs};
  wide_lookup_batch(keys, inputs, tables, results, progress);
}

}  // namespace torusml
