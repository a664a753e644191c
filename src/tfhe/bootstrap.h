// Programmable bootstrapping on batches: keyswitch, modulus switch, blind rotation, sample
// extraction.
//
//   EvaluationKeys keys = EvaluationKeys::prepare(seeded);
//   bootstrap_batch(keys, inputs, tables, extension_log2, outputs);
//
// Cost per ciphertext: one keyswitch (k*N*l_ks*(n+1) multiply-adds) and, at grouping factor g, n/g
// steps of degree N on 2^extension_log2 shards, less what their order saves (stages.h). Several
// tables of one ciphertext share the keyswitch, and a rotation where the shape says so. Thread
// rule: const keys are shared by all threads; the call is parallel inside.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "tfhe/ciphertext.h"
#include "torusml/progress.h"

namespace torusml {

class FileMapping;

// The arrays that kernels read: bootstrapping key, keyswitch key, keys of the trace. Sizes and
// offsets in bytes.
using PreparedParts = std::array<std::span<const std::uint8_t>, 3>;
using PartSizes = std::array<std::size_t, 3>;
// Another layout of the parts (tfhe/prepared_keys.h), or other numbers in them, takes another
// number here: files of prepared keys carry it.
inline constexpr std::uint32_t kPreparedLayout = 1;

class EvaluationKeys {
 public:
  // Expands masks and transforms the bootstrapping key; parallel. Error wrong_key when sizes do not
  // match the parameters.
  static EvaluationKeys prepare(const SeededEvaluationKeys& seeded,
                                const ProgressCallback& progress = {});
  // Keys in a file that holds such parts() at these offsets, multiples of 64. The caller has
  // checked that the file is as large as that, and what is in it.
  static EvaluationKeys over(FileMapping file, const TfheParameters& parameters,
                             const PartSizes& offsets);
  ~EvaluationKeys();
  EvaluationKeys(EvaluationKeys&&) noexcept;
  EvaluationKeys& operator=(EvaluationKeys&&) noexcept;

  const TfheParameters& parameters() const;
  // Of prepared key material in memory.
  std::size_t bytes() const { return bootstrap_bytes() + keyswitch_bytes(); }
  std::size_t bootstrap_bytes() const;
  std::size_t keyswitch_bytes() const;

  PreparedParts parts() const;
  // Of what prepare() makes. Errors as for prepare().
  static PartSizes part_sizes(const SeededEvaluationKeys& seeded);
  // Whether the first and the last piece of each part are, bit for bit, what prepare() makes of
  // these keys here and now. Cost: some thousandths of prepare().
  bool begin_and_end_as(const SeededEvaluationKeys& seeded) const;

  struct State;
  const State& state() const { return *state_; }

 private:
  explicit EvaluationKeys(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Modulus switch of the body of a ciphertext, shared with the simulator: the word plus the mask's
// centring term `mean` is rounded to the nearest multiple of 2^64 / modulus; returns an index in
// [0, modulus).
std::uint64_t switch_modulus(Torus word, std::uint64_t modulus);

// A table of M = N * 2^extension_log2 torus words T. For a ciphertext of phase p, with index
// i = round(p * 2M) mod 2M (noise and modulus switch included), the result has phase T[i] if i < M
// and -T[i - M] otherwise. The caller builds T so that boxes and guard bands lie where its encoding
// puts them.
//
// inputs: `count` ciphertexts under the big key; tables[c] is the table of ciphertext c (M words
// each); outputs: count rows under the big key, may not alias inputs. progress counts ciphertexts.
void bootstrap_batch(const EvaluationKeys& keys, const LweBatch& inputs,
                     std::span<const Torus* const> tables, std::uint32_t extension_log2,
                     LweBatch& outputs, const ProgressCallback& progress = {});

// The same with outputs.size() tables of each ciphertext: table t of ciphertext c is tables[c *
// outputs.size() + t], its result row c of outputs[t]. Tables have M = shape.table_size(N) words,
// and all of a ciphertext are read at the same index. Cost per ciphertext: one keyswitch and
// shape.turns(outputs.size()) rotations. progress counts results.
void bootstrap_batch(const EvaluationKeys& keys, const LweBatch& inputs,
                     std::span<const Torus* const> tables, const RotationShape& shape,
                     std::span<LweBatch* const> outputs, const ProgressCallback& progress = {});

}  // namespace torusml
