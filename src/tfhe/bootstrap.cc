#include "tfhe/bootstrap.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/progress.h"
#include "tfhe/blocks.h"
#include "tfhe/prepared_keys.h"
#include "tfhe/stages.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::uint32_t kLargestExtension = 12;

[[noreturn]] void refuse(ErrorCode code, const std::string& message) {
  throw Error(code, message, "bootstrap_batch");
}

void check(const EvaluationKeys::State& keys, const RotationShape& shape) {
  if (shape.extension_log2 > kLargestExtension) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("extension 2^{} is above 2^{}", shape.extension_log2, kLargestExtension));
  }
  if (shape.tables_log2 == 0) return;
  if (shape.extension_log2 != 0) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("2^{} tables a rotation with extension 2^{}; one of the two is possible",
                       shape.tables_log2, shape.extension_log2));
  }
  if (shape.tables_log2 >= 32 || keys.size() >> shape.tables_log2 == 0) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("2^{} tables a rotation do not fit into polynomials of {}",
                       shape.tables_log2, keys.size()));
  }
}

void check(const LweBatch& inputs, std::span<LweBatch* const> outputs) {
  if (outputs.empty()) refuse(ErrorCode::wrong_shape, "there is no room for results");
  for (std::size_t t = 0; t < outputs.size(); ++t) {
    if (outputs[t] == nullptr)
      refuse(ErrorCode::invalid_argument, fmt::format("the results of table {} are null", t));
    if (outputs[t]->dimension != inputs.dimension || outputs[t]->count != inputs.count) {
      refuse(ErrorCode::wrong_shape,
             fmt::format("room for {} results of dimension {}; {} of dimension {} are due",
                         outputs[t]->count, outputs[t]->dimension.value, inputs.count,
                         inputs.dimension.value));
    }
    if (inputs.count != 0 && inputs.words.data() == outputs[t]->words.data())
      refuse(ErrorCode::invalid_argument, "outputs alias inputs");
    if (std::ranges::count(outputs, outputs[t]) != 1)
      refuse(ErrorCode::invalid_argument, "outputs alias each other");
  }
}

void check(const EvaluationKeys::State& keys, const LweBatch& inputs,
           std::span<const Torus* const> tables, const RotationShape& shape,
           std::span<LweBatch* const> outputs) {
  if (!keys.parameters.has_bootstrap()) {
    refuse(ErrorCode::wrong_key, "the key set has no bootstrapping key");
  }
  if (inputs.dimension != keys.parameters.big_dimension()) {
    refuse(ErrorCode::wrong_key,
           fmt::format("ciphertexts of dimension {} under a key of dimension {}",
                       inputs.dimension.value, keys.big()));
  }
  check(inputs, outputs);
  if (tables.size() != inputs.count * outputs.size()) {
    refuse(ErrorCode::wrong_shape, fmt::format("{} tables for {} ciphertexts and {} results each",
                                               tables.size(), inputs.count, outputs.size()));
  }
  const auto null = std::find(tables.begin(), tables.end(), nullptr);
  if (null != tables.end()) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("the table of ciphertext {} is null",
                       static_cast<std::size_t>(null - tables.begin()) / outputs.size()));
  }
  check(keys, shape);
}

// Keyswitch and modulus switch: n + 1 words for each ciphertext.
std::vector<std::uint32_t> switch_batch(const EvaluationKeys::State& keys, const LweBatch& inputs,
                                        const RotationShape& shape) {
  const std::size_t n = keys.small();
  const std::uint64_t modulus = 2 * keys.size() << shape.extension_log2;
  std::vector<std::uint32_t> switched(inputs.count * (n + 1));
  for_blocks(inputs.count, kKeyswitchBlock, [&](std::size_t first, std::size_t count) {
    AlignedBuffer<std::uint32_t> small(count * keys.keyswitch_pitch);
    keyswitch_block(keys, inputs, first, count, small.data());
    for (std::size_t c = 0; c < count; ++c) {
      switch_row(small.data() + c * keys.keyswitch_pitch, n, modulus,
                 switched.data() + (first + c) * (n + 1), shape.tables_log2);
    }
  });
  return switched;
}

// Tables first .. first + count - 1 of a ciphertext, which one rotation reads.
struct Turn {
  std::size_t ciphertext = 0, first = 0, count = 0;
};

}  // namespace

void bootstrap_batch(const EvaluationKeys& evaluation_keys, const LweBatch& inputs,
                     std::span<const Torus* const> tables, const RotationShape& shape,
                     std::span<LweBatch* const> outputs, const ProgressCallback& progress) {
  const EvaluationKeys::State& keys = evaluation_keys.state();
  check(keys, inputs, tables, shape, outputs);
  if (inputs.count == 0) return;
  const std::size_t results = outputs.size(), together = std::size_t{1} << shape.tables_log2;
  ProgressCounter counter(progress, inputs.count * results);
  const std::vector<std::uint32_t> switched = switch_batch(keys, inputs, shape);

  const std::size_t turns = shape.turns(results);
  const auto turn_of = [&](std::size_t number) {
    const std::size_t first = number % turns * together;
    return Turn{number / turns, first, std::min(together, results - first)};
  };
  const std::size_t rotations = inputs.count * turns;
  for_blocks(rotations, rotation_block(shape.extension_log2),
             [&](std::size_t first, std::size_t count) {
               BlindRotation rotation(keys, shape.extension_log2, count);
               std::vector<const std::uint32_t*> rows(count);
               std::vector<const Torus*> read(count * together, nullptr);
               for (std::size_t r = 0; r < count; ++r) {
                 const Turn turn = turn_of(first + r);
                 rows[r] = switched.data() + turn.ciphertext * (keys.small() + 1);
                 std::copy_n(tables.data() + turn.ciphertext * results + turn.first, turn.count,
                             read.data() + r * together);
               }
               rotation.run(rows, read, shape.tables_log2);
               for (std::size_t r = 0; r < count; ++r) {
                 const Turn turn = turn_of(first + r);
                 for (std::size_t f = 0; f < turn.count; ++f) {
                   rotation.extract(r, outputs[turn.first + f]->row(turn.ciphertext), f);
                   counter.advance();
                 }
               }
             });
}

void bootstrap_batch(const EvaluationKeys& keys, const LweBatch& inputs,
                     std::span<const Torus* const> tables, std::uint32_t extension_log2,
                     LweBatch& outputs, const ProgressCallback& progress) {
  LweBatch* const results[] = {&outputs};
  bootstrap_batch(keys, inputs, tables, RotationShape{extension_log2, 0}, results, progress);
}

}  // namespace torusml
