#include "importer/onnx_types.h"

#include <fmt/format.h>

#include <cmath>

namespace torusml {
namespace {

struct TypeRow {
  OnnxType type;
  const char* name;
  int stored_bits;   // 0: not read
  int integer_bits;  // 0 for others than integers
  bool is_signed;
};

constexpr TypeRow kTypes[] = {
    {OnnxType::float32, "float", 32, 0, true},   {OnnxType::uint8, "uint8", 8, 8, false},
    {OnnxType::int8, "int8", 8, 8, true},        {OnnxType::uint16, "uint16", 16, 16, false},
    {OnnxType::int16, "int16", 16, 16, true},    {OnnxType::int32, "int32", 32, 32, true},
    {OnnxType::int64, "int64", 64, 64, true},    {OnnxType::string, "string", 0, 0, false},
    {OnnxType::boolean, "bool", 8, 0, false},    {OnnxType::float16, "float16", 16, 0, true},
    {OnnxType::float64, "double", 64, 0, true},  {OnnxType::uint32, "uint32", 32, 32, false},
    {OnnxType::uint64, "uint64", 64, 64, false}, {OnnxType::bfloat16, "bfloat16", 16, 0, true},
    {OnnxType::uint4, "uint4", 4, 4, false},     {OnnxType::int4, "int4", 4, 4, true},
    {OnnxType::uint2, "uint2", 2, 2, false},     {OnnxType::int2, "int2", 2, 2, true},
};

const TypeRow* find_row(int data_type) {
  for (const TypeRow& row : kTypes) {
    if (static_cast<int>(row.type) == data_type) return &row;
  }
  return nullptr;
}

}  // namespace

std::string onnx_type_name(int data_type) {
  const TypeRow* row = find_row(data_type);
  return row ? row->name : fmt::format("data type {}", data_type);
}

int onnx_type_bits(int data_type) {
  const TypeRow* row = find_row(data_type);
  return row ? row->stored_bits : 0;
}

std::optional<IntegerRange> onnx_integer_range(int data_type) {
  const TypeRow* row = find_row(data_type);
  if (!row || row->integer_bits == 0) return std::nullopt;
  if (!row->is_signed) return IntegerRange{0, std::ldexp(1.0, row->integer_bits) - 1};
  const double half = std::ldexp(1.0, row->integer_bits - 1);
  return IntegerRange{-half, half - 1};
}

std::optional<ElementType> onnx_element_type(int data_type) {
  const TypeRow* row = find_row(data_type);
  if (!row || row->stored_bits == 0) return std::nullopt;
  if (row->type == OnnxType::boolean) return ElementType::boolean;
  return row->integer_bits > 0 ? ElementType::integer : ElementType::floating;
}

}  // namespace torusml
