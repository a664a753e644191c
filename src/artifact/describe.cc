#include "artifact/describe.h"

#include "artifact/container.h"
#include "artifact/json_fields.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 1024;
constexpr std::size_t kMaxInputs = 4096;  // of a model

std::vector<EncryptedTensorDescription> read_tensors(const ContainerReader& reader) {
  const JsonSection section(reader, "tensors");
  std::vector<EncryptedTensorDescription> tensors;
  for (const Json& json : section.array(section.root(), "tensors", kMaxTensors)) {
    tensors.push_back(
        {section.text(json, "name"), section.shape(json, "shape"),
         static_cast<std::uint32_t>(section.integer(json, "dimension", 1, UINT32_MAX)),
         json.contains("wire_bits") ? static_cast<int>(section.integer(json, "wire_bits", 1, 64))
                                    : 0,
         section.flag(json, "packed"), section.flag(json, "clear")});
  }
  return tensors;
}

std::vector<std::string> read_clear_inputs(const JsonSection& section) {
  std::vector<std::string> names;
  for (const Json& input : section.array(section.root(), "inputs", kMaxInputs)) {
    if (section.flag(input, "clear")) names.push_back(section.text(input, "name"));
  }
  return names;
}

}  // namespace

FileDescription describe_file(const std::string& path) {
  const FileSource source(path);
  const ContainerReader reader(source, {});
  reader.verify_all();
  FileDescription file;
  file.kind = reader.kind();
  file.producer = reader.producer();
  file.file_bytes = reader.file_size();
  file.properties = reader.properties();
  file.sections = reader.sections();
  if (file.kind == FileKind::secret_key || file.kind == FileKind::evaluation_keys) {
    file.key_sets = JsonSection(reader, "key_sets").key_sets();
  }
  if (file.kind == FileKind::client_half) file.key_sets = JsonSection(reader, "client").key_sets();
  if (file.kind == FileKind::client_half || file.kind == FileKind::model)
    file.clear_inputs = read_clear_inputs(JsonSection(reader, "client"));
  if (file.kind == FileKind::server_half)
    file.clear_inputs = read_clear_inputs(JsonSection(reader, "server"));
  if (file.kind == FileKind::ciphertext) file.tensors = read_tensors(reader);
  return file;
}

}  // namespace torusml
