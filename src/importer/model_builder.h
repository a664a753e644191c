// For tests: writes small ONNX models, also ones that no exporter would write.
//
//   std::string bytes = GraphBuilder().input("x", {-1, 3}).node("Relu", {"x"},
//   {"y"}).output("y").model();
#pragma once

#include <cstdint>
#include <cstring>
#include <protozero/pbf_builder.hpp>
#include <string>
#include <vector>

#include "importer/onnx_fields.h"
#include "importer/onnx_types.h"

namespace torusml {

struct BuiltTensor {
  std::string name;
  OnnxType type = OnnxType::float32;
  std::vector<std::int64_t> dims;
  std::string raw;
  std::vector<std::pair<std::string, std::string>> external;

  static BuiltTensor floats(std::string name, std::vector<std::int64_t> dims,
                            const std::vector<float>& values) {
    std::string raw(values.size() * 4, '\0');
    if (!values.empty()) std::memcpy(raw.data(), values.data(), raw.size());
    return {std::move(name), OnnxType::float32, std::move(dims), raw, {}};
  }

  static BuiltTensor integers(std::string name, const std::vector<std::int64_t>& values) {
    std::string raw(values.size() * 8, '\0');
    if (!values.empty()) std::memcpy(raw.data(), values.data(), raw.size());
    return {std::move(name), OnnxType::int64, {std::int64_t(values.size())}, raw, {}};
  }

  std::string bytes() const {
    std::string out;
    protozero::pbf_builder<TensorField> tensor(out);
    for (std::int64_t size : dims) tensor.add_int64(TensorField::dims, size);
    tensor.add_int32(TensorField::data_type, static_cast<int>(type));
    tensor.add_string(TensorField::name, name);
    if (external.empty()) tensor.add_bytes(TensorField::raw_data, raw);
    for (const auto& [key, value] : external) {
      protozero::pbf_builder<EntryField> entry(tensor, TensorField::external_data);
      entry.add_string(EntryField::key, key);
      entry.add_string(EntryField::value, value);
    }
    if (!external.empty()) tensor.add_enum(TensorField::data_location, 1);
    return out;
  }
};

class GraphBuilder {
 public:
  // A size of -1 is a symbol, -2 nothing at all; others are written as they are.
  GraphBuilder& input(const std::string& name, const std::vector<std::int64_t>& dims,
                      OnnxType type = OnnxType::float32) {
    protozero::pbf_builder<GraphField> graph(bytes_);
    protozero::pbf_builder<ValueField> value(graph, GraphField::input);
    value.add_string(ValueField::name, name);
    // Messages without content are written too: a scalar's shape, an unknown dimension.
    std::string shape;
    for (std::int64_t size : dims) {
      std::string dimension;
      protozero::pbf_builder<DimensionField> fields(dimension);
      if (size == -1) fields.add_string(DimensionField::dim_param, "width");
      if (size >= 0 || size < -2) fields.add_int64(DimensionField::dim_value, size);
      protozero::pbf_builder<ShapeField>(shape).add_message(ShapeField::dim, dimension);
    }
    protozero::pbf_builder<TypeField> kind(value, ValueField::type);
    protozero::pbf_builder<TensorTypeField> tensor(kind, TypeField::tensor_type);
    tensor.add_int32(TensorTypeField::elem_type, static_cast<int>(type));
    tensor.add_message(TensorTypeField::shape, shape);
    return *this;
  }

  GraphBuilder& node(
      const std::string& op_type, const std::vector<std::string>& inputs,
      const std::vector<std::string>& outputs,
      const std::vector<std::pair<std::string, std::int64_t>>& integers = {},
      const std::string& domain = "", const std::string& name = "",
      const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& lists = {}) {
    protozero::pbf_builder<GraphField> graph(bytes_);
    protozero::pbf_builder<NodeField> node(graph, GraphField::node);
    for (const auto& tensor : inputs) node.add_string(NodeField::input, tensor);
    for (const auto& tensor : outputs) node.add_string(NodeField::output, tensor);
    if (!name.empty()) node.add_string(NodeField::name, name);
    node.add_string(NodeField::op_type, op_type);
    for (const auto& [key, value] : integers) {
      protozero::pbf_builder<AttributeField> attribute(node, NodeField::attribute);
      attribute.add_string(AttributeField::name, key);
      attribute.add_int64(AttributeField::i, value);
      attribute.add_enum(AttributeField::type, static_cast<int>(OnnxAttributeType::integer));
    }
    for (const auto& [key, values] : lists) {
      protozero::pbf_builder<AttributeField> attribute(node, NodeField::attribute);
      attribute.add_string(AttributeField::name, key);
      for (const std::int64_t value : values) attribute.add_int64(AttributeField::ints, value);
      attribute.add_enum(AttributeField::type, static_cast<int>(OnnxAttributeType::integers));
    }
    if (!domain.empty()) node.add_string(NodeField::domain, domain);
    return *this;
  }

  GraphBuilder& constant(const BuiltTensor& tensor) {
    protozero::pbf_builder<GraphField>(bytes_).add_message(GraphField::initializer, tensor.bytes());
    return *this;
  }

  GraphBuilder& output(const std::string& name) {
    protozero::pbf_builder<GraphField> graph(bytes_);
    protozero::pbf_builder<ValueField> value(graph, GraphField::output);
    value.add_string(ValueField::name, name);
    return *this;
  }

  // `domains` are those that the nodes use beside ONNX's own.
  std::string model(std::int64_t opset = 18, const std::vector<std::string>& domains = {}) const {
    std::string out;
    protozero::pbf_builder<ModelField> model(out);
    model.add_int64(ModelField::ir_version, 9);
    {
      protozero::pbf_builder<OpsetField> version(model, ModelField::opset_import);
      version.add_int64(OpsetField::version, opset);
    }
    for (const std::string& domain : domains) {
      protozero::pbf_builder<OpsetField> version(model, ModelField::opset_import);
      version.add_string(OpsetField::domain, domain);
      version.add_int64(OpsetField::version, 1);
    }
    model.add_message(ModelField::graph, bytes_);
    return out;
  }

 private:
  std::string bytes_;
};

}  // namespace torusml
