// Circuits that plans are made for. Tests only.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "circuit/text.h"

namespace torusml {

inline std::string table(std::int64_t lower, std::int64_t upper) {
  std::string entries;
  for (std::int64_t v = lower; v <= upper; ++v)
    entries += (v == lower ? "" : ", ") + std::to_string(v > 0 ? 1 : 0);
  return entries;
}

// x in [0, 3] times 100, 8 values of it summed: a step function of an accumulator with the given
// ends.
inline Circuit step(std::int64_t lower, std::int64_t upper) {
  const std::string interval = "[" + std::to_string(lower) + ", " + std::to_string(upper) + "]";
  return parse_circuit(
      "circuit \"step\"\n  %0 = input \"x\" : tensor<2> [0, 3]\n"
      "  %1 = linear dense(%0, @n1.0) : tensor<1> " +
      interval +
      " \"fc1\"\n"
      "  %2 = lut %1 tables=[@s per-tensor] : tensor<1> " +
      interval +
      " -> [0, 1] \"relu1\"\n"
      "  output \"y\" %2\nconstants\n  @n1.0 = dense 1x2 [2, -1]\n  @s = table 1 rows [" +
      table(lower, upper) + "]\n");
}

// y = relu(x + 2 |z|) and |z|, x encrypted and z clear; z goes through a table of 601 values.
inline Circuit with_clear_input() {
  std::string text = R"(circuit "with clear input"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = input "z" clear : tensor<2> [-3, 3]
  %2 = linear scale(%1, 100) : tensor<2> [-300, 300] "wide"
  %3 = lut %2 tables=[@abs per-tensor] : tensor<2> [-300, 300] -> [0, 3] "abs"
  %4 = linear scale(%0, 1) + scale(%3, 2) : tensor<2> [-3, 9] "sum"
  %5 = lut %4 tables=[@relu per-tensor] : tensor<2> [-3, 9] -> [0, 9] "relu"
  output "y" %5
  output "abs" %3
constants
  @relu = table 1 rows [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  @abs = table 1 rows [)";
  for (int v = -300; v <= 300; ++v)
    text += (v == -300 ? "" : ", ") + std::to_string((v < 0 ? -v : v) / 100);
  return parse_circuit(text + "]\n");
}

// 200 lookups of 3 bits; sums of 4 results each go into 8 lookups of 8 bits.
inline Circuit mixed() {
  Circuit circuit;
  circuit.name = "mixed";
  const Interval few{0, 7}, many{0, 252};
  circuit.values = {{{200}, few}, {{200}, {0, 63}}, {{8}, many}, {{8}, few}};
  Table first{"first", few, 1, {}, {}}, second{"second", many, 1, {}, {}};
  for (std::int64_t v = 0; v <= 7; ++v) first.entries.push_back(63 - 9 * v);
  for (std::int64_t v = 0; v <= 252; ++v) second.entries.push_back(v % 8);
  std::vector<std::int64_t> weights(25, 0);
  std::fill_n(weights.begin(), 4, 1);
  circuit.nodes = {{"x", Input{0}},
                   {"first", Lut{0, {first}, {1}}},
                   {"sums", Linear{{{1, DenseWeight{1, 25, weights}}}, {}, 2}},
                   {"second", Lut{2, {second}, {3}}},
                   {"y", Output{3}}};
  return circuit;
}

}  // namespace torusml
