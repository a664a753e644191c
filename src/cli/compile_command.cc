#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "artifact/cost_table_file.h"
#include "circuit/passes.h"
#include "circuit/text.h"
#include "cli/commands.h"
#include "cli/human.h"
#include "cli/key_set_text.h"
#include "cli/named_files.h"
#include "compiler/quantized_module.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr const char* kFirstStage = "lowering";
constexpr const char* kAllStages = "all";

double probability(const std::string& text, const std::string& option) {
  if (text.empty()) return 0;
  const double value = parse_number(text, option);
  if (value > 0 && value < 1) return value;
  throw Error(ErrorCode::p_error_out_of_range,
              fmt::format("{} is {}; it must lie between 0 and 1", option, value), option, "2^-40");
}

PlanOptions plan_options(const CompileArguments& arguments,
                         const std::optional<Rounding>& rounding) {
  PlanOptions options;
  options.precision = parse_precision(precision_with(arguments.precision, rounding));
  options.profile = parse_profile(arguments.profile);
  options.p_error = probability(arguments.p_error, "--p-error");
  options.global_p_error = probability(arguments.global_p_error, "--global-p-error");
  if (!arguments.tolerance.empty())
    options.tolerance = parse_number(arguments.tolerance, "--tolerance");
  options.security_bits = arguments.security_bits;
  options.key_set_source = parse_key_set_source(arguments.parameters);
  options.max_key_sets = arguments.max_key_sets;
  if (!arguments.cost_table.empty()) options.cost_table = load_cost_table(arguments.cost_table);
  return options;
}

void check_stage(const std::string& stage) {
  std::vector<std::string> known{kFirstStage};
  for (const Pass& pass : passes()) known.emplace_back(pass.name);
  known.emplace_back(kAllStages);
  if (stage.empty() || std::find(known.begin(), known.end(), stage) != known.end()) return;
  throw Error(ErrorCode::unknown_option, fmt::format("there is no rewrite '{}'", stage),
              "--print-after", fmt::format("{}", fmt::join(known, ", ")));
}

CompileHooks printing_hooks(const std::string& stage) {
  if (stage.empty()) return {};
  return {.after_pass = [stage](std::string_view pass, const Circuit& circuit) {
    if (stage == kAllStages || stage == pass)
      fmt::print("after {}\n{}\n", pass, print(circuit, {.constants = false}));
  }};
}

std::vector<std::string> input_names(const FloatGraph& graph) {
  std::vector<std::string> names;
  for (const GraphInput& input : graph.inputs) names.push_back(input.name);
  return names;
}

void print_summary(const CompileArguments& arguments, const CompiledModel& model, double seconds) {
  const Plan& plan = model.plan;
  const KeyBytes key = key_bytes(plan.key_sets);
  const std::uint64_t bytes = std::filesystem::file_size(arguments.output);
  const std::string hash = to_hex(hash_of(model));
  if (arguments.json) {
    const nlohmann::json summary{
        {"output", arguments.output},
        {"model_hash", hash},
        {"bytes", bytes},
        {"seconds", seconds},
        {"lookups", plan.lookup_count},
        {"rotations", count_bootstraps(model.circuit, plan).rotations},
        {"keyswitches", count_bootstraps(model.circuit, plan).keyswitches},
        {"maximum_bits", maximum_bit_width(model.circuit)},
        {"p_error", plan.options.p_error},
        {"sample_p_error", plan.sample_p_error},
        {"precision", to_string(plan.options.precision)},
        {"profile", to_string(plan.options.profile)},
        {"security_bits", plan.options.security_bits},
        {"cost_ms_per_core", plan.cost_ms_per_core},
        {"key_set", names_of(plan.key_sets)},
        {"key_memory_bytes", key.memory},
        {"key_wire_bytes", key.wire},
    };
    fmt::print("{}\n", summary.dump(2));
    return;
  }
  fmt::print("{}: {}, model {}, compiled in {}\n", arguments.output, human_bytes(bytes),
             hash.substr(0, 12), human_seconds(seconds));
  fmt::print("  {}, {} bits at most, {} per sample ({}), about {} on one core\n",
             to_string(plan.options.precision), maximum_bit_width(model.circuit),
             counted(plan.lookup_count, "lookup"),
             counted(count_bootstraps(model.circuit, plan).rotations, "blind rotation"),
             human_seconds(plan.cost_ms_per_core / 1000));
  fmt::print("  {}, {} bits of security, p_error {}", to_string(plan.options.profile),
             plan.options.security_bits, human_probability(plan.options.p_error));
  for (const KeySet& set : plan.key_sets) {
    const TfheParameters& p = set.parameters;
    fmt::print("{} N {}, k {}, n {}", &set == &plan.key_sets.front() ? "," : ";",
               p.polynomial_size.value, p.glwe_dimension.value, p.small_dimension.value);
  }
  fmt::print("\n");
  if (!plan.key_sets.front().parameters.has_bootstrap()) return;
  fmt::print("  key set{} {}, evaluation keys about {} in memory, {} on the wire\n",
             plan.key_sets.size() == 1 ? "" : "s", names_of(plan.key_sets),
             human_bytes(static_cast<std::uint64_t>(key.memory)),
             human_bytes(static_cast<std::uint64_t>(key.wire)));
  if (plan.one_key_set) fmt::print("  {}\n", one_key_set_text(*plan.one_key_set));
}

}  // namespace

void run_compile(const CompileArguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  CompileOptions options;
  options.quantization = {QuantizationBits::uniform(arguments.bits), arguments.qat};
  options.rounding = parse_rounding(arguments.rounding, "--rounding");
  options.plan = plan_options(arguments, options.rounding);
  options.margin = arguments.margin;
  check_stage(arguments.print_after);
  options.hooks = printing_hooks(arguments.print_after);
  FloatGraph graph = import_onnx(arguments.model);
  const std::vector<Tensor<double>> calibration =
      read_named_arrays(arguments.calibration, input_names(graph), "--calibration");
  const CompiledModel model = compile_model(std::move(graph), calibration, options);
  save_model(model, arguments.output);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  print_summary(arguments, model, elapsed.count());
}

}  // namespace torusml
