#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "benchmark/machine.h"
#include "cli/commands.h"
#include "cli/compile_options.h"
#include "cli/decision_table.h"
#include "cli/human.h"
#include "cli/named_files.h"
#include "cli/npy.h"
#include "cli/progress_bar.h"
#include "compiler/bits_search.h"
#include "estimate/estimate.h"
#include "importer/onnx.h"
#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Labels are places of the largest score.
void check_labels(const Tensor<double>& labels, std::ptrdiff_t classes, const std::string& output) {
  if (classes < 2) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("output '{}' is a single number, and no score for each class", output),
                "--labels", "no labels: the estimate compares with the float network without them");
  }
  for (std::size_t s = 0; s < labels.data.size(); ++s) {
    const double label = labels.data[s];
    if (label >= 0 && label < static_cast<double>(classes) && label == std::floor(label)) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the label of sample {} is {}; output '{}' has the classes 0 to {}", s,
                            label, output, classes - 1),
                "--labels");
  }
}

// By the first output.
double accuracy_of(const CompiledModel& model, const std::vector<Tensor<double>>& calibration,
                   const std::string& file) {
  const Tensor<double> labels = read_npy(file);
  const std::int64_t samples = calibration[0].shape[0];
  if (labels.shape != Shape{samples}) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("labels of shape {} for {} samples", to_string(labels.shape), samples),
                "--labels", "one class for each calibration sample");
  }
  std::vector<Tensor<std::int64_t>> integers;
  for (std::size_t i = 0; i < calibration.size(); ++i)
    integers.push_back(quantize_input(model.client.inputs[i], calibration[i]));
  const Tensor<double> outputs = dequantize_output(
      model.client.outputs[0], run_simulated(model.circuit, model.plan, integers, 0)[0]);
  const auto classes = static_cast<std::ptrdiff_t>(outputs.data.size() / labels.data.size());
  check_labels(labels, classes, model.client.outputs[0].name);
  std::size_t right = 0;
  for (std::size_t s = 0; s < labels.data.size(); ++s) {
    const auto first = outputs.data.begin() + static_cast<std::ptrdiff_t>(s) * classes;
    const auto best = std::max_element(first, first + classes) - first;
    right += static_cast<double>(best) == labels.data[s] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(labels.data.size());
}

void check(const EstimateArguments& arguments) {
  const auto refuse = [](int value, const char* option) {
    throw Error(ErrorCode::invalid_argument, fmt::format("{} is {}; at least 1", option, value),
                option);
  };
  if (arguments.batch < 1) refuse(arguments.batch, "--batch");
  if (arguments.cores && *arguments.cores < 1) refuse(*arguments.cores, "--cores");
}

// A compiled model with its estimate.
struct Estimated {
  CompiledModel model;
  Estimate estimate;
  std::optional<BitsReport> bits;  // of bits auto
  std::optional<double> accuracy;  // simulated, with labels
};

Estimated make_estimate(const EstimateArguments& arguments) {
  CompileOptions options = compile_options(arguments.compile);
  const FloatGraph graph = import_onnx(arguments.compile.model);
  check_clear(graph, arguments.compile.clear);
  const std::vector<Tensor<double>> calibration =
      read_named_arrays(arguments.compile.calibration, input_names(graph), "--calibration");
  Estimated result;
  {
    ProgressBar bits("trials of bits"), bar("trials of precision");
    if (options.choose_bits)
      result.bits = choose_bits(graph, calibration, options, bits.callback());
    options.search.progress = bar.callback();
    result.model = compile_model(graph, calibration, options);
    options.search.progress = {};
  }
  if (!arguments.labels.empty())
    result.accuracy = accuracy_of(result.model, calibration, arguments.labels);
  ProgressBar bar("estimates");
  const std::size_t most_changes = arguments.without_changes ? 0 : 3;
  result.estimate =
      estimate_model(graph, calibration, options, result.model,
                     {arguments.batch, arguments.threads, most_changes}, bar.callback());
  return result;
}

std::string fidelity_text(Criterion criterion, double value) {
  if (criterion == Criterion::argmax)
    return fmt::format("{:.1f} % of predictions as the float network's", 100 * value);
  return fmt::format("relative error {:.3g} beside the float network", 1 - value);
}

void print_json(const EstimateArguments& arguments, const Estimated& estimated) {
  const Estimate& e = estimated.estimate;
  const Plan& plan = estimated.model.plan;
  const KeyBytes key = key_bytes(plan.key_sets);
  nlohmann::json json{
      {"cpu", describe_machine().cpu},
      {"threads", e.one.threads},
      {"security_bits", plan.options.security_bits},
      {"p_error", plan.options.p_error},
      {"sample_p_error", plan.sample_p_error},
      {"lookups", plan.lookup_count},
      {"rotations", count_bootstraps(estimated.model.circuit, plan).rotations},
      {"seconds_one_sample", e.one.seconds()},
      {"batch", arguments.batch},
      {"seconds_batch", e.seconds_of_batch()},
      {"key_set", names_of(plan.key_sets)},
      {"key_memory_bytes", key.memory},
      {"key_wire_bytes", key.wire},
      {"input_bytes", e.input_bytes},
      {"output_bytes", e.output_bytes},
      {"output_bytes_batch", e.output_bytes_batch},
      {"memory_bytes_one_sample", e.memory_bytes_one},
      {"memory_bytes_batch", e.memory_bytes_batch},
      {"fidelity", e.criterion == Criterion::argmax ? "argmax agreement with the float network"
                                                    : "1 - relative error to the float network"},
      {"fidelity_samples", e.samples},
      {"fidelity_clear", e.clear},
      {"fidelity_simulated", e.simulated},
      {"layers", decision_json(estimated.model)}};
  if (arguments.cores) {
    json["cores"] = *arguments.cores;
    json["seconds_one_sample_on_cores"] = seconds_on_cores(e.one, *arguments.cores);
  }
  if (estimated.accuracy) json["accuracy_simulated"] = *estimated.accuracy;
  if (estimated.bits) json["bits_search"] = bits_json(*estimated.bits);
  json["changes"] = nlohmann::json::array();
  for (const Change& change : e.changes) {
    json["changes"].push_back({{"what", change.what},
                               {"seconds_one_sample", e.seconds_after(change)},
                               {"lookups", change.lookups},
                               {"fidelity_simulated", change.fidelity}});
  }
  fmt::print("{}\n", json.dump(2));
}

void print_time(const EstimateArguments& arguments, const Estimated& estimated) {
  const Estimate& e = estimated.estimate;
  fmt::print("  {} on {}: {} a sample alone, {} in a batch of {}", counted(e.one.threads, "thread"),
             describe_machine().cpu, human_seconds(e.one.seconds()),
             human_seconds(e.seconds_of_batch() / e.batch_size), arguments.batch);
  if (arguments.cores)
    fmt::print("; {} a sample on {} like these",
               human_seconds(seconds_on_cores(e.one, *arguments.cores)),
               counted(*arguments.cores, "core"));
  fmt::print("\n");
}

void print_text(const EstimateArguments& arguments, const Estimated& estimated) {
  const Estimate& e = estimated.estimate;
  const Plan& plan = estimated.model.plan;
  const KeyBytes key = key_bytes(plan.key_sets);
  fmt::print("{}: {} a sample ({}), {} bits of security, p_error {}\n",
             estimated.model.circuit.name, counted(plan.lookup_count, "lookup"),
             counted(count_bootstraps(estimated.model.circuit, plan).rotations, "blind rotation"),
             plan.options.security_bits, human_probability(plan.options.p_error));
  print_time(arguments, estimated);
  fmt::print(
      "  evaluation keys {} in memory, {} on the wire; ciphertexts {} in, {} out, {} out for the "
      "batch; memory {} for a sample, {} for the batch\n",
      human_bytes(static_cast<std::uint64_t>(key.memory)),
      human_bytes(static_cast<std::uint64_t>(key.wire)), human_bytes(e.input_bytes),
      human_bytes(e.output_bytes), human_bytes(e.output_bytes_batch),
      human_bytes(e.memory_bytes_one), human_bytes(e.memory_bytes_batch));
  fmt::print("  on {}: simulated {}; in the clear {}\n",
             counted(static_cast<std::int64_t>(e.samples), "calibration sample"),
             fidelity_text(e.criterion, e.simulated), fidelity_text(e.criterion, e.clear));
  if (estimated.accuracy)
    fmt::print("  accuracy, simulated: {:.2f} %\n", 100 * *estimated.accuracy);
  if (estimated.bits) fmt::print("{}", bits_text(*estimated.bits));
  if (estimated.model.precision) fmt::print("  {}\n", precision_text(*estimated.model.precision));
  fmt::print("{}", decision_table(estimated.model));
  for (const Change& change : e.changes) {
    fmt::print("  change: {}: {} a sample, {}\n", change.what,
               human_seconds(e.seconds_after(change)), fidelity_text(e.criterion, change.fidelity));
  }
}

}  // namespace

void run_estimate(const EstimateArguments& arguments) {
  check(arguments);
  const Estimated estimated = make_estimate(arguments);
  arguments.json ? print_json(arguments, estimated) : print_text(arguments, estimated);
}

}  // namespace torusml
