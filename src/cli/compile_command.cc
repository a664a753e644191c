#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "cli/commands.h"
#include "cli/compile_options.h"
#include "cli/decision_table.h"
#include "cli/human.h"
#include "cli/key_set_text.h"
#include "cli/named_files.h"
#include "cli/progress_bar.h"
#include "cli/warning.h"
#include "compiler/bits_search.h"
#include "compiler/quantized_module.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml {
namespace {

nlohmann::json precision_json(const PrecisionReport& report) {
  nlohmann::json looser = nlohmann::json::array();
  for (const auto& [loss, ms_per_core] : report.looser)
    looser.push_back({{"loss", loss}, {"ms_per_core", ms_per_core}});
  return {{"criterion", to_string(report.criterion)},
          {"most_loss", report.most_loss},
          {"loss", report.loss},
          {"samples", report.samples},
          {"draws", report.draws},
          {"trials", report.trials},
          {"exact_ms_per_core", report.exact_ms_per_core},
          {"looser", std::move(looser)}};
}

void print_summary(const CompileArguments& arguments, const CompiledModel& model,
                   const std::optional<BitsReport>& bits, double seconds) {
  const Plan& plan = model.plan;
  const KeyBytes key = key_bytes(plan.key_sets);
  const std::uint64_t bytes = std::filesystem::file_size(arguments.output);
  const std::string hash = to_hex(hash_of(model));
  if (arguments.json) {
    nlohmann::json summary{
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
        {"layers", decision_json(model)},
    };
    if (bits) summary["bits_search"] = bits_json(*bits);
    if (model.precision) summary["precision_search"] = precision_json(*model.precision);
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
  if (plan.key_sets.front().parameters.has_bootstrap()) {
    fmt::print("  key set{} {}, evaluation keys about {} in memory, {} on the wire\n",
               plan.key_sets.size() == 1 ? "" : "s", names_of(plan.key_sets),
               human_bytes(static_cast<std::uint64_t>(key.memory)),
               human_bytes(static_cast<std::uint64_t>(key.wire)));
  }
  if (plan.one_key_set) fmt::print("  {}\n", one_key_set_text(*plan.one_key_set));
  if (bits) fmt::print("{}", bits_text(*bits));
  if (!model.precision) return;
  fmt::print("  {}", precision_text(*model.precision));
  if (model.precision->exact_ms_per_core > 0)
    fmt::print("; exact lookups would take {}",
               human_seconds(model.precision->exact_ms_per_core / 1000));
  fmt::print("\n{}{}", looser_text(*model.precision), decision_table(model));
}

}  // namespace

void run_compile(const CompileArguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  CompileOptions options = compile_options(arguments);
  FloatGraph graph = import_onnx(arguments.model);
  check_clear(graph, arguments.clear);
  const std::vector<Tensor<double>> calibration =
      read_named_arrays(arguments.calibration, input_names(graph), "--calibration");
  std::optional<BitsReport> bits;
  CompiledModel model = [&] {
    ProgressBar trials("trials of bits"), quantization("quantization"), bar("trials of precision");
    if (options.choose_bits) bits = choose_bits(graph, calibration, options, trials.callback());
    options.progress = quantization.callback();
    options.search.progress = bar.callback();
    return compile_model(std::move(graph), calibration, options);
  }();
  save_model(model, arguments.output);
  for (const std::string& output : constant_outputs(model.circuit)) {
    print_warning(fmt::format(
        "output '{}' is the same for all inputs; more bits, or calibration data of more variety",
        output));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  print_summary(arguments, model, bits, elapsed.count());
}

}  // namespace torusml
