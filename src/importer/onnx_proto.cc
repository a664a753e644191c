#include "importer/onnx_proto.h"

#include <fmt/format.h>

#include <protozero/pbf_message.hpp>

#include "importer/onnx_fields.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using protozero::pbf_message;
using protozero::pbf_wire_type;
using protozero::tag_and_type;

constexpr pbf_wire_type kBytes = pbf_wire_type::length_delimited;
constexpr pbf_wire_type kVarint = pbf_wire_type::varint;
constexpr pbf_wire_type kFixed32 = pbf_wire_type::fixed32;
constexpr pbf_wire_type kFixed64 = pbf_wire_type::fixed64;

// Well-formed UTF-8 without zero bytes: names travel into error messages and from there into Python
// strings.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int length = lead < 0x80   ? 1
                       : lead < 0xC2 ? 0
                       : lead < 0xE0 ? 2
                       : lead < 0xF0 ? 3
                       : lead < 0xF5 ? 4
                                     : 0;
    if (lead == 0 || length == 0 || i + length > text.size()) return false;
    std::uint32_t code = length == 1 ? lead : lead & (0xFFU >> (length + 1));
    for (int k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xC0) != 0x80) return false;
      code = code << 6 | (byte & 0x3FU);
    }
    if ((length == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
        (length == 4 && (code < 0x10000 || code > 0x10FFFF))) {
      return false;
    }
    i += length;
  }
  return true;
}

template <class Message>
std::string_view view(Message& message) {
  const protozero::data_view bytes = message.get_view();
  return {bytes.data(), bytes.size()};
}

template <class Message>
std::string text(Message& message) {
  const std::string_view bytes = view(message);
  if (!is_utf8(bytes)) throw Error(ErrorCode::file_corrupt, "a name is not UTF-8 text");
  return std::string(bytes);
}

template <class Range, class T>
void append(const Range& range, std::vector<T>& to) {
  for (auto value : range) to.push_back(static_cast<T>(value));
}

std::pair<std::string, std::string> decode_entry(pbf_message<EntryField> message) {
  std::pair<std::string, std::string> entry;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(EntryField::key, kBytes):
        entry.first = text(message);
        break;
      case tag_and_type(EntryField::value, kBytes):
        entry.second = text(message);
        break;
      default:
        message.skip();
    }
  }
  return entry;
}

OnnxTensor decode_tensor(pbf_message<TensorField> message) {
  OnnxTensor tensor;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(TensorField::dims, kVarint):
        tensor.dims.push_back(message.get_int64());
        break;
      case tag_and_type(TensorField::dims, kBytes):
        append(message.get_packed_int64(), tensor.dims);
        break;
      case tag_and_type(TensorField::data_type, kVarint):
        tensor.data_type = message.get_int32();
        break;
      case tag_and_type(TensorField::float_data, kBytes):
        append(message.get_packed_float(), tensor.float_data);
        break;
      case tag_and_type(TensorField::float_data, kFixed32):
        tensor.float_data.push_back(message.get_float());
        break;
      case tag_and_type(TensorField::int32_data, kBytes):
        append(message.get_packed_int32(), tensor.int_data);
        break;
      case tag_and_type(TensorField::int32_data, kVarint):
        tensor.int_data.push_back(message.get_int32());
        break;
      case tag_and_type(TensorField::int64_data, kBytes):
        append(message.get_packed_int64(), tensor.int_data);
        break;
      case tag_and_type(TensorField::int64_data, kVarint):
        tensor.int_data.push_back(message.get_int64());
        break;
      case tag_and_type(TensorField::double_data, kBytes):
        append(message.get_packed_double(), tensor.double_data);
        break;
      case tag_and_type(TensorField::double_data, kFixed64):
        tensor.double_data.push_back(message.get_double());
        break;
      case tag_and_type(TensorField::uint64_data, kBytes):
        append(message.get_packed_uint64(), tensor.uint64_data);
        break;
      case tag_and_type(TensorField::uint64_data, kVarint):
        tensor.uint64_data.push_back(message.get_uint64());
        break;
      case tag_and_type(TensorField::string_data, kBytes):
        tensor.has_string_data = true;
        message.skip();
        break;
      case tag_and_type(TensorField::name, kBytes):
        tensor.name = text(message);
        break;
      case tag_and_type(TensorField::raw_data, kBytes):
        tensor.raw_data = view(message);
        break;
      case tag_and_type(TensorField::external_data, kBytes):
        tensor.external_data.push_back(decode_entry(message.get_message()));
        break;
      case tag_and_type(TensorField::data_location, kVarint):
        tensor.is_external = message.get_enum() == 1;
        break;
      default:
        message.skip();
    }
  }
  return tensor;
}

// Files of the first ONNX versions leave the type out: then the field that is there says it.
void infer_attribute_type(OnnxAttribute& attribute, OnnxAttributeType type) {
  if (attribute.type == 0) attribute.type = static_cast<int>(type);
}

OnnxAttribute decode_attribute(pbf_message<AttributeField> message) {
  OnnxAttribute attribute;
  int declared = 0;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(AttributeField::name, kBytes):
        attribute.name = text(message);
        break;
      case tag_and_type(AttributeField::ref_attr_name, kBytes):
        attribute.reference = text(message);
        break;
      case tag_and_type(AttributeField::type, kVarint):
        declared = message.get_enum();
        break;
      case tag_and_type(AttributeField::f, kFixed32):
        attribute.f = message.get_float();
        infer_attribute_type(attribute, OnnxAttributeType::number);
        break;
      case tag_and_type(AttributeField::i, kVarint):
        attribute.i = message.get_int64();
        infer_attribute_type(attribute, OnnxAttributeType::integer);
        break;
      case tag_and_type(AttributeField::s, kBytes):
        attribute.s = text(message);
        infer_attribute_type(attribute, OnnxAttributeType::string);
        break;
      case tag_and_type(AttributeField::t, kBytes):
        attribute.t = decode_tensor(message.get_message());
        infer_attribute_type(attribute, OnnxAttributeType::tensor);
        break;
      case tag_and_type(AttributeField::g, kBytes):
        message.skip();
        infer_attribute_type(attribute, OnnxAttributeType::graph);
        break;
      case tag_and_type(AttributeField::floats, kFixed32):
        attribute.floats.push_back(message.get_float());
        infer_attribute_type(attribute, OnnxAttributeType::numbers);
        break;
      case tag_and_type(AttributeField::floats, kBytes):
        append(message.get_packed_float(), attribute.floats);
        infer_attribute_type(attribute, OnnxAttributeType::numbers);
        break;
      case tag_and_type(AttributeField::ints, kVarint):
        attribute.ints.push_back(message.get_int64());
        infer_attribute_type(attribute, OnnxAttributeType::integers);
        break;
      case tag_and_type(AttributeField::ints, kBytes):
        append(message.get_packed_int64(), attribute.ints);
        infer_attribute_type(attribute, OnnxAttributeType::integers);
        break;
      default:
        message.skip();
    }
  }
  if (declared != 0) attribute.type = declared;
  return attribute;
}

OnnxNode decode_node(pbf_message<NodeField> message) {
  OnnxNode node;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(NodeField::input, kBytes):
        node.inputs.push_back(text(message));
        break;
      case tag_and_type(NodeField::output, kBytes):
        node.outputs.push_back(text(message));
        break;
      case tag_and_type(NodeField::name, kBytes):
        node.name = text(message);
        break;
      case tag_and_type(NodeField::op_type, kBytes):
        node.op_type = text(message);
        break;
      case tag_and_type(NodeField::domain, kBytes):
        node.domain = text(message);
        break;
      case tag_and_type(NodeField::attribute, kBytes):
        node.attributes.push_back(decode_attribute(message.get_message()));
        break;
      default:
        message.skip();
    }
  }
  if (node.domain == "ai.onnx") node.domain.clear();
  return node;
}

OnnxDimension decode_dimension(pbf_message<DimensionField> message) {
  OnnxDimension dimension;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(DimensionField::dim_value, kVarint):
        dimension.value = message.get_int64();
        break;
      case tag_and_type(DimensionField::dim_param, kBytes):
        dimension.symbol = text(message);
        break;
      default:
        message.skip();
    }
  }
  return dimension;
}

void decode_tensor_type(pbf_message<TensorTypeField> message, OnnxValue& value) {
  value.is_tensor = true;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(TensorTypeField::elem_type, kVarint):
        value.element_type = message.get_int32();
        break;
      case tag_and_type(TensorTypeField::shape, kBytes): {
        value.shape.emplace();
        pbf_message<ShapeField> shape = message.get_message();
        while (shape.next(ShapeField::dim, kBytes)) {
          value.shape->push_back(decode_dimension(shape.get_message()));
        }
        break;
      }
      default:
        message.skip();
    }
  }
}

OnnxValue decode_value(pbf_message<ValueField> message) {
  OnnxValue value;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(ValueField::name, kBytes):
        value.name = text(message);
        break;
      case tag_and_type(ValueField::type, kBytes): {
        pbf_message<TypeField> type = message.get_message();
        while (type.next(TypeField::tensor_type, kBytes)) {
          decode_tensor_type(type.get_message(), value);
        }
        break;
      }
      default:
        message.skip();
    }
  }
  return value;
}

OnnxGraph decode_graph(pbf_message<GraphField> message) {
  OnnxGraph graph;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(GraphField::node, kBytes):
        graph.nodes.push_back(decode_node(message.get_message()));
        break;
      case tag_and_type(GraphField::name, kBytes):
        graph.name = text(message);
        break;
      case tag_and_type(GraphField::initializer, kBytes):
        graph.initializers.push_back(decode_tensor(message.get_message()));
        break;
      case tag_and_type(GraphField::input, kBytes):
        graph.inputs.push_back(decode_value(message.get_message()));
        break;
      case tag_and_type(GraphField::output, kBytes):
        graph.outputs.push_back(decode_value(message.get_message()));
        break;
      case tag_and_type(GraphField::sparse_initializer, kBytes):
        graph.has_sparse_initializers = true;
        message.skip();
        break;
      default:
        message.skip();
    }
  }
  return graph;
}

std::pair<std::string, std::int64_t> decode_opset(pbf_message<OpsetField> message) {
  std::pair<std::string, std::int64_t> opset;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(OpsetField::domain, kBytes):
        opset.first = text(message);
        break;
      case tag_and_type(OpsetField::version, kVarint):
        opset.second = message.get_int64();
        break;
      default:
        message.skip();
    }
  }
  if (opset.first == "ai.onnx") opset.first.clear();
  return opset;
}

// The parts of the file, still encoded. The outer structure is read first and alone, so that a cut
// file (its last field reaches beyond the end) is told from one that is broken inside.
struct OuterModel {
  std::int64_t ir_version = 0;
  std::vector<protozero::data_view> opsets, graphs;
};

[[noreturn]] void throw_foreign(const std::string& file) {
  throw Error(ErrorCode::file_foreign, "this is not an ONNX model", file,
              "a file written by torch.onnx.export or onnx.save");
}

bool begins_like_a_model(std::string_view bytes) {
  const auto first = static_cast<unsigned char>(bytes.front());
  const unsigned field = first >> 3, type = first & 7;
  const bool is_number = field == 1 || field == 5;  // ir_version, model_version
  const bool is_message = (field >= 2 && field <= 8 && field != 5) || field == 14;
  return (is_number && type == 0) || (is_message && type == 2);
}

OuterModel decode_outer(std::string_view bytes) {
  OuterModel outer;
  pbf_message<ModelField> message{bytes.data(), bytes.size()};
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(ModelField::ir_version, kVarint):
        outer.ir_version = message.get_int64();
        break;
      case tag_and_type(ModelField::graph, kBytes):
        outer.graphs.push_back(message.get_view());
        break;
      case tag_and_type(ModelField::opset_import, kBytes):
        outer.opsets.push_back(message.get_view());
        break;
      default:
        message.skip();
    }
  }
  return outer;
}

[[noreturn]] void throw_corrupt(const std::string& file, const std::string& what) {
  throw Error(ErrorCode::file_corrupt, fmt::format("the model cannot be decoded: {}", what), file);
}

}  // namespace

OnnxModel decode_model(std::string_view bytes, const std::string& file) {
  if (bytes.empty()) throw Error(ErrorCode::file_truncated, "the model has 0 bytes", file);
  if (!begins_like_a_model(bytes)) throw_foreign(file);
  OnnxModel model;
  OuterModel outer;
  try {
    outer = decode_outer(bytes);
  } catch (const protozero::end_of_buffer_exception&) {
    throw Error(
        ErrorCode::file_truncated,
        fmt::format("the model is cut: its last field goes beyond its {} bytes", bytes.size()),
        file);
  } catch (const protozero::exception& error) {
    throw_corrupt(file, error.what());
  }
  try {
    model.ir_version = outer.ir_version;
    for (const auto& opset : outer.opsets) {
      model.opsets.push_back(decode_opset(pbf_message<OpsetField>{opset}));
    }
    if (outer.graphs.size() > 1) throw_corrupt(file, "it has more than one graph");
    if (!outer.graphs.empty()) {
      model.graph = decode_graph(pbf_message<GraphField>{outer.graphs.front()});
    }
  } catch (const protozero::exception& error) {
    throw_corrupt(file, error.what());
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), file);
  }
  return model;
}

}  // namespace torusml
