#include "artifact/describe.h"

#include "artifact/client_spec_codec.h"
#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/model_facts.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 1024;

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

template <class Input>
std::vector<std::string> names_of_clear(const std::vector<Input>& inputs) {
  std::vector<std::string> names;
  for (const Input& input : inputs) {
    if (input.is_clear) names.push_back(input.name);
  }
  return names;
}

// What the header says is compared with the sections.
void describe_client(const ContainerReader& reader, FileDescription& file) {
  const ClientSpec spec = read_client_spec(reader, "client");
  check_facts(reader, spec.model_name, spec.options);
  file.clear_inputs = names_of_clear(spec.inputs);
  if (file.kind == FileKind::client_half) file.key_sets = spec.key_sets;
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
  if (file.kind == FileKind::model || file.kind == FileKind::client_half)
    describe_client(reader, file);
  if (file.kind == FileKind::server_half)
    file.clear_inputs = names_of_clear(load_server_half(path).spec.inputs);
  if (file.kind == FileKind::ciphertext) file.tensors = read_tensors(reader);
  return file;
}

}  // namespace torusml
