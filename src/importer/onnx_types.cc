#include "importer/onnx_types.h"

#include <fmt/format.h>

#include <cmath>

namespace torusml {
namespace {

struct TypeRow {
  OnnxType type;
  const char* name;
  int bytes;  // 0: not read
  int bits;   // of an integer; 0 for others
  bool is_signed;
};

constexpr TypeRow kTypes[] = {
    {OnnxType::float32, "float", 4, 0, true},   {OnnxType::uint8, "uint8", 1, 8, false},
    {OnnxType::int8, "int8", 1, 8, true},       {OnnxType::uint16, "uint16", 2, 16, false},
    {OnnxType::int16, "int16", 2, 16, true},    {OnnxType::int32, "int32", 4, 32, true},
    {OnnxType::int64, "int64", 8, 64, true},    {OnnxType::string, "string", 0, 0, false},
    {OnnxType::boolean, "bool", 1, 0, false},   {OnnxType::float16, "float16", 2, 0, true},
    {OnnxType::float64, "double", 8, 0, true},  {OnnxType::uint32, "uint32", 4, 32, false},
    {OnnxType::uint64, "uint64", 8, 64, false}, {OnnxType::bfloat16, "bfloat16", 2, 0, true},
    {OnnxType::uint4, "uint4", 0, 4, false},    {OnnxType::int4, "int4", 0, 4, true},
    {OnnxType::uint2, "uint2", 0, 2, false},    {OnnxType::int2, "int2", 0, 2, true},
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

int onnx_type_bytes(int data_type) {
  const TypeRow* row = find_row(data_type);
  return row ? row->bytes : 0;
}

std::optional<IntegerRange> onnx_integer_range(int data_type) {
  const TypeRow* row = find_row(data_type);
  if (!row || row->bits == 0) return std::nullopt;
  if (!row->is_signed) return IntegerRange{0, std::ldexp(1.0, row->bits) - 1};
  const double half = std::ldexp(1.0, row->bits - 1);
  return IntegerRange{-half, half - 1};
}

std::optional<ElementType> onnx_element_type(int data_type) {
  const TypeRow* row = find_row(data_type);
  if (!row || row->bytes == 0) return std::nullopt;
  if (row->type == OnnxType::boolean) return ElementType::boolean;
  return row->bits > 0 ? ElementType::integer : ElementType::floating;
}

}  // namespace torusml
