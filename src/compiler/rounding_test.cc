#include "compiler/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/testing/errors.h"
#include "compiler/quantized_module.h"
#include "parameters/noise.h"
#include "quantization/test_graph.h"
#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

const Rounding kExact{6, RoundingMethod::exact}, kApproximate{6, RoundingMethod::approximate};

TEST(Rounding, IsParsed) {
  EXPECT_FALSE(parse_rounding("", "o"));
  EXPECT_EQ(parse_rounding("2", "o")->bits, 2);
  EXPECT_EQ(parse_rounding("8:Exact", "o")->method, RoundingMethod::exact);
  EXPECT_EQ(parse_rounding("6:APPROXIMATE", "o")->method, RoundingMethod::approximate);
  const std::vector<std::pair<const char*, ErrorCode>> wrong{
      {"1", ErrorCode::unsupported_bits},      {"9:exact", ErrorCode::unsupported_bits},
      {"auto", ErrorCode::not_supported},      {"6:sloppy", ErrorCode::unknown_option},
      {"six", ErrorCode::unknown_option},      {"-6", ErrorCode::unknown_option},
      {"6:", ErrorCode::unknown_option},       {":exact", ErrorCode::unknown_option},
      {"6.5:exact", ErrorCode::unknown_option}};
  for (const auto& [text, code] : wrong)
    EXPECT_EQ(code_of([&] { parse_rounding(text, "o"); }), code) << text;
}

TEST(Rounding, AndPrecisionAgree) {
  EXPECT_EQ(precision_with("", std::nullopt), "auto");
  EXPECT_EQ(precision_with("tolerant", std::nullopt), "tolerant");
  for (const char* precision : {"", "exact", "rounded"})
    EXPECT_EQ(precision_with(precision, kExact), "rounded");
  for (const char* precision : {"", "tolerant"})
    EXPECT_EQ(precision_with(precision, kApproximate), "tolerant");
  for (const char* precision : {"tolerant", "auto"})
    EXPECT_EQ(code_of([&] { precision_with(precision, kExact); }), ErrorCode::invalid_argument);
  for (const char* precision : {"exact", "rounded", "auto"}) {
    EXPECT_EQ(code_of([&] { precision_with(precision, kApproximate); }),
              ErrorCode::invalid_argument);
  }
  EXPECT_EQ(code_of([] { precision_with("rounded", std::nullopt); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { precision_with("sloppy", kExact); }), ErrorCode::unknown_option);
}

TEST(Rounding, ApproximateIsTolerantAndPrivate) {
  PlanOptions options;
  options.precision = Precision::tolerant;
  EXPECT_EQ(with_rounding(options, kApproximate).approximate_bits, 6);
  options.tolerance = 0.01;
  EXPECT_EQ(code_of([&] { with_rounding(options, kApproximate); }), ErrorCode::invalid_argument);
  options = {.precision = Precision::tolerant, .profile = Profile::shared_results};
  EXPECT_EQ(code_of([&] { with_rounding(options, kApproximate); }), ErrorCode::profile_forbids);
  options.precision = Precision::exact;
  EXPECT_EQ(with_rounding(options, kExact).precision, Precision::rounded);
}

struct Network {
  FloatGraph graph;
  Tensor<double> data;
};

Network network() {
  std::mt19937_64 random(3);
  return {TestGraph()
              .input("x", {1, 6})
              .constant("w1", random_tensor(random, {6, 5}))
              .constant("w2", random_tensor(random, {5, 3}))
              .node("MatMul", {"x", "w1"}, "h")
              .node("Relu", {"h"}, "r")
              .node("MatMul", {"r", "w2"}, "y")
              .output("y")
              .build(),
          random_tensor(random, {40, 6})};
}

TEST(Rounding, CoarsensTablesUnderBothMethods) {
  const Network net = network();
  const QuantizationRequest request{QuantizationBits::uniform(4)};
  auto all_bits = QuantizedModule::build(net.graph, {net.data}, request);
  auto exact = QuantizedModule::build(net.graph, {net.data}, request, 0.05, Rounding{3});
  auto approximate = QuantizedModule::build(net.graph, {net.data}, request, 0.05,
                                            Rounding{3, RoundingMethod::approximate});
  EXPECT_EQ(exact.removed_bits().size(), 1U) << "not the accumulators of the output";
  const CompiledModel e = exact.compile({net.data}, {});
  const CompiledModel a = approximate.compile({net.data}, {.precision = Precision::tolerant});
  EXPECT_EQ(e.plan.options.precision, Precision::rounded);
  EXPECT_EQ(e.plan.lookups.begin()->second.policy, Precision::exact);
  EXPECT_EQ(a.plan.options.precision, Precision::tolerant);
  EXPECT_EQ(a.plan.lookups.begin()->second.policy, Precision::tolerant);
  EXPECT_DOUBLE_EQ(a.plan.options.tolerance, std::exp2(-3) / (2 * kappa(0x1p-40)));

  const auto q = exact.quantize_inputs({net.data});
  const auto expected = exact.run_clear(q);
  EXPECT_NE(expected, all_bits.run_clear(q));
  EXPECT_EQ(expected, approximate.run_clear(q)) << "methods differ on ciphertexts only";
  EXPECT_EQ(run_simulated(e.circuit, e.plan, q, 1), expected);
  EXPECT_EQ(code_of([&] { exact.compile({net.data}, {.precision = Precision::tolerant}); }),
            ErrorCode::invalid_argument);
}

// The layers' own integers, whatever lowering makes of channels.
TEST(QuantizedModule, LayerIntegersAreThoseOfTheLayer) {
  TestGraph graph;
  graph.input("x", {1, 2})
      .constant("w", {{2, 3}, {1, -2, 8, 3, -4, 8}})
      .constant("v", {{3, 1}, {1, -1, 1}})
      .node("MatMul", {"x", "w"}, "h")
      .node("Relu", {"h"}, "r")
      .node("MatMul", {"r", "v"}, "y")
      .output("y");
  const Tensor<double> data{{4, 2}, {0, 0, 3, 3, 3, 0, 0, 3}};
  auto module = QuantizedModule::build(graph.build(), {data}, {QuantizationBits::uniform(4)});
  const auto layer = [&] {
    std::vector<std::int64_t> integers;
    run_clear(module.circuit(), module.quantize_inputs({data}),
              [&](ValueId value, const std::vector<std::int64_t>& v) {
                if (value == 1) integers.insert(integers.end(), v.begin(), v.end());
              });
    return std::pair{integers, module.layer_integers("MatMul_h", integers)};
  };
  const auto [circuit_integers, own] = layer();
  EXPECT_NE(circuit_integers, own) << "the channels are shifted";
  EXPECT_EQ(own[0] + own[1] + own[2], 0) << "no bias at the origin";
  module.compile({data}, {.precision = Precision::tolerant});
  const auto [scaled, same] = layer();
  EXPECT_NE(scaled, circuit_integers);
  EXPECT_EQ(same, own);
}

TEST(Rounding, IsSettledWhenTheModuleIsBuilt) {
  const Network net = network();
  auto module = QuantizedModule::build(net.graph, {net.data}, {QuantizationBits::uniform(4)}, 0.05,
                                       Rounding{3});
  const auto q = module.quantize_inputs({net.data});
  const auto expected = module.run_clear(q);
  const auto removed = module.removed_bits();
  Tensor<double> wider = net.data;
  for (int i = 0; i < 6; ++i) {
    wider.data.push_back(i % 2 ? 3 : -3);
    wider.data.push_back(0);
  }
  wider.shape[0] += 2;
  module.compile({wider}, {});
  EXPECT_EQ(module.removed_bits(), removed);
  EXPECT_EQ(module.run_clear(q), expected);
}

}  // namespace
}  // namespace torusml
