#include "cli/compile_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "artifact/cost_table_file.h"
#include "circuit/passes.h"
#include "circuit/text.h"
#include "cli/human.h"
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

LayerPrecision layer_precision(const std::string& text) {
  const std::size_t colon = text.find(':');
  LayerPrecision layer{.policy = parse_precision(text.substr(0, colon))};
  if (colon != std::string::npos) layer.tolerance = parse_number(text.substr(colon + 1), "--layer");
  return layer;
}

std::map<std::string, LayerPrecision> layer_precisions(const std::vector<std::string>& arguments) {
  std::map<std::string, LayerPrecision> layers;
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not NAME=PRECISION", argument),
                  "--layer", "relu1=exact or relu1=tolerant:2^-8");
    }
    const bool is_new =
        layers.emplace(argument.substr(0, equals), layer_precision(argument.substr(equals + 1)))
            .second;
    if (is_new) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' was given twice", argument.substr(0, equals)), "--layer",
                "one precision for each name");
  }
  return layers;
}

constexpr const char* kAutoBits = "auto";

int number_of_bits(const std::string& text) {
  const double value = parse_number(text, "--bits");
  if (value == std::floor(value) && std::abs(value) < 1e6) return static_cast<int>(value);
  throw Error(ErrorCode::invalid_argument, fmt::format("--bits is {}", text), "--bits",
              "a whole number, or auto");
}

PrecisionSearch precision_search(const CompileArguments& arguments, bool has_search) {
  PrecisionSearch search;
  search.max_trials = arguments.max_trials;
  search.seed = arguments.seed;
  const auto given = [](const std::string& text, const char* option) {
    return text.empty() ? 0 : parse_number(text, option);
  };
  search.target = make_target(has_search, given(arguments.agreement, "--agreement"),
                              given(arguments.relative_error, "--relative-error"), {}, 0);
  return search;
}

PlanOptions plan_options(const CompileArguments& arguments,
                         const std::optional<Rounding>& rounding) {
  PlanOptions options;
  options.precision = parse_precision(precision_with(arguments.precision, rounding));
  options.profile = parse_profile(arguments.profile);
  options.layers = layer_precisions(arguments.layers);
  options.p_error = probability(arguments.p_error, "--p-error");
  options.global_p_error = probability(arguments.global_p_error, "--global-p-error");
  if (!arguments.tolerance.empty()) {
    check_own_tolerance(options.precision, "--tolerance");
    options.tolerance = parse_number(arguments.tolerance, "--tolerance");
  }
  options.security_bits = arguments.security_bits;
  options.key_set_source = parse_key_set_source(arguments.parameters);
  options.max_key_sets = arguments.max_key_sets;
  options.pack_outputs = parse_pack_outputs(arguments.pack_outputs);
  if (!arguments.cost_table.empty()) options.cost_table = load_cost_table(arguments.cost_table);
  return options;
}

void check_stage(const std::string& stage) {
  std::vector<std::string> known{kFirstStage};
  for (const Pass& pass : passes()) known.emplace_back(pass.name);
  known.emplace_back(kIdlePass);
  known.emplace_back(kScalesPass);
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

}  // namespace

CompileOptions compile_options(const CompileArguments& arguments) {
  CompileOptions options;
  options.choose_bits = arguments.bits == kAutoBits;
  const int bits = options.choose_bits ? 8 : number_of_bits(arguments.bits);
  options.quantization = {QuantizationBits::uniform(bits),
                          arguments.qat,
                          parse_quantization_method(arguments.method),
                          arguments.percentile,
                          arguments.accumulator_bits,
                          arguments.seed,
                          {}};
  options.rounding = parse_rounding(arguments.rounding, "--rounding");
  options.plan = plan_options(arguments, options.rounding);
  options.search = precision_search(
      arguments, options.choose_bits || options.plan.precision == Precision::automatic);
  options.margin = arguments.margin;
  options.clear_inputs = arguments.clear;
  check_stage(arguments.print_after);
  options.hooks = printing_hooks(arguments.print_after);
  return options;
}

std::vector<std::string> input_names(const FloatGraph& graph) {
  std::vector<std::string> names;
  for (const GraphInput& input : graph.inputs) names.push_back(input.name);
  return names;
}

void check_clear(const FloatGraph& graph, const std::vector<std::string>& clear) {
  Circuit inputs;
  for (const std::string& name : input_names(graph)) inputs.nodes.push_back({name, Input{}});
  declare_clear(inputs, clear);
}

}  // namespace torusml
