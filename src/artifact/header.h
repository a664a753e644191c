// The container's header in memory, and its FlatBuffers form. Files are read through container.h.
//
// Cost: O(header). Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "artifact/hash.h"

namespace torusml {

enum class FileKind : std::uint8_t {
  model = 1,
  secret_key = 2,
  evaluation_keys = 3,
  ciphertext = 4,
  client_half = 5,
  server_half = 6,
  checkpoint = 7
};
// "model", "secret key", "evaluation keys", "ciphertext", "client's half", "server's half",
// "checkpoint"
std::string to_string(FileKind kind);

enum class SectionCodec : std::uint8_t { none = 0, zstd = 1 };

using Properties = std::map<std::string, std::string>;

struct SectionInfo {
  std::string name;
  std::uint64_t offset = 0;  // from the start of the data area
  std::uint64_t stored_size = 0, raw_size = 0;
  SectionCodec codec = SectionCodec::none;
  Digest sha256{};  // of the stored bytes
};

struct ContainerHeader {
  FileKind kind = FileKind::model;
  std::string producer;
  Properties properties;
  std::vector<SectionInfo> sections;
};

std::vector<std::uint8_t> encode_header(const ContainerHeader& header);

// Verifies the bytes before it looks at them. Error file_corrupt; `where` is the file.
ContainerHeader decode_header(std::span<const std::uint8_t> bytes, const std::string& where);

}  // namespace torusml
