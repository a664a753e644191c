// ONNX's numbers for data types and attribute types, and what they mean for us.
#pragma once

#include <optional>
#include <string>

#include "importer/float_graph.h"

namespace torusml {

enum class OnnxType {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  uint16 = 4,
  int16 = 5,
  int32 = 6,
  int64 = 7,
  string = 8,
  boolean = 9,
  float16 = 10,
  float64 = 11,
  uint32 = 12,
  uint64 = 13,
  bfloat16 = 16,
  uint4 = 21,
  int4 = 22,
  uint2 = 25,
  int2 = 26,
};

enum class OnnxAttributeType {
  undefined = 0,
  number = 1,
  integer = 2,
  string = 3,
  tensor = 4,
  graph = 5,
  numbers = 6,
  integers = 7,
};

struct IntegerRange {
  double minimum = 0, maximum = 0;  // exact up to 53 bits
};

// "int8", or "data type 19" for one that has no name here.
std::string onnx_type_name(int data_type);

// Bits of one element in raw_data, where elements of less than a byte are packed, the first one
// lowest; 0 for types that are not read.
int onnx_type_bits(int data_type);

// The range of an integer type (of bool: none).
std::optional<IntegerRange> onnx_integer_range(int data_type);

// Null for types that are not read (strings, float8, complex...).
std::optional<ElementType> onnx_element_type(int data_type);

}  // namespace torusml
