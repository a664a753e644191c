// Lookups of wide values, where a rotation of the whole table would take too long: a few rotations
// read the value's bits, circuit bootstrapping makes GGSW ciphertexts of them, vertical packing
// picks the entry, digit by digit, and a bootstrap of each digit removes the noise.
//
//   WideShape shape{.index_bits = 12, .bits_per_rotation = 2, .digit_bits = 4, .digit_count = 3};
//   WideTable table(size, shape, entries, digit_words);
//   wide_lookup_batch(keys, inputs, tables, outputs);
//
// Cost per ciphertext: index_bits / bits_per_rotation bootstraps, digit_count for each table, and
// external products for the rest. docs/wide-lookups.md explains and derives the noise. Thread rule:
// as bootstrap_batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tfhe/bootstrap.h"

namespace torusml {

class WideTable {
 public:
  // entries: 2^index_bits numbers below 2^(digit_bits * digit_count). digit_words[s][d]: what value
  // d of digit s, the least significant first, adds to the result's phase. Error wrong_shape.
  WideTable(PolynomialSize size, const WideShape& shape, std::span<const std::uint64_t> entries,
            const std::vector<std::vector<Torus>>& digit_words);

  const WideShape& shape() const { return shape_; }
  PolynomialSize size() const { return {static_cast<std::uint32_t>(size_)}; }
  std::size_t bytes() const;

  // Digits are packed into polynomials of N entries; where a digit takes several polynomials, the
  // upper index bits choose among `leaves` of them.
  std::size_t packed() const { return packed_; }
  std::size_t leaves() const { return leaves_; }
  const Torus* polynomials(std::size_t packed) const {
    return words_.data() + packed * leaves_ * size_;
  }
  std::size_t packed_of(std::uint32_t digit) const { return digit / slots_; }
  std::size_t coefficient(std::uint32_t digit) const { return digit % slots_ << shape_.index_bits; }
  // The table of the bootstrap that follows for this digit.
  const Torus* refresh(std::uint32_t digit) const { return refresh_.data() + digit * size_; }

 private:
  WideShape shape_;
  std::size_t size_ = 0, slots_ = 1, packed_ = 0, leaves_ = 1;
  std::vector<Torus> words_;    // [packed][leaf][N]
  std::vector<Torus> refresh_;  // [digit][N]
};

// Entry i is read where the phase lies in [i, i + 1) / 2^(index_bits + 1), and modulo half the
// torus. Noise must leave the phase in that box; its middle is best.
//
// inputs: ciphertexts under the big key; tables[c]: the table of ciphertext c, all of one shape;
// outputs: as many, may not alias inputs. progress counts ciphertexts. Errors as bootstrap_batch;
// wrong_key where the key set has no circuit bootstrapping.
void wide_lookup_batch(const EvaluationKeys& keys, const LweBatch& inputs,
                       std::span<const WideTable* const> tables, LweBatch& outputs,
                       const ProgressCallback& progress = {});

// The same with outputs.size() tables of each ciphertext, whose bits are read once: table t of
// ciphertext c is tables[c * outputs.size() + t], its result row c of outputs[t]. progress counts
// results.
void wide_lookup_batch(const EvaluationKeys& keys, const LweBatch& inputs,
                       std::span<const WideTable* const> tables, std::span<LweBatch* const> outputs,
                       const ProgressCallback& progress = {});

}  // namespace torusml
