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

void check(const EvaluationKeys::State& keys, const LweBatch& inputs,
           std::span<const Torus* const> tables, std::uint32_t extension_log2,
           const LweBatch& outputs) {
  if (!keys.parameters.has_bootstrap()) {
    refuse(ErrorCode::wrong_key, "the key set has no bootstrapping key");
  }
  if (inputs.dimension != keys.parameters.big_dimension()) {
    refuse(ErrorCode::wrong_key,
           fmt::format("ciphertexts of dimension {} under a key of dimension {}",
                       inputs.dimension.value, keys.big()));
  }
  if (outputs.dimension != inputs.dimension || outputs.count != inputs.count) {
    refuse(
        ErrorCode::wrong_shape,
        fmt::format("room for {} results of dimension {}; {} of dimension {} are due",
                    outputs.count, outputs.dimension.value, inputs.count, inputs.dimension.value));
  }
  if (inputs.count != 0 && inputs.words.data() == outputs.words.data()) {
    refuse(ErrorCode::invalid_argument, "outputs alias inputs");
  }
  if (tables.size() != inputs.count) {
    refuse(ErrorCode::wrong_shape,
           fmt::format("{} tables for {} ciphertexts", tables.size(), inputs.count));
  }
  const auto null = std::find(tables.begin(), tables.end(), nullptr);
  if (null != tables.end()) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("the table of ciphertext {} is null", null - tables.begin()));
  }
  if (extension_log2 > kLargestExtension) {
    refuse(ErrorCode::invalid_argument,
           fmt::format("extension 2^{} is above 2^{}", extension_log2, kLargestExtension));
  }
}

}  // namespace

void bootstrap_batch(const EvaluationKeys& evaluation_keys, const LweBatch& inputs,
                     std::span<const Torus* const> tables, std::uint32_t extension_log2,
                     LweBatch& outputs, const ProgressCallback& progress) {
  const EvaluationKeys::State& keys = evaluation_keys.state();
  check(keys, inputs, tables, extension_log2, outputs);
  if (inputs.count == 0) return;
  ProgressCounter counter(progress, inputs.count);
  const std::size_t n = keys.small();
  const std::uint64_t modulus = 2 * keys.size() << extension_log2;

  std::vector<std::uint32_t> switched(inputs.count * (n + 1));
  for_blocks(inputs.count, block_size(inputs.count, kKeyswitchBlock),
             [&](std::size_t first, std::size_t count) {
               AlignedBuffer<std::uint32_t> small(count * keys.keyswitch_pitch);
               keyswitch_block(keys, inputs, first, count, small.data());
               for (std::size_t c = 0; c < count; ++c) {
                 switch_row(small.data() + c * keys.keyswitch_pitch, n, modulus,
                            switched.data() + (first + c) * (n + 1));
               }
             });

  for_blocks(inputs.count, block_size(inputs.count, rotation_block(extension_log2)),
             [&](std::size_t first, std::size_t count) {
               BlindRotation rotation(keys, extension_log2, count);
               rotation.run(switched.data() + first * (n + 1), tables.subspan(first, count));
               for (std::size_t c = 0; c < count; ++c) {
                 rotation.extract(c, outputs.row(first + c));
                 counter.advance();
               }
             });
}

}  // namespace torusml
