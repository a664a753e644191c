#include "artifact/checkpoint_file.h"

#include <fmt/format.h>

#include "artifact/container.h"
#include "artifact/json_fields.h"
#include "artifact/provenance.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxTensors = 1 << 16;
constexpr std::int64_t kMost = std::int64_t{1} << 40;
constexpr std::int64_t kMaxDimension = 1 << 20;

std::span<const std::uint8_t> bytes_of(std::span<const Torus> words) {
  return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size_bytes()};
}
std::span<const std::uint8_t> bytes_of(std::span<const std::int64_t> integers) {
  return {reinterpret_cast<const std::uint8_t*>(integers.data()), integers.size_bytes()};
}

std::string value_section(ValueId value) { return fmt::format("value.{}", value); }
std::string output_section(std::size_t output) { return fmt::format("output.{}", output); }

Json description(const LweBatch& batch) {
  return {{"dimension", batch.dimension.value}, {"count", batch.count}};
}

LweBatch read_batch(const ContainerReader& reader, const JsonSection& run, const Json& json,
                    const std::string& section) {
  const LweDimension dimension{
      static_cast<std::uint32_t>(run.integer(json, "dimension", 1, kMaxDimension))};
  const auto count = static_cast<std::size_t>(run.integer(json, "count", 0, kMost));
  // The file has as many bytes, so what is allocated is never more than was read.
  reader.check_raw_size(section, count * (dimension.value + std::size_t{1}) * sizeof(Torus));
  LweBatch batch(dimension, count);
  reader.read_words(section, std::span<Torus>(batch.words));
  return batch;
}

void check_inputs(const ContainerReader& reader, const Digest& inputs) {
  Digest found{};
  if (!from_hex(reader.property("inputs"), found))
    reader.corrupt("header", "property 'inputs' is not a SHA-256");
  if (found == inputs) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the checkpoint is of a run on other inputs: {} instead of {}",
                          short_hex(found), short_hex(inputs)),
              reader.where(), "the same inputs, or another checkpoint file");
}

}  // namespace

Digest inputs_digest(const EncryptedInputs& inputs) {
  Sha256 hash;
  for (const EncryptedInput& tensor : inputs.tensors) {
    const SeededLweBatch& ciphertexts = tensor.ciphertexts;
    hash.update(fmt::format("{} {} {} {}\n", tensor.name, to_string(tensor.shape),
                            ciphertexts.dimension.value,
                            tensor.clear ? "clear" : to_hex(ciphertexts.seed)));
    hash.update(tensor.clear ? bytes_of(*tensor.clear) : bytes_of(ciphertexts.bodies));
  }
  return hash.finish();
}

void save_checkpoint(const RunView& run, const Provenance& provenance, const Digest& inputs,
                     const std::string& path) {
  ContainerWriter writer(FileKind::checkpoint);
  set_provenance(writer, provenance);
  writer.set("inputs", to_hex(inputs));
  Json values = Json::array(), outputs = Json::array();
  for (const auto& [value, batch] : run.values) {
    Json json = description(*batch);
    json["value"] = value;
    values.push_back(std::move(json));
  }
  for (const LweBatch& output : run.outputs) outputs.push_back(description(output));
  writer.add_text("run", json_text({{"first_sample", run.position.first_sample},
                                    {"samples", run.position.samples},
                                    {"next_node", run.position.next_node},
                                    {"values", std::move(values)},
                                    {"outputs", std::move(outputs)}}));
  for (const auto& [value, batch] : run.values)
    writer.add_view(value_section(value), bytes_of(batch->words));
  for (std::size_t o = 0; o < run.outputs.size(); ++o)
    writer.add_view(output_section(o), bytes_of(run.outputs[o].words));
  writer.to_file(path);
}

RunState load_checkpoint(const std::string& path, const Provenance& provenance,
                         const Digest& inputs) {
  const FileSource source(path);
  const ContainerReader reader(source, {FileKind::checkpoint});
  const Provenance found = read_provenance(reader);
  check_model(provenance.model, found.model, "the checkpoint");
  check_key(provenance.key, found.key, "the checkpoint");
  check_inputs(reader, inputs);
  const JsonSection run(reader, "run");
  RunState state;
  const auto number = [&](const char* key) {
    return static_cast<std::size_t>(run.integer(run.root(), key, 0, kMost));
  };
  state.position = {number("first_sample"), number("samples"), number("next_node")};
  std::vector<std::string> names{"run"};
  for (const Json& json : run.array(run.root(), "values", kMaxTensors)) {
    const auto value = static_cast<ValueId>(run.integer(json, "value", 0, UINT32_MAX));
    names.push_back(value_section(value));
    if (!state.values.emplace(value, read_batch(reader, run, json, names.back())).second)
      run.corrupt(fmt::format("tensor {} is there twice", value));
  }
  for (const Json& json : run.array(run.root(), "outputs", kMaxTensors)) {
    names.push_back(output_section(state.outputs.size()));
    state.outputs.push_back(read_batch(reader, run, json, names.back()));
  }
  reader.expect_sections(names);
  return state;
}

}  // namespace torusml
