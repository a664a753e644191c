#include <fmt/format.h>

#include "artifact/client_spec_codec.h"
#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/model_codec.h"
#include "artifact/model_facts.h"
#include "artifact/plan_check.h"
#include "artifact/provenance.h"
#include "circuit/text.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 4096;

std::vector<TensorName> names_of(const std::vector<InputSpec>& specs) {
  std::vector<TensorName> names;
  for (const InputSpec& spec : specs) names.push_back({spec.name, spec.shape, spec.is_clear});
  return names;
}
std::vector<TensorName> names_of(const std::vector<OutputSpec>& specs) {
  std::vector<TensorName> names;
  for (const OutputSpec& spec : specs) names.push_back({spec.name, spec.shape});
  return names;
}

ContainerWriter make_writer(const ClientHalf& half) {
  ContainerWriter writer(FileKind::client_half);
  set_facts(writer, half.spec.model_name, half.hash, half.spec.options);
  writer.add_text("client", client_spec_text(half.spec));
  return writer;
}

Json tensors_json(const std::vector<TensorName>& tensors) {
  Json list = Json::array();
  for (const TensorName& tensor : tensors) {
    list.push_back({{"name", tensor.name}, {"shape", tensor.shape}});
    if (tensor.is_clear) list.back()["clear"] = true;
  }
  return list;
}

ContainerWriter make_writer(const ServerHalf& half) {
  ContainerWriter writer(FileKind::server_half);
  set_facts(writer, half.spec.model_name, half.hash, half.spec.plan.options);
  writer.add_text("circuit", print(half.spec.circuit, {.clear = false}));
  writer.add_text("plan", print(half.spec.plan, half.spec.circuit));
  writer.add_text("server", json_text({{"model_name", half.spec.model_name},
                                       {"inputs", tensors_json(half.spec.inputs)},
                                       {"outputs", tensors_json(half.spec.outputs)}}));
  return writer;
}

ClientHalf read_client_half(const ByteSource& source, std::uint64_t max_bytes) {
  const ContainerReader reader(source, {FileKind::client_half, FileKind::model}, max_bytes);
  if (reader.kind() == FileKind::model) return client_half(read_model(source, max_bytes));
  reader.expect_sections({"client"});
  ClientHalf half{read_client_spec(reader, "client"), read_model_hash(reader), reader.producer()};
  check_facts(reader, half.spec.model_name, half.spec.options);
  return half;
}

std::vector<TensorName> read_tensors(const JsonSection& section, const char* key) {
  std::vector<TensorName> tensors;
  for (const Json& json : section.array(section.root(), key, kMaxTensors))
    tensors.push_back(
        {section.text(json, "name"), section.shape(json, "shape"), section.flag(json, "clear")});
  return tensors;
}

// As many as the circuit has, of its names and sizes. value_of: of a node.
template <class ValueOf>
void check_tensors(const ContainerReader& reader, const Circuit& circuit,
                   const std::vector<const Node*>& nodes, const ValueOf& value_of,
                   const std::vector<TensorName>& tensors) {
  if (nodes.size() != tensors.size()) {
    reader.corrupt("server", fmt::format("{} tensors are named, the circuit has {}", tensors.size(),
                                         nodes.size()));
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    check_name(reader, "server", tensors[i].name, *nodes[i]);
    const Shape& shape = circuit.values[value_of(*nodes[i])].shape;
    if (number_of_elements(tensors[i].shape) != number_of_elements(shape)) {
      reader.corrupt("server", fmt::format("'{}' has shape {}, in the circuit {}", tensors[i].name,
                                           to_string(tensors[i].shape), to_string(shape)));
    }
  }
}

ServerHalf read_server_half(const ByteSource& source, std::uint64_t max_bytes) {
  const ContainerReader reader(source, {FileKind::server_half, FileKind::model}, max_bytes);
  if (reader.kind() == FileKind::model) return server_half(read_model(source, max_bytes));
  reader.expect_sections({"circuit", "plan", "server"});
  ServerHalf half;
  half.hash = read_model_hash(reader);
  half.producer = reader.producer();
  ServerSpec& spec = half.spec;
  spec.circuit = reading(reader, "circuit", [&] {
    return parse_circuit(reader.read_text("circuit", kMaxDecompressedBytes));
  });
  spec.plan = reading(reader, "plan",
                      [&] { return parse_plan(reader.read_text("plan", kMaxDecompressedBytes)); });
  const JsonSection section(reader, "server");
  spec.model_name = section.text(section.root(), "model_name");
  spec.inputs = read_tensors(section, "inputs");
  mark_clear(spec.circuit, spec.inputs);
  check_plan(reader, spec.circuit, spec.plan);
  spec.outputs = read_tensors(section, "outputs");
  check_tensors(
      reader, spec.circuit, input_nodes(spec.circuit),
      [](const Node& node) { return std::get<Input>(node.op).result; }, spec.inputs);
  check_tensors(
      reader, spec.circuit, output_nodes(spec.circuit),
      [](const Node& node) { return std::get<Output>(node.op).operand; }, spec.outputs);
  check_facts(reader, spec.model_name, spec.plan.options);
  return half;
}

}  // namespace

ClientHalf client_half(const StoredModel& model) {
  return {model.model.client, model.hash, model.producer};
}

ServerHalf server_half(const StoredModel& model) {
  const CompiledModel& m = model.model;
  return {{m.client.model_name, m.circuit, m.plan, names_of(m.client.inputs),
           names_of(m.client.outputs)},
          model.hash,
          model.producer};
}

std::string to_bytes(const ClientHalf& half) { return make_writer(half).to_bytes(); }
std::string to_bytes(const ServerHalf& half) { return make_writer(half).to_bytes(); }

void save_client_half(const ClientHalf& half, const std::string& path) {
  make_writer(half).to_file(path);
}
void save_server_half(const ServerHalf& half, const std::string& path) {
  make_writer(half).to_file(path);
}

ClientHalf load_client_half(const std::string& path, std::uint64_t max_bytes) {
  return read_client_half(FileSource(path), max_bytes);
}
ServerHalf load_server_half(const std::string& path, std::uint64_t max_bytes) {
  return read_server_half(FileSource(path), max_bytes);
}
ClientHalf client_half_from_bytes(std::string_view bytes, std::uint64_t max_bytes,
                                  const std::string& name) {
  return read_client_half(MemorySource(bytes, name), max_bytes);
}
ServerHalf server_half_from_bytes(std::string_view bytes, std::uint64_t max_bytes,
                                  const std::string& name) {
  return read_server_half(MemorySource(bytes, name), max_bytes);
}

}  // namespace torusml
