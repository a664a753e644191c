// The part of ONNX's messages that the importer reads, decoded with protozero: header-only, so no
// protobuf runtime is linked that another library of the process could clash with. Field numbers
// are those of third_party/onnx/onnx.proto (a test compares them).
//
//   OnnxModel model = decode_model(bytes, "model.onnx");   // `bytes` must outlive the model
//
// Thread rule: concurrent. Cost: one pass over the bytes; tensor contents are referred to, not
// copied.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "importer/onnx_types.h"

namespace torusml {

struct OnnxTensor {
  std::string name;
  std::vector<std::int64_t> dims;
  int data_type = 0;
  std::vector<float> float_data;
  std::vector<double> double_data;
  std::vector<std::int64_t> int_data;  // int32_data or int64_data
  std::vector<std::uint64_t> uint64_data;
  bool has_string_data = false;
  std::optional<std::string_view> raw_data;
  bool is_external = false;
  std::vector<std::pair<std::string, std::string>> external_data;  // "location", "offset", "length"
};

struct OnnxAttribute {
  std::string name;
  std::string reference;  // ref_attr_name, only inside functions
  int type = 0;           // OnnxAttributeType
  double f = 0;
  std::int64_t i = 0;
  std::string s;
  std::optional<OnnxTensor> t;
  std::vector<double> floats;
  std::vector<std::int64_t> ints;
};

struct OnnxNode {
  std::vector<std::string> inputs, outputs;
  std::string name, op_type, domain;
  std::vector<OnnxAttribute> attributes;
};

struct OnnxDimension {
  std::optional<std::int64_t> value;
  std::string symbol;
};

struct OnnxValue {
  std::string name;
  bool is_tensor = false;
  int element_type = 0;
  std::optional<std::vector<OnnxDimension>> shape;
};

struct OnnxGraph {
  std::string name;
  std::vector<OnnxNode> nodes;
  std::vector<OnnxTensor> initializers;
  std::vector<OnnxValue> inputs, outputs;
  bool has_sparse_initializers = false;
};

struct OnnxModel {
  std::int64_t ir_version = 0;
  std::vector<std::pair<std::string, std::int64_t>> opsets;  // domain, version
  std::optional<OnnxGraph> graph;
};

// `file` names the model in errors. Errors: file_truncated (cut inside a field), file_foreign (does
// not begin as an ONNX model does), file_corrupt (anything else that is no protobuf message of this
// kind).
OnnxModel decode_model(std::string_view bytes, const std::string& file);

}  // namespace torusml
