#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/threads.h"
#include "benchmark/fma_peak.h"
#include "benchmark/kernels.h"
#include "benchmark/lookups.h"
#include "benchmark/machine.h"
#include "parameters/noise.h"
#include "torusml/error.h"

namespace torusml {
namespace {

LookupSettings tiny() { return {.bits = 2, .batch = 4, .rounds = 1, .threads = {1}}; }

void refused(ErrorCode code, const LookupSettings& settings) {
  try {
    measure_lookups(settings);
    ADD_FAILURE() << "nothing was thrown; " << error_code_name(code) << " is due";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
  }
}

TEST(Spread, Medians) {
  const Spread odd = spread_of({3, 1, 2}), even = spread_of({4, 1, 2, 3}), one = spread_of({7});
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.least, 1);
  EXPECT_EQ(odd.most, 3);
  EXPECT_EQ(even.median, 2.5);
  EXPECT_EQ(one.median, 7);
}

void expect_right(const LookupTiming& timing, int threads) {
  EXPECT_EQ(timing.threads, threads);
  EXPECT_EQ(timing.checked, 4u);
  EXPECT_EQ(timing.correct, 4u);
  EXPECT_GT(timing.ms_per_lookup.median, 0);
  EXPECT_GT(timing.predicted_ms, 0);
}

void expect_sizes(const LookupMeasurement& m) {
  const TfheParameters& p = m.parameters;
  const std::size_t bodies = std::size_t{p.small_dimension.value} * p.bootstrap.level_count *
                             (p.glwe_dimension.value + 1) * p.polynomial_size.value;
  EXPECT_GT(m.evaluation_key_bytes, 0u);
  EXPECT_GE(m.bootstrap_key_bytes, bodies * p.accumulator_bits / 8);
  const std::size_t switched = p.big_dimension().value - p.small_dimension.value;
  EXPECT_GE(m.keyswitch_key_bytes,
            switched * p.keyswitch.level_count * p.small_dimension.value * 4);
  EXPECT_GT(m.input_bytes_per_value, 8);     // one word and its share of the header
  EXPECT_LT(m.input_bytes_per_value, 2000);  // not whole ciphertexts
}

TEST(Lookups, AreMeasuredAndRight) {
  LookupSettings settings = tiny();
  const int most = std::min(2, available_threads());
  settings.threads = {most, 1};
  std::size_t steps = 0, total = 0;
  const LookupMeasurement m = measure_lookups(settings, [&](std::size_t done, std::size_t all) {
    EXPECT_EQ(done, ++steps);
    total = all;
  });
  EXPECT_EQ(steps, total);
  ASSERT_EQ(m.timings.size(), 2u);
  expect_right(m.timings[0], most);
  expect_right(m.timings[1], 1);
  EXPECT_DOUBLE_EQ(most * m.timings[0].predicted_ms, m.timings[1].predicted_ms);
  EXPECT_GT(m.keygen_s, 0);
  EXPECT_GT(m.prepare_s, 0);
  EXPECT_EQ(m.key_map_s, 0);
  expect_sizes(m);
}

TEST(Lookups, SeveralTablesOfAValue) {
  LookupSettings settings = tiny();
  settings.tables = 3;
  const LookupMeasurement m = measure_lookups(settings);
  EXPECT_GT(m.rotation.tables_log2, 0u);
  EXPECT_EQ(m.timings[0].checked, 12u);
  EXPECT_EQ(m.timings[0].correct, 12u);
  EXPECT_EQ(lookup_request(settings).constraints[0].tables, 3u);
}

TEST(Lookups, AreRightWithMappedKeys) {
  namespace fs = std::filesystem;
  const fs::path folder =
      fs::temp_directory_path() / ("torusml_bench_keys_" + std::to_string(getpid()));
  LookupSettings settings = tiny();
  settings.prepared_keys = folder.string();
  refused(ErrorCode::file_unwritable, settings);
  fs::create_directory(folder);
  const LookupMeasurement m = measure_lookups(settings);
  expect_right(m.timings[0], 1);
  expect_sizes(m);
  EXPECT_GT(m.key_store_s, 0);
  EXPECT_GT(m.key_map_s, 0);
  EXPECT_TRUE(fs::is_empty(folder));
  fs::remove(folder);
}

TEST(Lookups, TheRequestIsThatOfAnExactLookup) {
  LookupSettings settings = tiny();
  settings.norm2 = 3;
  const ParameterRequest request = lookup_request(settings);
  ASSERT_EQ(request.constraints.size(), 1u);
  const NoiseConstraint& c = request.constraints[0];
  EXPECT_EQ(c.bootstrap_norm2, 9);
  EXPECT_EQ(c.fresh_norm2, 0);
  EXPECT_EQ(c.values, 4u);
  EXPECT_EQ(c.lookup_count, 4u);
  // Half a box, an eighth of the half torus; boxes of 2^bits values are whole table entries.
  EXPECT_DOUBLE_EQ(c.limit_sigma, 0.0625 / kappa(settings.p_error));
  EXPECT_EQ(c.table_step_weight, 0);
}

TEST(Lookups, SettingsThatMakeNoSense) {
  for (const int bits : {-1, 0, 17}) {
    LookupSettings settings = tiny();
    settings.bits = bits;
    refused(ErrorCode::unsupported_bits, settings);
  }
  for (const double p_error : {0.0, 1.0, 2.0, -0.5, std::nan("")}) {
    LookupSettings settings = tiny();
    settings.p_error = p_error;
    refused(ErrorCode::p_error_out_of_range, settings);
  }
  for (const auto& threads : std::vector<std::vector<int>>{{}, {0}, {1, available_threads() + 1}}) {
    LookupSettings settings = tiny();
    settings.threads = threads;
    refused(ErrorCode::invalid_argument, settings);
  }
  refused(ErrorCode::invalid_argument, {.batch = 0, .threads = {1}});
  refused(ErrorCode::invalid_argument, {.batch = 65537, .threads = {1}});
  refused(ErrorCode::invalid_argument, {.rounds = 0, .threads = {1}});
  refused(ErrorCode::invalid_argument, {.tables = 0, .threads = {1}});
  refused(ErrorCode::invalid_argument, {.tables = 257, .threads = {1}});
  for (const double norm2 : {-1.0, 1e300, std::nan("")}) {
    LookupSettings settings = tiny();
    settings.norm2 = norm2;
    refused(ErrorCode::invalid_argument, settings);
  }
  refused(ErrorCode::invalid_argument, {.security_bits = 100, .threads = {1}});
}

TEST(Lookups, WhatNoParametersReach) {
  LookupSettings settings = tiny();
  settings.norm2 = 0x1p40;
  refused(ErrorCode::no_parameters, settings);
}

TEST(Kernels, PeakAndTransform) {
  const double peak = measure_fma_peak();
  EXPECT_GT(peak, 0.1);
  const TransformTiming timing = measure_transform({512});
  EXPECT_GT(timing.forward_ns.median, 0);
  EXPECT_GT(timing.inverse_ns.median, 0);
  EXPECT_GT(timing.gflops, 0);
}

TEST(Kernels, KeyswitchAndKeys) {
  TfheParameters small = kernel_parameters();
  small.small_dimension = {64};
  small.polynomial_size = {256};
  small.small_variance = small.glwe_variance = {0x1p-80};  // insecure
  const KeyTiming timing = measure_keys(small);
  ASSERT_EQ(timing.keyswitch.size(), 2u);
  for (const KeyswitchTiming& keyswitch : timing.keyswitch) EXPECT_GT(keyswitch.gmacs, 0);
  EXPECT_GT(timing.prepared_bytes, 0u);
  EXPECT_GT(timing.prepare_s, 0);
}

TEST(Machine, IsDescribed) {
  const Machine machine = describe_machine();
  EXPECT_FALSE(machine.cpu.empty());
  EXPECT_EQ(machine.cores, available_threads());
  EXPECT_FALSE(machine.instruction_set.empty());
  EXPECT_FALSE(machine.version.empty());
}

}  // namespace
}  // namespace torusml
