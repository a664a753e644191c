#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "artifact/cost_table_file.h"
#include "base/threads.h"
#include "benchmark/calibrate.h"
#include "benchmark/fma_peak.h"
#include "benchmark/kernels.h"
#include "benchmark/lookups.h"
#include "benchmark/machine.h"
#include "cli/commands.h"
#include "cli/human.h"
#include "cli/progress_bar.h"

namespace torusml {
namespace {

// In the order of the program text, for people who read the lines.
using Json = nlohmann::ordered_json;

Json machine_json(const Machine& machine) {
  Json json{{"system", "torusml"}, {"version", machine.version}};
  if (!machine.commit.empty()) json["commit"] = machine.commit;
  json["cpu"] = machine.cpu;
  json["cores"] = machine.cores;
  json["instruction_set"] = machine.instruction_set;
  return json;
}

void print_machine(const Machine& machine) {
  fmt::print("{}, {}, {}; torusml {}{}\n", machine.cpu, counted(machine.cores, "core"),
             machine.instruction_set, machine.version,
             machine.commit.empty() ? "" : " at " + machine.commit);
}

// A line a reader sees at once, also through a pipe.
void print_line(const Json& json) {
  fmt::print("{}\n", json.dump());
  std::fflush(stdout);
}

Json parameters_json(const LookupMeasurement& measured) {
  const TfheParameters& p = measured.parameters;
  return {
      {"n", p.small_dimension.value},
      {"k", p.glwe_dimension.value},
      {"N", p.polynomial_size.value},
      {"bootstrap_levels", p.bootstrap.level_count},
      {"bootstrap_base_log2", p.bootstrap.base_log2},
      {"keyswitch_levels", p.keyswitch.level_count},
      {"keyswitch_base_log2", p.keyswitch.base_log2},
      {"grouping_factor", p.grouping_factor},
      {"accumulator_bits", p.accumulator_bits},
      {"extension_log2", measured.rotation.extension_log2},
      {"tables_log2", measured.rotation.tables_log2},
      {"circuit_bootstrap_levels", p.circuit_bootstrap.level_count},
      {"circuit_bootstrap_base_log2", p.circuit_bootstrap.base_log2},
      {"trace_levels", p.trace.level_count},
      {"trace_base_log2", p.trace.base_log2},
      {"bits_per_rotation", measured.wide.index_bits == 0 ? 0 : measured.wide.bits_per_rotation},
      {"digits", measured.wide.index_bits == 0 ? 0 : measured.wide.digit_count},
      {"digit_bits", measured.wide.index_bits == 0 ? 0 : measured.wide.digit_bits}};
}

void print_lookups_json(const Json& machine, const LookupMeasurement& measured) {
  const LookupSettings& settings = measured.settings;
  for (const LookupTiming& timing : measured.timings) {
    Json json = machine;
    json["threads"] = timing.threads;
    json["bits"] = settings.bits;
    json["tables"] = settings.tables;
    json["norm2"] = settings.norm2;
    json["p_error"] = settings.p_error;
    json["security_bits"] = settings.security_bits;
    json["batch"] = settings.batch;
    json["rounds"] = settings.rounds;
    json["ms_per_lookup"] = timing.ms_per_lookup.median;
    json["ms_per_lookup_min"] = timing.ms_per_lookup.least;
    json["ms_per_lookup_max"] = timing.ms_per_lookup.most;
    json["predicted_ms"] = timing.predicted_ms;
    json["keygen_s"] = measured.keygen_s;
    json["prepare_s"] = measured.prepare_s;
    if (!settings.prepared_keys.empty()) {
      json["key_store_s"] = measured.key_store_s;
      json["key_map_s"] = measured.key_map_s;
    }
    if (measured.huge_page_bytes) json["huge_page_bytes"] = *measured.huge_page_bytes;
    json["evaluation_key_bytes"] = measured.evaluation_key_bytes;
    json["bootstrap_key_bytes"] = measured.bootstrap_key_bytes;
    json["keyswitch_key_bytes"] = measured.keyswitch_key_bytes;
    json["input_bytes_per_value"] = measured.input_bytes_per_value;
    json["parameters"] = parameters_json(measured);
    json["checked"] = timing.checked;
    json["correct"] = timing.correct;
    print_line(json);
  }
}

std::string table_text(const RotationShape& rotation) {
  if (rotation.extension_log2 != 0) return fmt::format(" x 2^{}", rotation.extension_log2);
  if (rotation.tables_log2 != 0) return fmt::format(" / 2^{}", rotation.tables_log2);
  return "";
}

std::string parameters_text(const LookupMeasurement& measured) {
  const TfheParameters& p = measured.parameters;
  const WideShape& wide = measured.wide;
  const std::string method =
      wide.index_bits == 0 ? ""
                           : fmt::format(", {} bits a rotation, {} digits of {} bits",
                                         wide.bits_per_rotation, wide.digit_count, wide.digit_bits);
  return fmt::format(
      "n {}, k {}, N {}{}, l {} x 2^{}, keyswitch {} x 2^{}, {}-bit words{}{}",
      p.small_dimension.value, p.glwe_dimension.value, p.polynomial_size.value,
      table_text(measured.rotation), p.bootstrap.level_count, p.bootstrap.base_log2,
      p.keyswitch.level_count, p.keyswitch.base_log2, p.accumulator_bits,
      p.grouping_factor == 1 ? "" : fmt::format(", {} bits a step", p.grouping_factor), method);
}

constexpr const char* kLookupRow =
    "{:>4}  {:>6}  {:>7}  {:>5}  {:>11}  {:>21}  {:>9}  {:>9}  {:>9}  {}\n";

void print_lookups_header(const LookupSettings& settings) {
  fmt::print("{} bits of security, p_error {}, norm2 {}; every result checked\n\n",
             settings.security_bits, human_probability(settings.p_error), settings.norm2);
  fmt::print(kLookupRow, "bits", "tables", "threads", "batch", "a value", "least .. most", "keygen",
             "keys wire", "in memory", "parameters");
}

void print_lookups(const LookupMeasurement& measured) {
  const auto time = [](double ms) { return human_seconds(ms * 1e-3); };
  for (const LookupTiming& timing : measured.timings) {
    const Spread& ms = timing.ms_per_lookup;
    fmt::print(kLookupRow, measured.settings.bits, measured.settings.tables, timing.threads,
               measured.settings.batch, time(ms.median),
               fmt::format("{} .. {}", time(ms.least), time(ms.most)),
               human_seconds(measured.keygen_s), human_bytes(measured.evaluation_key_bytes),
               human_bytes(measured.bootstrap_key_bytes + measured.keyswitch_key_bytes),
               parameters_text(measured));
  }
  std::fflush(stdout);
}

// One for each width and number of tables; all are checked before the first is measured.
std::vector<LookupSettings> lookup_settings(const BenchLutArguments& arguments) {
  LookupSettings settings;
  settings.p_error = parse_number(arguments.p_error, "--p-error");
  settings.norm2 = arguments.norm2;
  settings.security_bits = arguments.security_bits;
  settings.rounds = arguments.rounds;
  settings.prepared_keys = arguments.prepared_keys;
  settings.threads = arguments.threads.empty() ? std::vector<int>{available_threads()}
                                               : parse_integers(arguments.threads, "--threads");
  std::vector<LookupSettings> all;
  for (const int bits : parse_integers(arguments.bits, "--bits")) {
    settings.bits = bits;
    settings.batch =
        arguments.batch ? static_cast<std::size_t>(*arguments.batch) : default_batch(bits);
    for (const int tables : parse_integers(arguments.tables, "--tables")) {
      settings.tables = static_cast<std::size_t>(std::max(tables, 0));
      check(settings);
      all.push_back(settings);
    }
  }
  return all;
}

void print_transform(const Json& machine, const TransformTiming& timing, double peak, bool json) {
  if (!json) {
    fmt::print("{:>6}  {:>9}  {:>9}  {:>8.1f}  {:>5.0f} %\n", timing.size.value,
               human_seconds(timing.forward_ns.median * 1e-9),
               human_seconds(timing.inverse_ns.median * 1e-9), timing.gflops,
               100 * timing.gflops / peak);
    std::fflush(stdout);
    return;
  }
  Json line = machine;
  line["measure"] = "transform";
  line["polynomial_size"] = timing.size.value;
  line["forward_ns"] = timing.forward_ns.median;
  line["inverse_ns"] = timing.inverse_ns.median;
  line["gflops"] = timing.gflops;
  line["share_of_peak"] = timing.gflops / peak;
  print_line(line);
}

void print_keys_json(const Json& machine, const KeyTiming& timing) {
  for (const KeyswitchTiming& keyswitch : timing.keyswitch) {
    Json line = machine;
    line["measure"] = "keyswitch";
    line["batch"] = keyswitch.batch;
    line["ns_per_ciphertext"] = keyswitch.ns_per_ciphertext.median;
    line["gmacs"] = keyswitch.gmacs;
    print_line(line);
  }
  Json line = machine;
  line["measure"] = "key_preparation";
  line["prepared_bytes"] = timing.prepared_bytes;
  line["prepare_s"] = timing.prepare_s;
  line["mb_per_s"] = static_cast<double>(timing.prepared_bytes) * 1e-6 / timing.prepare_s;
  print_line(line);
}

void print_keys(const KeyTiming& timing) {
  const TfheParameters p = kernel_parameters();
  fmt::print("\nkeyswitch {} -> {}, {} x 2^{}\n", p.big_dimension().value, p.small_dimension.value,
             p.keyswitch.level_count, p.keyswitch.base_log2);
  for (const KeyswitchTiming& keyswitch : timing.keyswitch) {
    fmt::print("  batch {:>2}: {} a ciphertext, {:.1f} GMAC/s\n", keyswitch.batch,
               human_seconds(keyswitch.ns_per_ciphertext.median * 1e-9), keyswitch.gmacs);
  }
  const double rate = static_cast<double>(timing.prepared_bytes) / timing.prepare_s;
  fmt::print("key preparation: {} in {}, {} a second\n", human_bytes(timing.prepared_bytes),
             human_seconds(timing.prepare_s), human_bytes(static_cast<std::uint64_t>(rate)));
}

void print_peak(const Machine& machine, const Json& head, double peak, bool json) {
  if (json) {
    Json line = head;
    line["measure"] = "fma_peak";
    line["gflops"] = peak;
    line["targets_not_run"] = machine.targets_not_run;
    return print_line(line);
  }
  print_machine(machine);
  fmt::print("instruction sets that this machine cannot run: {}\n",
             machine.targets_not_run.empty()
                 ? "none"
                 : fmt::format("{}", fmt::join(machine.targets_not_run, ", ")));
  fmt::print("one core: multiply-add peak {:.1f} GFLOP/s\n\n", peak);
  fmt::print("{:>6}  {:>9}  {:>9}  {:>8}  {:>7}\n", "size", "forward", "inverse", "GFLOP/s",
             "of peak");
}

}  // namespace

void run_bench_lut(const BenchLutArguments& arguments) {
  const std::vector<LookupSettings> all = lookup_settings(arguments);
  const Machine machine = describe_machine();
  if (!arguments.json) {
    print_machine(machine);
    print_lookups_header(all.front());
  }
  for (const LookupSettings& settings : all) {
    LookupMeasurement measured;
    {
      ProgressBar bar(settings.tables == 1
                          ? fmt::format("{} bits", settings.bits)
                          : fmt::format("{} bits, {} tables", settings.bits, settings.tables));
      measured = measure_lookups(settings, bar.callback());
    }
    if (arguments.json) {
      print_lookups_json(machine_json(machine), measured);
    } else {
      print_lookups(measured);
    }
  }
}

void run_bench_kernels(const BenchKernelsArguments& arguments) {
  const Machine machine = describe_machine();
  Json head = machine_json(machine);
  head["threads"] = 1;
  const double peak = measure_fma_peak();
  print_peak(machine, head, peak, arguments.json);
  for (const PolynomialSize size : transform_sizes())
    print_transform(head, measure_transform(size), peak, arguments.json);
  const KeyTiming keys = measure_keys(kernel_parameters());
  if (arguments.json) {
    print_keys_json(head, keys);
  } else {
    print_keys(keys);
  }
}

void run_bench_calibrate(const BenchCalibrateArguments& arguments) {
  CostTable table;
  {
    ProgressBar bar("polynomial sizes");
    table = measure_cost_table(bar.callback());
  }
  save_cost_table(table, arguments.output);
  const PolynomialCost& usual = table.at(2048);
  fmt::print(
      "{}: at N 2048, a transform {} and a multiplication {}; keyswitch {:.3f} ns and linear "
      "layers {:.3f} ns a multiply-add\n",
      arguments.output, human_seconds(usual.transform_ns * 1e-9),
      human_seconds(usual.multiply_ns * 1e-9), table.keyswitch_ns, table.linear_ns);
}

}  // namespace torusml
