// A user's operators inside a quantized network.

#include <gtest/gtest.h>

#include <cmath>

#include "importer/custom_operator.h"
#include "lowering/reference.h"
#include "quantization/quantize.h"
#include "quantization/test_graph.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// y = function(W x + W z) with W = {{1, -2}, {3, 1}, {0, 2}}, and a bias of 1 to each accumulator.
class TwoInputs : public CustomOperator {
 public:
  explicit TwoInputs(double (*function)(double)) : function_(function) {}

  bool is_univariate() const override { return false; }

  FloatTensor evaluate(const std::vector<FloatTensor>& inputs) const override {
    const std::int64_t batch = inputs.at(0).values.shape[0];
    FloatTensor y{ElementType::floating, {{batch, 3}, {}}};
    for (std::size_t s = 0; s < static_cast<std::size_t>(batch); ++s) {
      for (const auto& row : kWeight) {
        double sum = 0;
        for (const FloatTensor& x : inputs)
          sum += row[0] * x.values.data[2 * s] + row[1] * x.values.data[2 * s + 1];
        y.values.data.push_back(function_(sum));
      }
    }
    return y;
  }

  RecordedLinear record(const std::vector<InputQuantization>& inputs) const override {
    RecordedLinear recorded;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      RecordedLinear::Term term{static_cast<int>(i), 3, 2, {}, {}, {}};
      for (std::int64_t r = 0; r < 3; ++r) {
        for (std::int64_t c = 0; c < 2; ++c) {
          term.row.push_back(r);
          term.column.push_back(c);
          term.value.push_back(kWeight[r][c]);
        }
      }
      recorded.terms.push_back(term);
    }
    recorded.bias = {1, 1, 1};
    recorded.shape = {1, 3};
    return recorded;
  }

  FloatTensor apply_tail(const Tensor<double>& accumulators,
                         const std::vector<InputQuantization>& inputs) const override {
    FloatTensor y{ElementType::floating, accumulators};
    for (std::size_t i = 0; i < y.values.data.size(); ++i) {
      const auto& row = kWeight[i % 3];
      double zero = 1;
      for (const InputQuantization& input : inputs)
        zero += static_cast<double>(input.zero_point[0] * (row[0] + row[1]));
      y.values.data[i] = function_(inputs[0].scale[0] * (y.values.data[i] - zero));
    }
    return y;
  }

 private:
  static constexpr std::int64_t kWeight[3][2] = {{1, -2}, {3, 1}, {0, 2}};
  double (*function_)(double);
};

class Cube : public CustomOperator {
 public:
  bool is_univariate() const override { return true; }
  FloatTensor evaluate(const std::vector<FloatTensor>& inputs) const override {
    FloatTensor y = inputs.at(0);
    for (double& v : y.values.data) v = v * v * v;
    return y;
  }
  RecordedLinear record(const std::vector<InputQuantization>&) const override { return {}; }
  FloatTensor apply_tail(const Tensor<double>& x,
                         const std::vector<InputQuantization>&) const override {
    return {ElementType::floating, x};
  }
};

// Records what does not fit.
class Broken : public TwoInputs {
 public:
  explicit Broken(int fault) : TwoInputs([](double x) { return x; }), fault_(fault) {}
  RecordedLinear record(const std::vector<InputQuantization>& inputs) const override {
    RecordedLinear recorded = TwoInputs::record(inputs);
    if (fault_ == 0) recorded.shape = {1, 4};
    if (fault_ == 1) recorded.terms[0].input = 7;
    if (fault_ == 2) recorded.terms[0].row[0] = 3;
    if (fault_ == 3) recorded.bias = {1};
    if (fault_ == 4) recorded.terms[0].columns = 5;
    return recorded;
  }

 private:
  int fault_;
};

// The same quantizer for both inputs: the same data.
FloatGraph network(std::shared_ptr<const CustomOperator> op, bool cube) {
  TestGraph graph;
  graph.input("x", {1, 2}).node("Tanh", {"x"}, "t").node("Neg", {"t"}, "n").node("Neg", {"n"}, "u");
  graph.custom(std::move(op), {"t", "u"}, "c");
  if (cube) graph.custom(std::make_shared<Cube>(), {"c"}, "y");
  return graph.output(cube ? "y" : "c").build();
}

void check(const FloatGraph& graph, std::int64_t lookups, double from_floats = 0.05) {
  std::mt19937_64 random(1);
  const std::vector<Tensor<double>> data{random_tensor(random, {40, 2}, -2, 2)};
  const QuantizedGraph quantized =
      quantize(graph, data, {.bits = {.op_inputs = 6, .model_inputs = 9, .model_outputs = 9}});
  const LoweredModel model = lower(quantized, data);
  verify(model.circuit);
  EXPECT_EQ(lookup_count(model.circuit), lookups);
  for (std::size_t s = 0; s < 40; ++s) {
    const Tensor<double> x{{1, 2}, {data[0].data[2 * s], data[0].data[2 * s + 1]}};
    const auto values = run_circuit(model.circuit, {model.inputs[0].quantizer.quantize(x.data)});
    ASSERT_FALSE(values.empty());
    const std::vector<double> y =
        dequantized(model.outputs[0], outputs_of(model.circuit, values).at(0));
    const std::vector<double> exact = run_reference(quantized, {x}).outputs[0];
    const std::vector<double> ideal = evaluate(graph, {x}).at(graph.outputs[0]).values.data;
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(y[i], exact[i], tolerance(model.outputs[0], i));
      EXPECT_NEAR(y[i], ideal[i], from_floats + 0.15 * std::abs(ideal[i]));
    }
  }
}

TEST(CustomOperators, WithAnAffineTailLeaveAsAccumulators) {
  // Both inputs are one table of x. The tail doubles what its quantization costs.
  check(network(std::make_shared<TwoInputs>([](double x) { return 2 * x - 1; }), false), 2, 0.1);
}

TEST(CustomOperators, WithAnotherTailEndInATable) {
  check(network(std::make_shared<TwoInputs>([](double x) { return std::abs(x); }), false), 5);
}

TEST(CustomOperators, OfOneTensorArePartOfTheTable) {
  check(network(std::make_shared<TwoInputs>([](double x) { return x / 4; }), true), 5);
}

TEST(CustomOperators, ThatRecordWhatDoesNotFitAreRefused) {
  std::mt19937_64 random(1);
  const std::vector<Tensor<double>> data{random_tensor(random, {40, 2}, -2, 2)};
  for (int fault = 0; fault < 5; ++fault) {
    try {
      quantize(network(std::make_shared<Broken>(fault), false), data, {});
      FAIL() << fault;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
      EXPECT_NE(std::string(error.what()).find("custom_c"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace torusml
