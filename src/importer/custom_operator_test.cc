// A user's operator in an imported network: what the factory sees, and what the graph keeps.

#include "importer/custom_operator.h"

#include <gtest/gtest.h>

#include "importer/model_builder.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Multiplies every element; element by element unless told otherwise.
class Scaling : public CustomOperator {
 public:
  explicit Scaling(double factor, bool univariate = true)
      : factor_(factor), univariate_(univariate) {}

  bool is_univariate() const override { return univariate_; }
  FloatTensor evaluate(const std::vector<FloatTensor>& inputs) const override {
    EXPECT_EQ(inputs.size(), 1U);
    FloatTensor result = inputs.at(0);
    for (double& value : result.values.data) value *= factor_;
    return result;
  }
  RecordedLinear record(const std::vector<InputQuantization>&) const override { return {}; }
  FloatTensor apply_tail(const Tensor<double>& accumulators,
                         const std::vector<InputQuantization>&) const override {
    return {ElementType::floating, accumulators};
  }

 private:
  double factor_;
  bool univariate_;
};

std::string model() {
  return GraphBuilder()
      .input("x", {-1, 2})
      .constant(BuiltTensor::floats("half", {}, {0.5}))
      .constant(BuiltTensor::floats("zero", {}, {0}))
      .constant(BuiltTensor::floats("bits", {}, {4}))
      .constant(BuiltTensor::floats("factor", {}, {2.9}))
      .node("Relu", {"x"}, {"a"})
      .node("Quant", {"factor", "half", "zero", "bits"}, {"q"}, {{"signed", 1}}, "onnx.brevitas")
      .node("Scale", {"q", "a", "half"}, {"b"}, {}, "user")
      .node("Abs", {"b"}, {"y"})
      .output("y")
      .model(18, {"onnx.brevitas", "user"});
}

TEST(CustomOperators, TakeNodesOver) {
  std::vector<std::string> seen;
  const auto factory = [&](const FloatNode& node,
                           const FloatGraph& so_far) -> std::shared_ptr<const CustomOperator> {
    seen.push_back(node.op_type);
    if (node.op_type != "Scale") return nullptr;
    EXPECT_EQ(so_far.shapes.at(node.inputs[1]), (Shape{1, 2}));
    EXPECT_EQ(so_far.constants.at(node.inputs[2]).values.data, std::vector<double>{0.5});
    // The quantized factor is no constant of the graph, but the factory sees its value.
    return std::make_shared<Scaling>(so_far.constants.at(node.inputs[0]).values.data.at(0));
  };
  const FloatGraph graph = import_onnx_bytes(model(), "m", factory);
  EXPECT_EQ(seen, (std::vector<std::string>{"Relu", "Quant", "Scale", "Abs"}));
  ASSERT_EQ(graph.nodes.size(), 3U) << "the quantizer of the factor is not needed any more";
  EXPECT_EQ(graph.nodes[1].inputs, std::vector<std::string>{"a"});
  EXPECT_TRUE(graph.constants.empty());
  EXPECT_TRUE(is_univariate(graph, graph.nodes[1]));

  const auto tensors = evaluate(graph, {{{2, 2}, {1, -1, 2, 3}}});
  EXPECT_EQ(tensors.at("y").values.data, (std::vector<double>{3, 0, 6, 9}));
  const ElementwiseTail tail = elementwise_tail(graph, "y", {"x"});
  EXPECT_EQ(evaluate_tail(graph, tail, {ElementType::floating, {{1, 2}, {1, 2}}}).values.data,
            (std::vector<double>{3, 6}));
}

TEST(CustomOperators, ThatMixAreNoPartOfATail) {
  const auto factory = [](const FloatNode& node, const FloatGraph&) {
    return node.op_type == "Scale" ? std::make_shared<Scaling>(2, false) : nullptr;
  };
  const FloatGraph graph = import_onnx_bytes(model(), "m", factory);
  EXPECT_FALSE(is_univariate(graph, graph.nodes[1]));
  EXPECT_THROW(elementwise_tail(graph, "y", {"x"}), Error);
}

TEST(CustomOperators, OverrideOperatorsOfTheTable) {
  const auto factory = [](const FloatNode& node, const FloatGraph&) {
    return node.op_type == "Relu" ? std::make_shared<Scaling>(10) : nullptr;
  };
  const FloatGraph graph = import_onnx_bytes(
      GraphBuilder().input("x", {1, 2}).node("Relu", {"x"}, {"y"}).output("y").model(), "m",
      factory);
  EXPECT_EQ(evaluate(graph, {{{1, 2}, {-1, 1}}}).at("y").values.data,
            (std::vector<double>{-10, 10}));
}

TEST(CustomOperators, UnknownNodesThatNobodyTakesAreRefused) {
  const auto factory = [](const FloatNode&, const FloatGraph&) {
    return std::shared_ptr<const CustomOperator>();
  };
  try {
    import_onnx_bytes(model(), "m", factory);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported_operator);
    EXPECT_NE(error.message().find("user.Scale"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace torusml
