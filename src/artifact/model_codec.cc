#include "artifact/model_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "artifact/client_spec_codec.h"
#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/model_facts.h"
#include "artifact/plan_check.h"
#include "artifact/provenance.h"
#include "circuit/text.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxRanges = std::size_t{1} << 16;

// In the order of the file; the model hash goes over them in this order.
struct Sections {
  std::string circuit, plan, client, ranges;

  std::vector<std::pair<std::string, const std::string*>> all() const {
    return {{"circuit", &circuit}, {"plan", &plan}, {"client", &client}, {"ranges", &ranges}};
  }
};

Json precision_json(const PrecisionReport& report) {
  Json flips = Json::array();
  for (const auto& [node, rate] : report.flip_rates)
    flips.push_back({{"node", node}, {"flip_rate", rate}});
  Json json{{"flips", std::move(flips)},     {"criterion", to_string(report.criterion)},
            {"most_loss", report.most_loss}, {"loss", report.loss},
            {"samples", report.samples},     {"draws", report.draws},
            {"trials", report.trials},       {"exact_ms_per_core", report.exact_ms_per_core}};
  for (const auto& [loss, ms_per_core] : report.looser)
    json["looser"].push_back({{"loss", loss}, {"ms_per_core", ms_per_core}});
  return json;
}

// Ranges, and how precision "auto" chose, if it did.
std::string ranges_text(const CompiledModel& model) {
  Json list = Json::array();
  for (const RangeReport& range : model.ranges) {
    list.push_back({{"name", range.name},
                    {"calibrated", interval_json(range.calibrated)},
                    {"guaranteed", interval_json(range.guaranteed)},
                    {"declared", interval_json(range.declared)},
                    {"bits", range.bits},
                    {"feeds_table", range.feeds_table}});
  }
  Json root{{"ranges", std::move(list)}};
  if (model.precision) root["precision"] = precision_json(*model.precision);
  return json_text(root);
}

std::optional<PrecisionReport> read_precision(const ContainerReader& reader) {
  constexpr std::int64_t kMost = std::int64_t{1} << 53;
  const JsonSection section(reader, "ranges");
  if (!section.root().contains("precision")) return std::nullopt;
  const Json& json = section.object(section.root(), "precision");
  PrecisionReport report;
  reading(reader, "ranges",
          [&] { report.criterion = parse_criterion(section.text(json, "criterion")); });
  report.most_loss = section.number(json, "most_loss");
  report.loss = section.number(json, "loss");
  report.samples = section.integer(json, "samples", 0, kMost);
  report.draws = section.integer(json, "draws", 0, kMost);
  report.trials = section.integer(json, "trials", 0, kMost);
  report.exact_ms_per_core = section.number(json, "exact_ms_per_core");
  for (const Json& flip : section.array(json, "flips", kMaxRanges)) {
    const auto node = static_cast<std::size_t>(section.integer(flip, "node", 0, kMost));
    report.flip_rates[node] = section.number(flip, "flip_rate");
  }
  if (!json.contains("looser")) return report;
  for (const Json& choice : section.array(json, "looser", kMaxRanges))
    report.looser.push_back(
        {section.number(choice, "loss"), section.number(choice, "ms_per_core")});
  return report;
}

std::vector<RangeReport> read_ranges(const ContainerReader& reader) {
  const JsonSection section(reader, "ranges");
  std::vector<RangeReport> ranges;
  for (const Json& json : section.array(section.root(), "ranges", kMaxRanges)) {
    RangeReport range;
    range.name = section.text(json, "name");
    range.calibrated = section.interval(json, "calibrated");
    range.guaranteed = section.interval(json, "guaranteed");
    range.declared = section.interval(json, "declared");
    range.bits = static_cast<int>(section.integer(json, "bits", 1, 64));
    range.feeds_table = section.boolean(json, "feeds_table");
    ranges.push_back(std::move(range));
  }
  return ranges;
}

Sections make_sections(const CompiledModel& model) {
  return {print(model.circuit, {.clear = false}), print(model.plan, model.circuit),
          client_spec_text(model.client), ranges_text(model)};
}

ModelHash hash_sections(const Sections& sections) {
  Sha256 hash;
  for (const auto& [name, text] : sections.all()) {
    hash.update(fmt::format("{} {}\n", name, text->size()));
    hash.update(*text);
  }
  return {hash.finish()};
}

ContainerWriter make_writer(const CompiledModel& model) {
  const Sections sections = make_sections(model);
  ContainerWriter writer(FileKind::model);
  set_facts(writer, model.client.model_name, hash_sections(sections), model.plan.options);
  for (const auto& [name, text] : sections.all()) writer.add_text(name, *text);
  return writer;
}

// The client's half describes the same tensors as the circuit and the plan.
template <class Spec>
void check_spec(const ContainerReader& reader, const CompiledModel& model, const Spec& spec,
                const Node& node, ValueId value) {
  check_name(reader, "client", spec.name, node);
  const TensorType& type = model.circuit.values[value];
  const TensorPlan& encoding = model.plan.tensors[value];
  if (number_of_elements(spec.shape) != number_of_elements(type.shape) ||
      !(spec.interval == type.interval) || spec.torus_scale != encoding.scale ||
      spec.center != encoding.center) {
    reader.corrupt("client", fmt::format("'{}' is not what the circuit and the plan say of '{}'",
                                         spec.name, node.name));
  }
}

void check_options(const ContainerReader& reader, const PlanOptions& client,
                   const PlanOptions& plan) {
  const auto check = [&](const char* key, const auto& given, const auto& expected) {
    if (given == expected) return;
    reader.corrupt("client", fmt::format("'{}' is {}, the plan says {}", key, given, expected));
  };
  check("precision", to_string(client.precision), to_string(plan.precision));
  check("profile", to_string(client.profile), to_string(plan.profile));
  check("p_error", client.p_error, plan.p_error);
  check("global_p_error", client.global_p_error, plan.global_p_error);
  check("tolerance", client.tolerance, plan.tolerance);
  check("security_bits", client.security_bits, plan.security_bits);
  check("max_exact_bits", client.max_exact_bits, plan.max_exact_bits);
  check("parameters", to_string(client.key_set_source), to_string(plan.key_set_source));
  check("max_key_sets", client.max_key_sets, plan.max_key_sets);
}

void check_client(const ContainerReader& reader, const CompiledModel& model) {
  check_options(reader, model.client.options, model.plan.options);
  const std::vector<const Node*> inputs = input_nodes(model.circuit);
  const std::vector<const Node*> outputs = output_nodes(model.circuit);
  if (model.client.inputs.size() != inputs.size() || model.client.outputs.size() != outputs.size())
    reader.corrupt("client", "it has another number of inputs or outputs than the circuit");
  if (model.client.key_sets != parameters_of(model.plan.key_sets))
    reader.corrupt("client", "its key sets are not the plan's");
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check_spec(reader, model, model.client.inputs[i], *inputs[i],
               std::get<Input>(inputs[i]->op).result);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    check_spec(reader, model, model.client.outputs[i], *outputs[i],
               std::get<Output>(outputs[i]->op).operand);
  }
}

}  // namespace

StoredModel read_model(const ByteSource& source, std::uint64_t max_bytes) {
  const ContainerReader reader(source, {FileKind::model}, max_bytes);
  reader.expect_sections({"circuit", "plan", "client", "ranges"});
  StoredModel stored;
  stored.producer = reader.producer();
  Sections texts;
  texts.circuit = reader.read_text("circuit", kMaxDecompressedBytes);
  texts.plan = reader.read_text("plan", kMaxDecompressedBytes);
  texts.client = reader.read_text("client", kMaxDecompressedBytes);
  texts.ranges = reader.read_text("ranges", kMaxDecompressedBytes);
  stored.hash = hash_sections(texts);
  if (!(stored.hash == read_model_hash(reader)))
    reader.corrupt("header", "the model hash is not that of the sections");

  CompiledModel& model = stored.model;
  model.circuit = reading(reader, "circuit", [&] { return parse_circuit(texts.circuit); });
  model.plan = reading(reader, "plan", [&] { return parse_plan(texts.plan); });
  model.client = read_client_spec(reader, "client");
  mark_clear(model.circuit, model.client.inputs);
  check_plan(reader, model.circuit, model.plan);
  check_client(reader, model);
  check_facts(reader, model.client.model_name, model.plan.options);
  model.ranges = read_ranges(reader);
  model.precision = read_precision(reader);
  return stored;
}

ModelHash hash_of(const CompiledModel& model) { return hash_sections(make_sections(model)); }

std::string to_bytes(const CompiledModel& model) { return make_writer(model).to_bytes(); }

void save_model(const CompiledModel& model, const std::string& path) {
  make_writer(model).to_file(path);
}

StoredModel load_model(const std::string& path, std::uint64_t max_bytes) {
  return read_model(FileSource(path), max_bytes);
}

StoredModel model_from_bytes(std::string_view bytes, std::uint64_t max_bytes,
                             const std::string& name) {
  return read_model(MemorySource(bytes, name), max_bytes);
}

}  // namespace torusml
