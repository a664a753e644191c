#include "artifact/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "container_generated.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxSections = 4096;
constexpr std::size_t kMaxTables = 2 * kMaxSections;
constexpr unsigned kMaxDepth = 8;

[[noreturn]] void corrupt(const std::string& what, const std::string& where) {
  throw Error(ErrorCode::file_corrupt, fmt::format("section 'header': {}", what), where);
}

SectionInfo decode_section(const schema::Section& section, const std::string& where) {
  SectionInfo info;
  info.name = section.name()->str();
  info.offset = section.offset();
  info.stored_size = section.stored_size();
  info.raw_size = section.raw_size();
  if (info.name.empty()) corrupt("a section has no name", where);
  if (section.codec() > schema::Codec::MAX) {
    corrupt(fmt::format("section '{}' has the unknown codec {}", info.name,
                        static_cast<int>(section.codec())),
            where);
  }
  info.codec = static_cast<SectionCodec>(section.codec());
  if (section.sha256()->size() != info.sha256.size())
    corrupt(fmt::format("section '{}' has no SHA-256", info.name), where);
  std::copy(section.sha256()->begin(), section.sha256()->end(), info.sha256.begin());
  return info;
}

}  // namespace

std::string to_string(FileKind kind) {
  switch (kind) {
    case FileKind::model:
      return "model";
    case FileKind::secret_key:
      return "secret key";
    case FileKind::evaluation_keys:
      return "evaluation keys";
    case FileKind::ciphertext:
      return "ciphertext";
    case FileKind::client_half:
      return "client's half";
    case FileKind::server_half:
      return "server's half";
    case FileKind::checkpoint:
      return "checkpoint";
  }
  return "unknown";
}

std::vector<std::uint8_t> encode_header(const ContainerHeader& header) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<schema::Property>> properties;
  for (const auto& [key, value] : header.properties) {
    const auto key_offset = builder.CreateString(key);
    const auto value_offset = builder.CreateString(value);
    properties.push_back(schema::CreateProperty(builder, key_offset, value_offset));
  }
  std::vector<flatbuffers::Offset<schema::Section>> sections;
  for (const SectionInfo& section : header.sections) {
    const auto name = builder.CreateString(section.name);
    const auto digest = builder.CreateVector(section.sha256.data(), section.sha256.size());
    sections.push_back(schema::CreateSection(builder, name, section.offset, section.stored_size,
                                             section.raw_size,
                                             static_cast<schema::Codec>(section.codec), digest));
  }
  const auto producer = builder.CreateString(header.producer);
  const auto property_vector = builder.CreateVector(properties);
  const auto section_vector = builder.CreateVector(sections);
  schema::FinishHeaderBuffer(
      builder, schema::CreateHeader(builder, static_cast<schema::Kind>(header.kind), producer,
                                    property_vector, section_vector));
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

ContainerHeader decode_header(std::span<const std::uint8_t> bytes, const std::string& where) {
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxDepth, kMaxTables);
  if (!schema::VerifyHeaderBuffer(verifier)) corrupt("it is not well formed", where);
  const schema::Header& stored = *schema::GetHeader(bytes.data());
  ContainerHeader header;
  if (stored.kind() == schema::Kind::none || stored.kind() > schema::Kind::MAX)
    corrupt(fmt::format("unknown kind {}", static_cast<int>(stored.kind())), where);
  header.kind = static_cast<FileKind>(stored.kind());
  header.producer = stored.producer()->str();
  for (const schema::Property* property : *stored.properties()) {
    if (!header.properties.emplace(property->key()->str(), property->value()->str()).second)
      corrupt(fmt::format("property '{}' occurs twice", property->key()->str()), where);
  }
  if (stored.sections()->size() > kMaxSections)
    corrupt(fmt::format("{} sections are more than {}", stored.sections()->size(), kMaxSections),
            where);
  std::set<std::string> names;
  for (const schema::Section* section : *stored.sections()) {
    header.sections.push_back(decode_section(*section, where));
    if (!names.insert(header.sections.back().name).second)
      corrupt(fmt::format("section '{}' occurs twice", header.sections.back().name), where);
  }
  return header;
}

}  // namespace torusml
