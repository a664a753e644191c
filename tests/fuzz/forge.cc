#include "forge.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "artifact/container.h"
#include "torusml/error.h"

namespace torusml::fuzz {
namespace {

constexpr std::size_t kSizeAt = 12, kHashAt = 16, kHeaderAt = 48;

void pad(std::string& bytes) { bytes.resize((bytes.size() + 63) / 64 * 64); }

std::string compress(const std::string& text) {
  std::string result(ZSTD_compressBound(text.size()), '\0');
  result.resize(ZSTD_compress(result.data(), result.size(), text.data(), text.size(), 1));
  return result;
}

std::string model_hash(const Forged& forged) {
  Sha256 hash;
  for (std::size_t s = 0; s < forged.bodies.size(); ++s) {
    hash.update(forged.header.sections[s].name + " " + std::to_string(forged.bodies[s].size()) +
                "\n");
    hash.update(forged.bodies[s]);
  }
  return to_hex(hash.finish());
}

}  // namespace

std::optional<Forged> take_apart(std::string_view bytes, std::size_t limit) {
  try {
    const MemorySource source(bytes, "forged");
    const ContainerReader reader(source, {});
    Forged forged{{reader.kind(), reader.producer(), reader.properties(), reader.sections()}, {}};
    for (const SectionInfo& section : reader.sections())
      forged.bodies.push_back(reader.read_text(section.name, limit));
    return forged;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string put_together(const Forged& forged, const std::function<void(ContainerHeader&)>& lie) {
  ContainerHeader header = forged.header;
  if (header.kind == FileKind::model && header.properties.contains("model_hash"))
    header.properties["model_hash"] = model_hash(forged);
  std::string data;
  for (std::size_t s = 0; s < forged.bodies.size(); ++s) {
    SectionInfo& section = header.sections[s];
    const bool is_raw = section.codec == SectionCodec::none;
    const std::string stored = is_raw ? forged.bodies[s] : compress(forged.bodies[s]);
    pad(data);
    section.offset = data.size();
    section.stored_size = stored.size();
    section.raw_size = forged.bodies[s].size();
    section.sha256 = sha256(as_bytes(stored));
    data += stored;
  }
  if (lie) lie(header);
  const std::vector<std::uint8_t> encoded = encode_header(header);
  std::string bytes("\x89TML\r\n\x1a\n");
  const std::uint32_t numbers[] = {kFormatVersion, static_cast<std::uint32_t>(encoded.size())};
  bytes.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  bytes.resize(kHeaderAt);
  bytes.append(encoded.begin(), encoded.end());
  repair_header_hash(bytes);
  if (!data.empty() || !forged.bodies.empty()) pad(bytes);
  return bytes + data;
}

bool repair_header_hash(std::string& bytes) {
  if (bytes.size() < kHeaderAt) return false;
  std::uint32_t size;
  std::memcpy(&size, bytes.data() + kSizeAt, sizeof size);
  if (size > bytes.size() - kHeaderAt) return false;
  Sha256 hash;
  hash.update(std::string_view(bytes).substr(0, kHashAt));
  hash.update(std::string_view(bytes).substr(kHeaderAt, size));
  const Digest digest = hash.finish();
  std::copy(digest.begin(), digest.end(), bytes.begin() + kHashAt);
  return true;
}

}  // namespace torusml::fuzz
