// ONNX import, and operators of users: a Python object behind the C++ interface CustomOperator.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "arrays.h"
#include "bindings.h"
#include "importer/float_graph.h"
#include "importer/onnx.h"
#include "torusml/error.h"

namespace torusml::python {
namespace {

nb::object to_python(const FloatTensor& tensor) {
  nb::object array = to_numpy(tensor.values);
  switch (tensor.type) {
    case ElementType::integer:
      return array.attr("astype")("int64");
    case ElementType::boolean:
      return array.attr("astype")("bool");
    case ElementType::floating:
      break;
  }
  return array;
}

nb::object to_python(const Attribute& attribute) {
  return std::visit(
      [](const auto& value) -> nb::object {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, FloatTensor>) {
          return to_python(value);
        } else {
          return nb::cast(value);
        }
      },
      attribute);
}

nb::list to_python(const std::vector<InputQuantization>& inputs) {
  nb::list list;
  for (const InputQuantization& input : inputs) {
    list.append(nb::make_tuple(input.scale, input.zero_point, input.n_bits, input.is_signed));
  }
  return list;
}

FloatTensor float_tensor(const nb::object& array) {
  return {ElementType::floating, to_tensor(nb::cast<Array<double>>(array))};
}

// The object is an OperatorAdapter of quantization/custom_operators.py.
class PythonOperator : public CustomOperator {
 public:
  explicit PythonOperator(nb::object object)
      : object_(std::move(object)),
        is_univariate_(nb::cast<bool>(object_.attr("is_univariate")())) {}
  PythonOperator(const PythonOperator&) = delete;
  PythonOperator& operator=(const PythonOperator&) = delete;
  ~PythonOperator() override {
    const nb::gil_scoped_acquire lock;
    object_.reset();
  }

  bool is_univariate() const override { return is_univariate_; }

  FloatTensor evaluate(const std::vector<FloatTensor>& inputs) const override {
    const nb::gil_scoped_acquire lock;
    nb::list arrays;
    for (const FloatTensor& input : inputs) {
      arrays.append(to_numpy(input.values));
    }
    return float_tensor(object_.attr("evaluate")(arrays));
  }

  RecordedLinear record(const std::vector<InputQuantization>& inputs) const override {
    const nb::gil_scoped_acquire lock;
    const nb::object recorded = object_.attr("record")(to_python(inputs));
    RecordedLinear linear;
    linear.bias = nb::cast<std::vector<std::int64_t>>(recorded["bias"]);
    linear.shape = nb::cast<Shape>(recorded["shape"]);
    const nb::object terms = recorded["terms"];
    for (const nb::handle term : terms) {
      RecordedLinear::Term& result = linear.terms.emplace_back();
      result.input = static_cast<int>(linear.terms.size()) - 1;
      result.rows = nb::cast<std::int64_t>(term[0]);
      result.columns = nb::cast<std::int64_t>(term[1]);
      result.row = nb::cast<std::vector<std::int64_t>>(term[2]);
      result.column = nb::cast<std::vector<std::int64_t>>(term[3]);
      result.value = nb::cast<std::vector<std::int64_t>>(term[4]);
    }
    return linear;
  }

  FloatTensor apply_tail(const Tensor<double>& accumulators,
                         const std::vector<InputQuantization>& inputs) const override {
    const nb::gil_scoped_acquire lock;
    return float_tensor(object_.attr("apply_tail")(to_numpy(accumulators), to_python(inputs)));
  }

 private:
  nb::object object_;
  bool is_univariate_;
};

nb::dict describe(const FloatNode& node, const FloatGraph& graph) {
  nb::list inputs;
  for (const std::string& name : node.inputs) {
    if (name.empty()) {
      inputs.append(nb::none());
      continue;
    }
    nb::dict input;
    input["name"] = name;
    const auto constant = graph.constants.find(name);
    input["constant"] =
        constant == graph.constants.end() ? nb::object(nb::none()) : to_python(constant->second);
    input["is_encrypted"] = depends_on_input(graph, name);
    const auto shape = graph.shapes.find(name);
    input["shape"] = shape == graph.shapes.end() ? nb::object(nb::none()) : nb::cast(shape->second);
    inputs.append(input);
  }
  nb::dict attributes;
  for (const auto& [name, value] : node.attributes) {
    attributes[name.c_str()] = to_python(value);
  }
  nb::dict result;
  result["name"] = node.name;
  result["op_type"] = node.op_type;
  result["domain"] = node.domain;
  result["inputs"] = inputs;
  result["attributes"] = attributes;
  return result;
}

// `make` must outlive the factory.
CustomOperatorFactory to_factory(const nb::object& make) {
  if (make.is_none()) {
    return {};
  }
  return [&make](const FloatNode& node,
                 const FloatGraph& so_far) -> std::shared_ptr<const CustomOperator> {
    const nb::gil_scoped_acquire lock;
    nb::object made = make(describe(node, so_far));
    if (made.is_none()) {
      return nullptr;
    }
    return std::make_shared<PythonOperator>(std::move(made));
  };
}

}  // namespace

void bind_importer(nb::module_& module) {
  nb::class_<FloatGraph>(module, "FloatGraph")
      .def_ro("name", &FloatGraph::name)
      .def_prop_ro("inputs",
                   [](const FloatGraph& self) {
                     nb::list inputs;
                     for (const GraphInput& input : self.inputs) {
                       inputs.append(nb::make_tuple(input.name, input.shape));
                     }
                     return inputs;
                   })
      .def_ro("outputs", &FloatGraph::outputs)
      .def(
          "evaluate",
          [](const FloatGraph& self, const std::vector<Array<double>>& inputs) -> nb::list {
            std::vector<Tensor<double>> results;
            {
              const std::vector<Tensor<double>> tensors = to_tensors(inputs);
              const nb::gil_scoped_release release;
              const auto values = evaluate(self, tensors);
              for (const std::string& output : self.outputs)
                results.push_back(values.at(output).values);
            }
            return to_numpy(std::move(results));
          },
          nb::arg("inputs"))
      .def_prop_ro("has_quantizers", [](const FloatGraph& self) {
        return std::any_of(self.nodes.begin(), self.nodes.end(), [](const FloatNode& node) {
          return node.op_type == "Quant" || node.op_type == "QuantizeLinear";
        });
      });

  module.def(
      "import_onnx",
      [](const std::string& path, const nb::object& factory) {
        const nb::gil_scoped_release release;
        return import_onnx(path, to_factory(factory));
      },
      nb::arg("path"), nb::arg("factory").none());
  module.def(
      "import_onnx_bytes",
      [](const nb::bytes& bytes, const std::string& name, const nb::object& factory) {
        const std::string_view content{bytes.c_str(), bytes.size()};
        const nb::gil_scoped_release release;
        return import_onnx_bytes(content, name, to_factory(factory));
      },
      nb::arg("bytes"), nb::arg("name"), nb::arg("factory").none());
  module.def("supported_operators", &supported_operators);
}

}  // namespace torusml::python
