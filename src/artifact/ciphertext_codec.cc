#include <fmt/format.h>

#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/provenance.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 1024;
constexpr std::int64_t kMaxDimension = 1 << 20;

constexpr const char* kInputs = "encrypted inputs";
constexpr const char* kOutputs = "encrypted outputs";

std::string body_section(std::size_t tensor) { return fmt::format("tensor.{}", tensor); }

Json description(const EncryptedInput& tensor) {
  return {{"name", tensor.name},
          {"shape", tensor.shape},
          {"dimension", tensor.ciphertexts.dimension.value},
          {"mask_seed", to_hex(tensor.ciphertexts.seed)}};
}

Json description(const EncryptedOutput& tensor) {
  return {{"name", tensor.name},
          {"shape", tensor.shape},
          {"dimension", tensor.ciphertexts.dimension.value}};
}

std::span<const Torus> words(const EncryptedInput& tensor) { return tensor.ciphertexts.bodies; }
std::span<const Torus> words(const EncryptedOutput& tensor) { return tensor.ciphertexts.words; }

template <class Encrypted>
ContainerWriter make_writer(const Encrypted& encrypted, const char* content) {
  ContainerWriter writer(FileKind::ciphertext);
  set_provenance(writer, encrypted.provenance);
  writer.set("content", content);
  Json tensors = Json::array();
  for (const auto& tensor : encrypted.tensors) tensors.push_back(description(tensor));
  writer.add_text("tensors", json_text({{"tensors", std::move(tensors)}}));
  for (std::size_t t = 0; t < encrypted.tensors.size(); ++t) {
    const std::span<const Torus> body = words(encrypted.tensors[t]);
    writer.add_view(body_section(t),
                    {reinterpret_cast<const std::uint8_t*>(body.data()), body.size_bytes()});
  }
  return writer;
}

// The body of an input is one word per element, that of an output a whole ciphertext.
void read_body(const ContainerReader& reader, const std::string& body, std::size_t elements,
               SeededLweBatch& batch) {
  reader.check_raw_size(body, elements * sizeof(Torus));
  batch.bodies.resize(elements);
  reader.read_words(body, std::span(batch.bodies));
}

void read_body(const ContainerReader& reader, const std::string& body, std::size_t elements,
               LweBatch& batch) {
  // At most 2^40 elements of 2^20 words: no overflow.
  reader.check_raw_size(body, elements * (batch.dimension.value + std::size_t{1}) * sizeof(Torus));
  batch = LweBatch(batch.dimension, elements);
  reader.read_words(body, std::span<Torus>(batch.words));
}

void read_seed(const JsonSection& section, const Json& json, EncryptedInput& tensor) {
  if (!from_hex(section.text(json, "mask_seed"), tensor.ciphertexts.seed))
    section.corrupt("'mask_seed' is not a seed");
}
void read_seed(const JsonSection&, const Json&, EncryptedOutput&) {}

template <class Encrypted>
Encrypted read_encrypted(const ByteSource& source, const char* content) {
  const ContainerReader reader(source, FileKind::ciphertext);
  Encrypted encrypted;
  encrypted.provenance = read_provenance(reader);
  if (reader.property("content") != content) {
    throw Error(ErrorCode::file_foreign,
                fmt::format("it holds {}; {} are expected", reader.property("content"), content),
                reader.where());
  }
  const JsonSection section(reader, "tensors");
  std::vector<std::string> names{"tensors"};
  for (const Json& json : section.array(section.root(), "tensors", kMaxTensors)) {
    auto& tensor = encrypted.tensors.emplace_back();
    tensor.name = section.text(json, "name");
    tensor.shape = section.shape(json, "shape");
    tensor.ciphertexts.dimension.value =
        static_cast<std::uint32_t>(section.integer(json, "dimension", 1, kMaxDimension));
    read_seed(section, json, tensor);
    names.push_back(body_section(encrypted.tensors.size() - 1));
  }
  reader.expect_sections(names);
  for (std::size_t t = 0; t < encrypted.tensors.size(); ++t) {
    auto& tensor = encrypted.tensors[t];
    read_body(reader, body_section(t), static_cast<std::size_t>(number_of_elements(tensor.shape)),
              tensor.ciphertexts);
  }
  return encrypted;
}

}  // namespace

std::string to_bytes(const EncryptedInputs& inputs) {
  return make_writer(inputs, kInputs).to_bytes();
}

void save_encrypted_inputs(const EncryptedInputs& inputs, const std::string& path) {
  make_writer(inputs, kInputs).to_file(path);
}

EncryptedInputs load_encrypted_inputs(const std::string& path) {
  return read_encrypted<EncryptedInputs>(FileSource(path), kInputs);
}

EncryptedInputs encrypted_inputs_from_bytes(std::string_view bytes, const std::string& name) {
  return read_encrypted<EncryptedInputs>(MemorySource(bytes, name), kInputs);
}

std::string to_bytes(const EncryptedOutputs& outputs) {
  return make_writer(outputs, kOutputs).to_bytes();
}

void save_encrypted_outputs(const EncryptedOutputs& outputs, const std::string& path) {
  make_writer(outputs, kOutputs).to_file(path);
}

EncryptedOutputs load_encrypted_outputs(const std::string& path) {
  return read_encrypted<EncryptedOutputs>(FileSource(path), kOutputs);
}

EncryptedOutputs encrypted_outputs_from_bytes(std::string_view bytes, const std::string& name) {
  return read_encrypted<EncryptedOutputs>(MemorySource(bytes, name), kOutputs);
}

}  // namespace torusml
