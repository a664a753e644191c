#include "remote/evaluation_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "artifact/describe.h"
#include "artifact/hash.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::string id_of(const ByteSource& source) {
  constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
  std::vector<std::uint8_t> bytes;
  Sha256 hash;
  for (std::uint64_t at = 0; at < source.size(); at += bytes.size()) {
    bytes.resize(static_cast<std::size_t>(std::min(kStep, source.size() - at)));
    source.read(at, bytes);
    hash.update(bytes);
  }
  return to_hex(hash.finish());
}

}  // namespace

EvaluationFile::EvaluationFile(std::unique_ptr<const std::string> bytes,
                               std::unique_ptr<ByteSource> source)
    : bytes_(std::move(bytes)), source_(std::move(source)), id_(id_of(*source_)) {}

EvaluationFile EvaluationFile::of(const EvaluationKeySet& keys) {
  auto bytes = std::make_unique<const std::string>(to_bytes(keys));
  auto source = std::make_unique<MemorySource>(*bytes, "evaluation keys");
  return {std::move(bytes), std::move(source)};
}

EvaluationFile EvaluationFile::open(const std::string& path, const SecretKeySet& secret) {
  const FileDescription file = describe_file(path);
  const std::string where = fmt::format("file '{}'", path);
  if (file.kind != FileKind::evaluation_keys)
    throw Error(ErrorCode::file_foreign, "it holds no evaluation keys", where);
  const auto key = file.properties.find("key_id");
  if (key == file.properties.end() || key->second != to_hex(secret.provenance.key)) {
    throw Error(ErrorCode::wrong_key,
                fmt::format("these evaluation keys belong to another secret key than {}",
                            short_hex(secret.provenance.key)),
                where, "remove the file: it is made anew from the secret key");
  }
  check_key_sets(secret.key_sets, file.key_sets, fmt::format("the evaluation keys in '{}'", path));
  return {nullptr, std::make_unique<FileSource>(path)};
}

}  // namespace torusml
