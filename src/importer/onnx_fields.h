// Field numbers of ONNX's messages, as in third_party/onnx/onnx.proto and under the names it gives
// them.
#pragma once

#include <protozero/types.hpp>

namespace torusml {

enum class ModelField : protozero::pbf_tag_type { ir_version = 1, graph = 7, opset_import = 8 };

enum class OpsetField : protozero::pbf_tag_type { domain = 1, version = 2 };

enum class GraphField : protozero::pbf_tag_type {
  node = 1,
  name = 2,
  initializer = 5,
  input = 11,
  output = 12,
  sparse_initializer = 15,
};

enum class NodeField : protozero::pbf_tag_type {
  input = 1,
  output = 2,
  name = 3,
  op_type = 4,
  attribute = 5,
  domain = 7,
};

enum class AttributeField : protozero::pbf_tag_type {
  name = 1,
  f = 2,
  i = 3,
  s = 4,
  t = 5,
  g = 6,
  floats = 7,
  ints = 8,
  type = 20,
  ref_attr_name = 21,
};

enum class TensorField : protozero::pbf_tag_type {
  dims = 1,
  data_type = 2,
  float_data = 4,
  int32_data = 5,
  string_data = 6,
  int64_data = 7,
  name = 8,
  raw_data = 9,
  double_data = 10,
  uint64_data = 11,
  external_data = 13,
  data_location = 14,
};

enum class EntryField : protozero::pbf_tag_type { key = 1, value = 2 };

enum class ValueField : protozero::pbf_tag_type { name = 1, type = 2 };

enum class TypeField : protozero::pbf_tag_type { tensor_type = 1 };

enum class TensorTypeField : protozero::pbf_tag_type { elem_type = 1, shape = 2 };

enum class ShapeField : protozero::pbf_tag_type { dim = 1 };

enum class DimensionField : protozero::pbf_tag_type { dim_value = 1, dim_param = 2 };

}  // namespace torusml
