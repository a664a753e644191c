#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "artifact/describe.h"
#include "circuit/text.h"
#include "cli/commands.h"
#include "cli/human.h"
#include "cli/key_set_text.h"
#include "report/model_report.h"
#include "runtime/memory.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Json = nlohmann::json;

struct LayerRow {
  std::string name, kind;
  bool is_clear = false;  // computed as integers
  Shape shape;
  Interval interval;
  std::int64_t lookups = 0;
  const LookupPlan* lookup = nullptr;
};

std::vector<LayerRow> layers(const Circuit& circuit, const Plan& plan) {
  const std::vector<bool> is_clear = clear_values(circuit);
  std::vector<LayerRow> rows;
  const auto add = [&](const Node& node, const char* kind, ValueId value, std::int64_t tables) {
    const TensorType& type = circuit.values[value];
    rows.push_back({node.name, kind, is_clear[value], type.shape, type.interval,
                    tables * number_of_elements(type.shape)});
  };
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    const Node& node = circuit.nodes[n];
    if (const auto* input = std::get_if<Input>(&node.op)) add(node, "input", input->result, 0);
    if (const auto* linear = std::get_if<Linear>(&node.op)) add(node, "linear", linear->result, 0);
    if (const auto* output = std::get_if<Output>(&node.op)) add(node, "output", output->operand, 0);
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      for (const ValueId result : lut->results) {
        const bool is_encrypted = !is_clear[lut->operand];
        add(node, "lookup", result, is_encrypted ? 1 : 0);
        if (is_encrypted) rows.back().lookup = &plan.lookups.at(n);
      }
    }
  }
  return rows;
}

std::string text(Interval interval) {
  return fmt::format("[{}, {}]", interval.lower, interval.upper);
}

Json json(Interval interval) { return {interval.lower, interval.upper}; }

Json json(const TfheParameters& p) {
  return {
      {"small_dimension", p.small_dimension.value},
      {"glwe_dimension", p.glwe_dimension.value},
      {"polynomial_size", p.polynomial_size.value},
      {"bootstrap", {{"base_log2", p.bootstrap.base_log2}, {"levels", p.bootstrap.level_count}}},
      {"keyswitch", {{"base_log2", p.keyswitch.base_log2}, {"levels", p.keyswitch.level_count}}},
      {"circuit_bootstrap",
       {{"base_log2", p.circuit_bootstrap.base_log2}, {"levels", p.circuit_bootstrap.level_count}}},
      {"trace", {{"base_log2", p.trace.base_log2}, {"levels", p.trace.level_count}}},
      {"grouping_factor", p.grouping_factor},
      {"accumulator_bits", p.accumulator_bits},
      {"small_variance", p.small_variance.value},
      {"glwe_variance", p.glwe_variance.value}};
}

// Of one sample on one thread.
Json json(const MemoryEstimate& memory) {
  return {{"bytes", memory.total()},
          {"key_bytes", memory.keys},
          {"ciphertext_bytes", memory.ciphertexts},
          {"table_bytes", memory.tables},
          {"scratch_bytes", memory.scratch},
          {"layer", memory.layer}};
}

void print_memory(const MemoryEstimate& memory) {
  fmt::print(
      "about {} of memory for one sample on one thread: {} of keys; at layer '{}' {} of "
      "ciphertexts, {} of tables, {} of scratch\n",
      human_bytes(memory.total()), human_bytes(memory.keys), memory.layer,
      human_bytes(memory.ciphertexts), human_bytes(memory.tables), human_bytes(memory.scratch));
}

void print_parameters(const TfheParameters& p) {
  const auto sigma = [](Variance v) { return v.value > 0 ? 0.5 * std::log2(v.value) : -INFINITY; };
  if (!p.has_bootstrap()) {
    fmt::print("parameters: no bootstrap, N {}, k {}, sigma 2^{:.2f}\n", p.polynomial_size.value,
               p.glwe_dimension.value, sigma(p.glwe_variance));
    return;
  }
  fmt::print(
      "parameters: n {}, k {}, N {}; bootstrap {} x 2^{}, keyswitch {} x 2^{}; {} key bits a step, "
      "{}-bit accumulators; sigma 2^{:.2f} and 2^{:.2f}\n",
      p.small_dimension.value, p.glwe_dimension.value, p.polynomial_size.value,
      p.bootstrap.level_count, p.bootstrap.base_log2, p.keyswitch.level_count,
      p.keyswitch.base_log2, p.grouping_factor, p.accumulator_bits, sigma(p.small_variance),
      sigma(p.glwe_variance));
  if (p.has_circuit_bootstrap()) {
    fmt::print("circuit bootstrapping for wide lookups: {} x 2^{}, trace {} x 2^{}\n",
               p.circuit_bootstrap.level_count, p.circuit_bootstrap.base_log2, p.trace.level_count,
               p.trace.base_log2);
  } else if (p.has_trace()) {
    fmt::print("trace for packing of results: {} x 2^{}\n", p.trace.level_count, p.trace.base_log2);
  }
}

Json file_json(const FileDescription& file, const std::string& path) {
  Json sections = Json::array();
  for (const SectionInfo& section : file.sections) {
    sections.push_back({{"name", section.name},
                        {"stored_bytes", section.stored_size},
                        {"bytes", section.raw_size},
                        {"sha256", to_hex(section.sha256)}});
  }
  Json result{{"file", path},
              {"kind", to_string(file.kind)},
              {"bytes", file.file_bytes},
              {"producer", file.producer},
              {"properties", file.properties},
              {"sections", std::move(sections)}};
  for (const TfheParameters& p : file.key_sets) result["key_sets"].push_back(json(p));
  for (const EncryptedTensorDescription& tensor : file.tensors) {
    result["tensors"].push_back(
        {{"name", tensor.name}, {"shape", tensor.shape}, {"dimension", tensor.dimension}});
    if (tensor.wire_bits != 0) result["tensors"].back()["wire_bits"] = tensor.wire_bits;
    if (tensor.packed) result["tensors"].back()["packed"] = true;
    if (tensor.is_clear) result["tensors"].back()["clear"] = true;
  }
  if (!file.clear_inputs.empty()) result["clear_inputs"] = file.clear_inputs;
  return result;
}

Json key_sets_json(const Plan& plan, const Circuit& circuit) {
  const std::vector<std::int64_t> lookups = lookups_by_key_set(plan, circuit);
  Json list = Json::array();
  for (std::size_t s = 0; s < plan.key_sets.size(); ++s) {
    const KeySet& set = plan.key_sets[s];
    const KeyBytes bytes = key_bytes(set.parameters);
    list.push_back({{"name", set.name},
                    {"lookups", lookups[s]},
                    {"key_memory_bytes", bytes.memory},
                    {"key_wire_bytes", bytes.wire},
                    {"parameters", json(set.parameters)}});
  }
  return list;
}

Json json(const OneKeySet& one) {
  return {{"name", one.name},
          {"cost_ms_per_core", one.cost_ms_per_core},
          {"key_memory_bytes", one.key_bytes.memory},
          {"key_wire_bytes", one.key_bytes.wire}};
}

Json model_json(const CompiledModel& model) {
  const Plan& plan = model.plan;
  Json layer_list = Json::array(), ranges = Json::array();
  for (const LayerRow& row : layers(model.circuit, plan)) {
    layer_list.push_back({{"name", row.name},
                          {"kind", row.kind},
                          {"shape", row.shape},
                          {"interval", json(row.interval)},
                          {"bits", bit_width(row.interval)},
                          {"lookups", row.lookups}});
    if (row.is_clear) layer_list.back()["clear"] = true;
    if (row.lookup == nullptr) continue;
    Json& layer = layer_list.back();
    layer["key_set"] = plan.key_sets[row.lookup->key_set].name;
    layer["step_probability"] = row.lookup->step_probability;
    layer["far_probability"] = row.lookup->far_probability;
    layer["flip_probability"] = row.lookup->flip_probability;
    layer["wrap_probability"] = row.lookup->wrap_probability;
  }
  for (const RangeReport& range : model.ranges) {
    ranges.push_back({{"name", range.name},
                      {"calibrated", json(range.calibrated)},
                      {"guaranteed", json(range.guaranteed)},
                      {"declared", json(range.declared)},
                      {"bits", range.bits},
                      {"feeds_table", range.feeds_table}});
  }
  const KeyBytes bytes = key_bytes(plan.key_sets);
  Json result{{"name", model.client.model_name},
              {"precision", to_string(plan.options.precision)},
              {"profile", to_string(plan.options.profile)},
              {"security_bits", plan.options.security_bits},
              {"p_error", plan.options.p_error},
              {"sample_p_error", plan.sample_p_error},
              {"lookups", plan.lookup_count},
              {"rotations", count_bootstraps(model.circuit, plan).rotations},
              {"keyswitches", count_bootstraps(model.circuit, plan).keyswitches},
              {"maximum_bits", maximum_bit_width(model.circuit)},
              {"cost_ms_per_core", plan.cost_ms_per_core},
              {"key_set", names_of(plan.key_sets)},
              {"key_sets", key_sets_json(plan, model.circuit)},
              {"key_memory_bytes", bytes.memory},
              {"key_wire_bytes", bytes.wire},
              {"memory", json(estimate_memory(model.circuit, plan, {}))},
              {"layers", std::move(layer_list)},
              {"ranges", std::move(ranges)},
              {"plan", print(plan, model.circuit)}};
  if (plan.one_key_set) result["one_key_set"] = json(*plan.one_key_set);
  return result;
}

// Rows of cells as aligned columns.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  for (const auto& row : rows) {
    std::string line = " ";
    for (std::size_t c = 0; c < row.size(); ++c) line += fmt::format(" {:<{}}", row[c], widths[c]);
    fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
  }
}

void print_key_sets(const Plan& plan, const Circuit& circuit) {
  const std::vector<std::int64_t> lookups = lookups_by_key_set(plan, circuit);
  const KeyBytes bytes = key_bytes(plan.key_sets);
  for (std::size_t s = 0; s < plan.key_sets.size(); ++s) {
    const KeySet& set = plan.key_sets[s];
    if (plan.key_sets.size() == 1)
      fmt::print("key set: {}\n", set.name);
    else
      fmt::print("key set {}, for {}: {}\n", s + 1, counted(lookups[s], "lookup"), set.name);
    print_parameters(set.parameters);
  }
  fmt::print("evaluation keys about {} in memory, {} on the wire\n",
             human_bytes(static_cast<std::uint64_t>(bytes.memory)),
             human_bytes(static_cast<std::uint64_t>(bytes.wire)));
  if (plan.one_key_set) fmt::print("{}\n", one_key_set_text(*plan.one_key_set));
}

void print_model(const CompiledModel& model) {
  const Plan& plan = model.plan;
  fmt::print("{}, {}, {} bits of security\n", to_string(plan.options.precision),
             to_string(plan.options.profile), plan.options.security_bits);
  fmt::print("p_error {} per lookup and output, {} per sample\n",
             human_probability(plan.options.p_error), human_probability(plan.sample_p_error));
  const BootstrapCount count = count_bootstraps(model.circuit, plan);
  fmt::print("{} per sample ({}, {}), about {} on one core\n", counted(plan.lookup_count, "lookup"),
             counted(count.rotations, "blind rotation"),
             counted(count.keyswitches, "keyswitch", "keyswitches"),
             human_seconds(plan.cost_ms_per_core / 1000));
  print_key_sets(plan, model.circuit);
  print_memory(estimate_memory(model.circuit, plan, {}));

  const bool has_two = plan.key_sets.size() > 1;
  std::vector<std::vector<std::string>> rows{{"layer", "kind", "shape", "interval", "bits",
                                              "lookups", "off by one", "by more", "wrapped",
                                              has_two ? "key set" : ""}};
  for (const LayerRow& row : layers(model.circuit, plan)) {
    rows.push_back({row.name, row.kind + (row.is_clear ? ", clear" : ""), to_string(row.shape),
                    text(row.interval), std::to_string(bit_width(row.interval))});
    if (row.lookup == nullptr) {
      rows.back().resize(rows.front().size());
      continue;
    }
    const LookupPlan& lookup = *row.lookup;
    const double one = std::max(0.0, lookup.step_probability - lookup.far_probability);
    for (const std::string& cell :
         {std::to_string(row.lookups), human_probability(one),
          human_probability(lookup.far_probability), human_probability(lookup.wrap_probability),
          has_two ? std::to_string(lookup.key_set + 1) : ""})
      rows.back().push_back(cell);
  }
  fmt::print("\nlayers\n");
  print_table(rows);
  if (!model.ranges.empty()) {
    rows = {{"range of", "calibrated", "guaranteed", "declared", "bits", ""}};
    for (const RangeReport& range : model.ranges) {
      rows.push_back({range.name, text(range.calibrated), text(range.guaranteed),
                      text(range.declared), std::to_string(range.bits),
                      range.feeds_table ? "to a table" : ""});
    }
    fmt::print("\nranges\n");
    print_table(rows);
  }
  fmt::print("\n{}", print(plan, model.circuit));
}

std::string ciphertexts_text(const EncryptedTensorDescription& tensor) {
  const std::int64_t elements = number_of_elements(tensor.shape);
  if (!tensor.packed) return counted(elements, "ciphertext");
  const std::int64_t dimension = tensor.dimension;
  return fmt::format("packed in {}", counted((elements + dimension - 1) / dimension, "ciphertext"));
}

void print_file(const FileDescription& file, const std::string& path) {
  fmt::print("{}: {}, {}, written by {}\n", path, to_string(file.kind),
             human_bytes(file.file_bytes), file.producer);
  for (const auto& [key, value] : file.properties) fmt::print("{}: {}\n", key, value);
  for (const TfheParameters& p : file.key_sets) print_parameters(p);
  for (const std::string& name : file.clear_inputs)
    fmt::print("input '{}' travels in the clear\n", name);
  for (const EncryptedTensorDescription& tensor : file.tensors) {
    if (tensor.is_clear) {
      fmt::print("tensor '{}': shape {}, in the clear\n", tensor.name, to_string(tensor.shape));
      continue;
    }
    fmt::print("tensor '{}': shape {}, {} of dimension {}{}\n", tensor.name,
               to_string(tensor.shape), ciphertexts_text(tensor), tensor.dimension,
               tensor.wire_bits == 0 ? "" : fmt::format(", {} bits a word", tensor.wire_bits));
  }
}

void write_page(const FileDescription& file, const InspectArguments& arguments) {
  if (file.kind != FileKind::model) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--html shows models; this file is of kind {}", to_string(file.kind)),
                arguments.file, "the compiled model (.tml), or inspect without --html");
  }
  const CompiledModel model = load_model(arguments.file).model;
  const std::uint64_t bytes = write_html_report(model, arguments.html);
  fmt::print("{}: {}, {} and {}\n", arguments.html, human_bytes(bytes),
             counted(static_cast<std::int64_t>(model.circuit.nodes.size()), "node"),
             counted(model.plan.lookup_count, "lookup"));
}

}  // namespace

void run_inspect(const InspectArguments& arguments) {
  const FileDescription file = describe_file(arguments.file);
  if (!arguments.html.empty()) return write_page(file, arguments);
  std::optional<CompiledModel> model;
  if (file.kind == FileKind::model) model = load_model(arguments.file).model;
  if (arguments.json) {
    Json result = file_json(file, arguments.file);
    if (model) result["model"] = model_json(*model);
    fmt::print("{}\n", result.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  print_file(file, arguments.file);
  if (model) print_model(*model);
}

}  // namespace torusml
