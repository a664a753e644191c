#include <fmt/format.h>

#include <bit>

#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/provenance.h"
#include "tfhe/wire_words.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 1024;
constexpr std::int64_t kMaxDimension = 1 << 20;
constexpr std::size_t kMostBits = std::size_t{1} << 62;

constexpr const char* kInputs = "encrypted inputs";
constexpr const char* kOutputs = "encrypted outputs";

std::string body_section(std::size_t tensor) { return fmt::format("tensor.{}", tensor); }

Json description(const EncryptedInput& tensor) {
  Json json{{"name", tensor.name},
            {"shape", tensor.shape},
            {"dimension", tensor.ciphertexts.dimension.value}};
  if (tensor.clear)
    json["clear"] = true;
  else
    json["mask_seed"] = to_hex(tensor.ciphertexts.seed);
  return json;
}

Json description(const EncryptedOutput& tensor) {
  Json json{{"name", tensor.name},
            {"shape", tensor.shape},
            {"dimension", tensor.dimension().value},
            {"wire_bits", tensor.wire_bits}};
  if (tensor.packed) json["packed"] = true;
  return json;
}

std::vector<std::uint8_t> body_of(const EncryptedInput& tensor) {
  if (!tensor.clear) return pack_words(tensor.ciphertexts.bodies, kWordBits);
  const std::vector<Torus> words(tensor.clear->begin(), tensor.clear->end());
  return pack_words(words, kWordBits);
}
std::vector<std::uint8_t> body_of(const EncryptedOutput& tensor) {
  return pack_words(tensor.packed ? tensor.packed->words : tensor.ciphertexts.words,
                    tensor.wire_bits);
}

// A container, and the bytes that it views.
struct Packed {
  std::vector<std::vector<std::uint8_t>> bodies;  // by tensor
  ContainerWriter writer{FileKind::ciphertext};
};

template <class Encrypted>
Packed pack(const Encrypted& encrypted, const char* content) {
  Packed packed;
  ContainerWriter& writer = packed.writer;
  set_provenance(writer, encrypted.provenance);
  writer.set("content", content);
  Json tensors = Json::array();
  for (const auto& tensor : encrypted.tensors) tensors.push_back(description(tensor));
  writer.add_text("tensors", json_text({{"tensors", std::move(tensors)}}));
  for (const auto& tensor : encrypted.tensors) packed.bodies.push_back(body_of(tensor));
  for (std::size_t t = 0; t < packed.bodies.size(); ++t)
    writer.add_view(body_section(t), packed.bodies[t]);
  return packed;
}

// The body of an input is one word per element, a clear integer or a body; that of an output whole
// ciphertexts in fewer bits.
void read_body(const ContainerReader& reader, const std::string& body, std::size_t elements,
               EncryptedInput& tensor) {
  std::vector<Torus>& bodies = tensor.ciphertexts.bodies;
  reader.check_raw_size(body, elements * sizeof(Torus));
  bodies.resize(elements);
  reader.read_words(body, std::span(bodies));
  if (!tensor.clear) return;
  tensor.clear->assign(bodies.begin(), bodies.end());
  bodies.clear();
}

void read_body(const ContainerReader& reader, const std::string& body, std::size_t elements,
               EncryptedOutput& tensor) {
  const LweDimension dimension = tensor.ciphertexts.dimension;
  // At most 2^40 elements of 2^20 words of a bit: compared before they are multiplied by 64.
  const std::size_t words = tensor.packed ? PackedResults::word_count(dimension, elements)
                                          : elements * (dimension.value + std::size_t{1});
  if (words > kMostBits / kWordBits) reader.corrupt(body, "its tensor is larger than any file");
  std::vector<std::uint8_t> bytes;
  reader.check_raw_size(body, packed_bytes(words, tensor.wire_bits));
  bytes.resize(packed_bytes(words, tensor.wire_bits));
  reader.read(body, bytes);
  if (tensor.packed) {
    tensor.packed.emplace(dimension, elements);
    tensor.ciphertexts = {};
  } else {
    tensor.ciphertexts = LweBatch(dimension, elements);
  }
  AlignedBuffer<Torus>& all = tensor.packed ? tensor.packed->words : tensor.ciphertexts.words;
  if (!unpack_words(bytes, tensor.wire_bits, all))
    reader.corrupt(body, "bits follow the last word");
}

void read_details(const JsonSection& section, const Json& json, EncryptedInput& tensor) {
  if (section.flag(json, "clear")) {
    tensor.clear.emplace();
    return;
  }
  if (!from_hex(section.text(json, "mask_seed"), tensor.ciphertexts.seed))
    section.corrupt("'mask_seed' is not a seed");
}
void read_details(const JsonSection& section, const Json& json, EncryptedOutput& tensor) {
  tensor.wire_bits =
      static_cast<int>(section.integer(json, "wire_bits", kLeastWireBits, kWordBits));
  if (!section.flag(json, "packed")) return;
  const std::uint32_t dimension = tensor.ciphertexts.dimension.value;
  if (!std::has_single_bit(dimension)) {
    section.corrupt(
        fmt::format("'packed' results have dimension {}, which is no power of two", dimension));
  }
  tensor.packed.emplace();
}

template <class Encrypted>
Encrypted read_encrypted(const ByteSource& source, const char* content, std::uint64_t max_bytes) {
  const ContainerReader reader(source, {FileKind::ciphertext}, max_bytes);
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
    read_details(section, json, tensor);
    names.push_back(body_section(encrypted.tensors.size() - 1));
  }
  reader.expect_sections(names);
  for (std::size_t t = 0; t < encrypted.tensors.size(); ++t) {
    auto& tensor = encrypted.tensors[t];
    read_body(reader, body_section(t), static_cast<std::size_t>(number_of_elements(tensor.shape)),
              tensor);
  }
  return encrypted;
}

}  // namespace

std::string to_bytes(const EncryptedInputs& inputs) {
  return pack(inputs, kInputs).writer.to_bytes();
}

void save_encrypted_inputs(const EncryptedInputs& inputs, const std::string& path) {
  pack(inputs, kInputs).writer.to_file(path);
}

EncryptedInputs load_encrypted_inputs(const std::string& path, std::uint64_t max_bytes) {
  return read_encrypted<EncryptedInputs>(FileSource(path), kInputs, max_bytes);
}

EncryptedInputs encrypted_inputs_from_bytes(std::string_view bytes, std::uint64_t max_bytes,
                                            const std::string& name) {
  return read_encrypted<EncryptedInputs>(MemorySource(bytes, name), kInputs, max_bytes);
}

std::string to_bytes(const EncryptedOutputs& outputs) {
  return pack(outputs, kOutputs).writer.to_bytes();
}

void save_encrypted_outputs(const EncryptedOutputs& outputs, const std::string& path) {
  pack(outputs, kOutputs).writer.to_file(path);
}

EncryptedOutputs load_encrypted_outputs(const std::string& path, std::uint64_t max_bytes) {
  return read_encrypted<EncryptedOutputs>(FileSource(path), kOutputs, max_bytes);
}

EncryptedOutputs encrypted_outputs_from_bytes(std::string_view bytes, std::uint64_t max_bytes,
                                              const std::string& name) {
  return read_encrypted<EncryptedOutputs>(MemorySource(bytes, name), kOutputs, max_bytes);
}

}  // namespace torusml
