// Every model of tests/models against the results of onnxruntime, torch and Brevitas.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "base/testing/file_bytes.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml {
namespace {

struct Case {
  std::string folder, name;
  std::vector<Tensor<double>> inputs, outputs;

  std::string path() const {
    return fmt::format("{}/tests/models/{}/{}.onnx", TORUSML_SOURCE_DIR, folder, name);
  }
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

// "2 3 : 1 2 3 4 5 6"
Tensor<double> parse_tensor(std::istringstream& line) {
  Tensor<double> tensor;
  for (std::string word; line >> word && word != ":";) tensor.shape.push_back(std::stoll(word));
  for (double value; line >> value;) tensor.data.push_back(value);
  return tensor;
}

std::vector<Case> read_cases(const std::string& folder) {
  std::ifstream file(fmt::format("{}/tests/models/{}/expected.txt", TORUSML_SOURCE_DIR, folder));
  std::vector<Case> cases;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string word;
    line >> word;
    if (word == "case") {
      cases.push_back({folder, "", {}, {}});
      line >> cases.back().name;
    } else {
      auto& tensors = word == "input" ? cases.back().inputs : cases.back().outputs;
      tensors.push_back(parse_tensor(line));
    }
  }
  return cases;
}

double largest_error(const Tensor<double>& actual, const Tensor<double>& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.data.size(); ++i) {
    const double size = std::max(1.0, std::abs(expected.data[i]));
    largest = std::max(largest, std::abs(actual.data[i] - expected.data[i]) / size);
  }
  return largest;
}

Tensor<double> sample(const Tensor<double>& batch, std::int64_t index) {
  Tensor<double> one{batch.shape, {}};
  one.shape[0] = 1;
  const std::int64_t width = number_of_elements(one.shape);
  one.data.assign(batch.data.begin() + index * width, batch.data.begin() + (index + 1) * width);
  return one;
}

class FixtureModels : public testing::TestWithParam<Case> {};

TEST_P(FixtureModels, GiveTheExpectedResultsForTheWholeBatch) {
  const Case& expected = GetParam();
  const FloatGraph graph = import_onnx(expected.path());
  const auto tensors = evaluate(graph, expected.inputs);
  ASSERT_EQ(graph.outputs.size(), expected.outputs.size());
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    const Tensor<double>& actual = tensors.at(graph.outputs[i]).values;
    ASSERT_EQ(actual.shape, expected.outputs[i].shape);
    EXPECT_LT(largest_error(actual, expected.outputs[i]), 1e-5);
  }
}

TEST_P(FixtureModels, HaveTheirShapesAndSamplesOnTheirOwn) {
  const Case& expected = GetParam();
  const FloatGraph graph = import_onnx(expected.path());
  const auto batch = evaluate(graph, expected.inputs);
  for (std::int64_t i = 0; i < expected.inputs[0].shape[0]; ++i) {
    std::vector<Tensor<double>> inputs;
    for (const auto& input : expected.inputs) inputs.push_back(sample(input, i));
    const auto tensors = evaluate(graph, inputs);
    EXPECT_EQ(tensors.size(), graph.shapes.size());
    for (const auto& [name, tensor] : tensors) {
      EXPECT_EQ(tensor.values.shape, graph.shapes.at(name)) << name;
    }
    for (const std::string& output : graph.outputs) {
      EXPECT_LT(largest_error(tensors.at(output).values, sample(batch.at(output).values, i)),
                1e-12);
    }
  }
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Operators, FixtureModels, testing::ValuesIn(read_cases("operators")),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Exported, FixtureModels, testing::ValuesIn(read_cases("exported")),
                         case_name);

TEST(Fixtures, CoverEveryOperatorOfTheTable) {
  std::set<std::string> missing;
  for (const std::string& name : supported_operators()) missing.insert(name);
  for (const Case& fixture : read_cases("operators")) {
    const std::string bytes = file_bytes(fixture.path());
    std::erase_if(missing, [&](const std::string& name) {
      const std::string op_type = name.substr(name.rfind('.') + 1);
      const std::string domain = name == op_type ? "" : name.substr(0, name.rfind('.'));
      // As a protobuf string: its length, then its text.
      const std::string field = std::string(1, static_cast<char>(op_type.size())) + op_type;
      return bytes.find(field) != std::string::npos && bytes.find(domain) != std::string::npos;
    });
  }
  EXPECT_EQ(missing, std::set<std::string>{});
}

// Whatever way an exporter spells an activation, it is one function of one tensor.
TEST(Fixtures, ExportedActivationsAreTailsOfTheirInput) {
  int count = 0;
  for (const Case& fixture : read_cases("exported")) {
    if (fixture.inputs[0].shape != Shape{4, 3} || fixture.name.starts_with("double")) continue;
    SCOPED_TRACE(fixture.name);
    ++count;
    const FloatGraph graph = import_onnx(fixture.path());
    const std::string input = graph.inputs[0].name;
    const ElementwiseTail tail = elementwise_tail(graph, graph.outputs[0], {input});
    EXPECT_EQ(tail.root, input);
    EXPECT_EQ(tail.nodes.size(), graph.nodes.size());
    const FloatTensor y = evaluate_tail(graph, tail, {ElementType::floating, fixture.inputs[0]});
    EXPECT_LT(largest_error(y.values, fixture.outputs[0]), 1e-5);
  }
  EXPECT_EQ(count, 43);  // 22 activations in two forms, less one that the old exporter refuses
}

TEST(Fixtures, QuantizersOnWeightsStayNodes) {
  for (const char* form : {"qonnx_old", "qonnx_new", "qcdq_old", "qcdq_new"}) {
    SCOPED_TRACE(form);
    const FloatGraph graph = import_onnx(
        fmt::format("{}/tests/models/exported/brevitas_{}.onnx", TORUSML_SOURCE_DIR, form));
    int weights = 0, quantized_weights = 0;
    for (const FloatNode& node : graph.nodes) {
      if (node.op_type != "Gemm") continue;
      ++weights;
      const FloatNode* quantizer = producer(graph, node.inputs[1]);
      ASSERT_NE(quantizer, nullptr);
      EXPECT_TRUE(quantizer->op_type == "Quant" || quantizer->op_type == "DequantizeLinear");
      EXPECT_FALSE(depends_on_input(graph, node.inputs[1]));
      EXPECT_FALSE(graph.constants.count(node.inputs[1]));
      quantized_weights += graph.constants.count(quantizer->inputs[1]);
    }
    EXPECT_EQ(weights, 2);
    EXPECT_EQ(quantized_weights, 2);
  }
}

}  // namespace
}  // namespace torusml
