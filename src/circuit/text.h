// The circuit's text form; print and parse are inverse to each other.
//
//   circuit "tiny"
//     %0 = input "x" : tensor<2> [-3, 3]
//     %1 = linear dense(%0, @n1.0) + @n1.bias : tensor<4> [-18, 18] "fc1"
//     %2 = lut %1 tables=[@relu1 per-element] : tensor<4> [-18, 18] -> [0, 7] "relu1"
//     output "y" %2
//   constants
//     @n1.0 = dense 4x2 [1, 2, 3, 0, -1, 0, 2, 2]
//     @n1.bias = vector [0, 1, 0, 0]
//     @relu1 = table 4 rows [..., ...] of [0, 1, 2, 3]
//
// A clear input has "clear" behind its name. "scale(%3, 2)" multiplies by a constant; "sparse(%3,
// @n4.1)" is a matrix in compressed rows.
#pragma once

#include <string>
#include <string_view>

#include "circuit/circuit.h"

namespace torusml {

struct PrintOptions {
  bool constants = true;  // without them the text is for reading only
  bool clear = true;      // that inputs are clear; files say it elsewhere
};

std::string print(const Circuit& circuit, const PrintOptions& options = {});

// A verified circuit. Error invalid_circuit names the line.
Circuit parse_circuit(std::string_view text);

// A string in double quotes, with \" \\ \n \t escapes; shared with the plan's text.
std::string quote(std::string_view text);

}  // namespace torusml
