// The operator table: every operator that the importer reads and the evaluator computes, one row
// each in operators.cc; the functions behind the rows are in operators_*.cc.
//
//   const Operator* op = find_operator("", "Relu");
//   FloatTensor y = op->evaluate(node, {&x});
//
// To add an operator: a row in operators.cc, and a case in tests/models/make_operator_models.py.
//
// Thread rule: concurrent.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "importer/float_graph.h"

namespace torusml {

using Operands = std::vector<const FloatTensor*>;  // null for absent optional inputs

enum class OperatorRole {
  elementwise,  // output element i is a function of element i of each operand, after broadcasting
  reshaping,    // keeps the flat order of its first operand
  mixing,       // anything else
  constants_only,  // folded by the importer; refused on tensors that depend on the input
};

struct Operator {
  std::string domain, op_type;
  OperatorRole role = OperatorRole::elementwise;
  int min_inputs = 1, max_inputs = 1;
  // Inputs from this index on may not depend on the graph's input.
  int data_inputs = 1;
  std::vector<std::string> attributes;  // those it may have
  bool is_quantizer = false;            // stays a node even on constants
  // Errors: wrong_shape, wrong_dtype, invalid_model (attributes), not_supported.
  std::function<FloatTensor(const FloatNode&, const Operands&)> evaluate;
};

const Operator* find_operator(std::string_view domain, std::string_view op_type);

// "Relu", "onnx.brevitas.Quant"
std::string qualified_name(const std::string& domain, const std::string& op_type);

// "node 'fc1' (Gemm)"
std::string describe(const FloatNode& node);

// Attributes, with the value for an absent one. Error invalid_model for an attribute of another
// type.
double number_attribute(const FloatNode& node, const std::string& name, double otherwise);
std::int64_t integer_attribute(const FloatNode& node, const std::string& name,
                               std::int64_t otherwise);
std::string string_attribute(const FloatNode& node, const std::string& name,
                             const std::string& otherwise);
std::vector<std::int64_t> integers_attribute(const FloatNode& node, const std::string& name);

// The integers of a constant operand (axes, shapes). Values beyond 64 bits saturate.
std::vector<std::int64_t> to_integers(const FloatTensor& tensor);

// `axis` from [-rank, rank) to [0, rank). Error wrong_shape.
std::int64_t normalized_axis(std::int64_t axis, std::int64_t rank);

}  // namespace torusml
