// What a TorusML file says about itself, for people: no weights, no key bits. Every hash is
// checked.
//
//   FileDescription file = describe_file("client.key");
//   file.kind;                            // FileKind::secret_key
//   file.properties.at("key_id");
//
// Thread rule: pure function. Cost: one pass over the file; a server's half is read whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "artifact/header.h"
#include "tfhe/types.h"
#include "torusml/tensor.h"

namespace torusml {

struct EncryptedTensorDescription {
  std::string name;
  Shape shape;
  std::uint32_t dimension = 0;  // of the LWE ciphertexts
  int wire_bits = 0;            // of a word of results; 0: inputs, which have a seed for masks
  bool packed = false;          // many results in a ciphertext
  bool is_clear = false;        // an input that is not encrypted
};

struct FileDescription {
  FileKind kind = FileKind::model;
  std::string producer;
  std::uint64_t file_bytes = 0;
  Properties properties;
  std::vector<SectionInfo> sections;
  std::vector<TfheParameters> key_sets;             // of keys and of a client's half
  std::vector<EncryptedTensorDescription> tensors;  // of ciphertexts
  std::vector<std::string> clear_inputs;            // of a model and its halves
};

// Errors: file_unreadable, file_truncated, file_foreign, file_version, file_corrupt.
FileDescription describe_file(const std::string& path);

}  // namespace torusml
