// Networks trained with Brevitas: our integers are Brevitas' integers.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "importer/onnx.h"
#include "lowering/reference.h"
#include "quantization/quantize.h"

namespace torusml {
namespace {

const std::string kModels = std::string(TORUSML_SOURCE_DIR) + "/tests/models/";
const QuantizationRequest kQat{.bits = {}, .import_qat = true};

std::map<std::string, Tensor<double>> read_fixture(const std::string& path) {
  std::map<std::string, Tensor<double>> arrays;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string name;
    std::int64_t width = 0;
    line >> name >> width;
    Tensor<double>& tensor = arrays[name];
    for (double value; line >> value;) tensor.data.push_back(value);
    tensor.shape = {static_cast<std::int64_t>(tensor.data.size()) / width, width};
  }
  return arrays;
}

TEST(Brevitas, IntegersAreEqualAtEveryLayer) {
  const auto arrays = read_fixture(kModels + "checkerboard_qat_seed0_integers.txt");
  ASSERT_EQ(arrays.size(), 8U);
  const FloatGraph graph = import_onnx(kModels + "checkerboard_qat_seed0.onnx");
  const std::vector<Tensor<double>> data{arrays.at("calibration")};
  const LoweredModel model = lower(quantize(graph, data, kQat), data, {.margin = 0.3});
  verify(model.circuit);
  ASSERT_EQ(model.circuit.values.size(), 6U) << "one linear map and one table for each layer";
  EXPECT_EQ(lookup_count(model.circuit), 200);
  const Tensor<double>& points = arrays.at("points");
  const char* names[]{"int_input", "int_fc1", "int_relu1", "int_fc2", "int_relu2", "int_fc3"};
  for (std::size_t s = 0; s < 60; ++s) {
    const std::vector<double> x{points.data[2 * s], points.data[2 * s + 1]};
    auto values = run_circuit(model.circuit, {model.inputs[0].quantizer.quantize(x)});
    ASSERT_EQ(values.size(), 6U) << "an accumulator left its interval";
    for (const Node& node : model.circuit.nodes) {  // Brevitas' sums are without bias
      const auto* linear = std::get_if<Linear>(&node.op);
      for (std::size_t i = 0; linear != nullptr && i < linear->bias.size(); ++i)
        values[linear->result][i] -= linear->bias[i];
    }
    for (ValueId v = 0; v < 6; ++v) {
      const Tensor<double>& expected = arrays.at(names[v]);
      const auto width = static_cast<std::size_t>(expected.shape[1]);
      for (std::size_t i = 0; i < width; ++i)
        ASSERT_EQ(values[v][i], expected.data[s * width + i]) << names[v] << " of point " << s;
    }
  }
}

struct Case {
  std::vector<double> input, output;
};

Case read_case(const std::string& name) {
  std::ifstream file(kModels + "exported/expected.txt");
  Case result;
  bool wanted = false;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string word;
    line >> word;
    if (word == "case") wanted = text == "case " + name;
    if (!wanted || word == "case") continue;
    while (line >> word && word != ":") {
    }
    std::vector<double>& values = result.input.empty() ? result.input : result.output;
    for (double value; line >> value;) values.push_back(value);
  }
  return result;
}

class BrevitasExports : public testing::TestWithParam<const char*> {};

// QONNX and QCDQ, of the old and the new exporter; the second layer has a scale for each channel.
TEST_P(BrevitasExports, GiveBrevitasResults) {
  const Case expected = read_case(GetParam());
  const auto samples = static_cast<std::int64_t>(expected.input.size() / 2);
  ASSERT_GT(samples, 10);
  const FloatGraph graph = import_onnx(fmt::format("{}exported/{}.onnx", kModels, GetParam()));
  const std::vector<Tensor<double>> data{Tensor<double>{{samples, 2}, expected.input}};
  const LoweredModel model = lower(quantize(graph, data, kQat), data);
  verify(model.circuit);
  EXPECT_EQ(lookup_count(model.circuit), 4) << "no table at the input or the output";
  EXPECT_EQ(model.outputs[0].scale.size(), 2U);
  for (std::size_t s = 0; s < static_cast<std::size_t>(samples); ++s) {
    const std::vector<double> x{expected.input[2 * s], expected.input[2 * s + 1]};
    const auto values = run_circuit(model.circuit, {model.inputs[0].quantizer.quantize(x)});
    ASSERT_FALSE(values.empty());
    const Integers64 y = outputs_of(model.circuit, values).at(0);
    const std::vector<double> floats = dequantized(model.outputs[0], y);
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(floats[i], expected.output[2 * s + i], 1e-5);
  }
}

class BrevitasConvolutions : public testing::TestWithParam<const char*> {};

// Convolutions with one scale and with one per channel, batch normalization, and a pooling that is
// read without a quantizer of its own.
TEST_P(BrevitasConvolutions, GiveBrevitasResults) {
  const Case expected = read_case(GetParam());
  constexpr std::size_t kPixels = 25;
  const auto samples = static_cast<std::int64_t>(expected.input.size() / kPixels);
  ASSERT_GT(samples, 10);
  const FloatGraph graph = import_onnx(fmt::format("{}exported/{}.onnx", kModels, GetParam()));
  const std::vector<Tensor<double>> data{Tensor<double>{{samples, 1, 5, 5}, expected.input}};
  const LoweredModel model = lower(quantize(graph, data, kQat), data);
  verify(model.circuit);
  EXPECT_EQ(lookup_count(model.circuit), 3 * 9 + 4 * 4);
  for (std::size_t s = 0; s < static_cast<std::size_t>(samples); ++s) {
    const auto first = expected.input.begin() + static_cast<std::ptrdiff_t>(s * kPixels);
    const std::vector<double> x(first, first + kPixels);
    const auto values = run_circuit(model.circuit, {model.inputs[0].quantizer.quantize(x)});
    ASSERT_FALSE(values.empty());
    const std::vector<double> floats =
        dequantized(model.outputs[0], outputs_of(model.circuit, values).at(0));
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(floats[i], expected.output[2 * s + i], 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(All, BrevitasConvolutions,
                         testing::Values("brevitas_cnn_qonnx_old", "brevitas_cnn_qonnx_new",
                                         "brevitas_cnn_qcdq_old", "brevitas_cnn_qcdq_new"));

INSTANTIATE_TEST_SUITE_P(All, BrevitasExports,
                         testing::Values("brevitas_qonnx_old", "brevitas_qonnx_new",
                                         "brevitas_qcdq_old", "brevitas_qcdq_new"));

}  // namespace
}  // namespace torusml
