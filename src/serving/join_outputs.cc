#include "serving/join_outputs.h"

#include <fmt/format.h>

#include <algorithm>

#include "torusml/error.h"

namespace torusml {
namespace {

// Whether rows of `part` can follow those of `first`.
bool fits(const EncryptedOutput& first, const EncryptedOutput& part) {
  return part.name == first.name && !first.shape.empty() &&
         part.shape.size() == first.shape.size() &&
         std::equal(first.shape.begin() + 1, first.shape.end(), part.shape.begin() + 1) &&
         part.wire_bits == first.wire_bits &&
         part.ciphertexts.dimension == first.ciphertexts.dimension;
}

std::string described(const EncryptedOutput& tensor) {
  return fmt::format("'{}' of shape {}, dimension {} and {} bits", tensor.name,
                     to_string(tensor.shape), tensor.ciphertexts.dimension.value, tensor.wire_bits);
}

void check_part(const EncryptedOutputs& first, const EncryptedOutputs& part) {
  check_model(first.provenance.model, part.provenance.model, "a part of the results");
  check_key(first.provenance.key, part.provenance.key, "a part of the results");
  if (part.tensors.size() != first.tensors.size()) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("a part of the results has {} tensors, the first one has {}",
                            part.tensors.size(), first.tensors.size()));
  }
  for (std::size_t t = 0; t < first.tensors.size(); ++t) {
    if (part.tensors[t].packed) {
      throw Error(ErrorCode::not_supported,
                  fmt::format("results '{}' of a part are packed", part.tensors[t].name), "",
                  "parts made by run_samples, which packs nothing");
    }
    if (fits(first.tensors[t], part.tensors[t])) continue;
    throw Error(ErrorCode::wrong_shape,
                fmt::format("a part of the results has {}, the first one {}",
                            described(part.tensors[t]), described(first.tensors[t])),
                "", "parts of one batch, run by the same model");
  }
}

EncryptedOutput join_tensor(const std::vector<const EncryptedOutputs*>& parts, std::size_t t) {
  const EncryptedOutput& first = parts[0]->tensors[t];
  std::size_t count = 0;
  EncryptedOutput all{first.name, first.shape, first.wire_bits, {}};
  all.shape[0] = 0;
  for (const EncryptedOutputs* part : parts) {
    all.shape[0] += part->tensors[t].shape[0];
    count += part->tensors[t].ciphertexts.count;
  }
  all.ciphertexts = LweBatch(first.ciphertexts.dimension, count);
  Torus* end = all.ciphertexts.words.data();
  for (const EncryptedOutputs* part : parts)
    end = std::ranges::copy(part->tensors[t].ciphertexts.words, end).out;
  return all;
}

}  // namespace

EncryptedOutputs join_outputs(const std::vector<const EncryptedOutputs*>& parts) {
  if (parts.empty()) throw Error(ErrorCode::invalid_argument, "there are no results to join");
  for (const EncryptedOutputs* part : parts) check_part(*parts[0], *part);
  EncryptedOutputs all{parts[0]->provenance, {}};
  for (std::size_t t = 0; t < parts[0]->tensors.size(); ++t)
    all.tensors.push_back(join_tensor(parts, t));
  return all;
}

}  // namespace torusml
