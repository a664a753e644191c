// For tests: float graphs, node by node.
//
//   FloatGraph graph = TestGraph().input("x", {1, 3}).constant("w", {{3, 2}, {...}})
//                          .node("MatMul", {"x", "w"}, "h").node("Relu", {"h"},
//                          "y").output("y").build();
#pragma once

#include <random>
#include <string>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

class TestGraph {
 public:
  TestGraph& input(const std::string& name, const Shape& shape) {
    graph_.inputs.push_back({name, shape});
    return *this;
  }

  TestGraph& constant(const std::string& name, const Tensor<double>& values) {
    graph_.constants[name] = {ElementType::floating, values};
    return *this;
  }

  TestGraph& integers(const std::string& name, const std::vector<double>& values) {
    const Shape shape{static_cast<std::int64_t>(values.size())};
    graph_.constants[name] = {ElementType::integer, {shape, values}};
    return *this;
  }

  TestGraph& node(const std::string& op_type, const std::vector<std::string>& inputs,
                  const std::string& output,
                  const std::map<std::string, Attribute>& attributes = {},
                  const std::string& domain = "") {
    graph_.nodes.push_back(
        {op_type + "_" + output, op_type, domain, inputs, {output}, attributes, nullptr});
    return *this;
  }

  TestGraph& custom(std::shared_ptr<const CustomOperator> op,
                    const std::vector<std::string>& inputs, const std::string& output) {
    graph_.nodes.push_back({"custom_" + output, "Custom", "user", inputs, {output}, {}, op});
    return *this;
  }

  // Quant of QONNX with one scale.
  TestGraph& quant(const std::string& input, const std::string& output, double scale, int bits,
                   bool is_signed, bool narrow = false, double zero_point = 0) {
    constant(output + ".scale", {{}, {scale}});
    constant(output + ".zero", {{}, {zero_point}});
    constant(output + ".bits", {{}, {static_cast<double>(bits)}});
    return node("Quant", {input, output + ".scale", output + ".zero", output + ".bits"}, output,
                {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{narrow}}},
                "onnx.brevitas");
  }

  TestGraph& output(const std::string& name) {
    graph_.outputs.push_back(name);
    return *this;
  }

  FloatGraph build() const {
    FloatGraph graph = graph_;
    graph.name = "test";
    std::vector<Tensor<double>> samples;
    for (const GraphInput& input : graph.inputs) {
      const auto elements = static_cast<std::size_t>(number_of_elements(input.shape));
      samples.push_back({input.shape, std::vector<double>(elements, 0.5)});
    }
    for (const auto& [name, tensor] : evaluate(graph, samples))
      graph.shapes[name] = tensor.values.shape;
    return graph;
  }

 private:
  FloatGraph graph_;
};

// Uniform numbers of [low, high].
inline Tensor<double> random_tensor(std::mt19937_64& random, const Shape& shape, double low = -1,
                                    double high = 1) {
  Tensor<double> tensor{shape, {}};
  std::uniform_real_distribution<double> distribution(low, high);
  for (std::int64_t i = number_of_elements(shape); i > 0; --i)
    tensor.data.push_back(distribution(random));
  return tensor;
}

}  // namespace torusml
