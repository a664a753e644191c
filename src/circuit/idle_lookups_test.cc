#include "circuit/idle_lookups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "circuit/sparse_weight.h"
#include "circuit/text.h"

namespace torusml {
namespace {

Circuit small_of(const std::string& text) {
  const Circuit circuit = parse_circuit(text);
  verify(circuit);
  Circuit small = remove_idle_lookups(circuit);
  verify(small);
  return small;
}

// Of four neurons the second has no weights, and nothing reads the third; its weight in the last
// layer's other row does not count, as that row is not read.
TEST(IdleLookups, AreThoseOfConstantsAndOfWhatNothingReads) {
  const Circuit small = small_of(R"(circuit "pruned"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = linear dense(%0, @w) + @b : tensor<4> [-9, 9] "fc1"
  %2 = lut %1 tables=[@relu per-channel] : tensor<4> [-9, 9] -> [0, 9] "relu"
  %3 = linear dense(%2, @v) + @c : tensor<2> [-60, 60] "fc2"
  %4 = linear sparse(%3, @first) : tensor<1> [-60, 60] "y"
  output "y" %4
constants
  @w = dense 4x2 [1, 2, 0, 0, -1, 1, 2, 0]
  @b = vector [0, 4, -1, 1]
  @relu = table 2 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] of [0, 0, 0, 1]
  @v = dense 2x4 [2, -1, 0, 3, 1, 1, 5, 0]
  @c = vector [7, 0]
  @first = sparse 1x2 [0, 1] [0] [1] rows [0] at [0]
)");
  EXPECT_EQ(print(small), R"(circuit "pruned"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = linear dense(%0, @n1.0) + @n1.bias : tensor<2> [-9, 9] "fc1"
  %2 = lut %1 tables=[@relu per-element] : tensor<2> [-9, 9] -> [0, 9] "relu"
  %3 = linear dense(%2, @n3.0) + @n3.bias : tensor<2> [-60, 60] "fc2"
  %4 = linear sparse(%3, @n4.0) : tensor<1> [-60, 60] "y"
  output "y" %4
constants
  @n1.0 = dense 2x2 [1, 2, 2, 0]
  @n1.bias = vector [0, 1]
  @relu = table 2 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] of [0, 1]
  @n3.0 = dense 2x2 [2, 3, 0, 0]
  @n3.bias = vector [3, 0]
  @n4.0 = sparse 1x2 [0, 1] [0] [1] rows [0] at [0]
)");
}

// By the interval of each neuron, not of its layer: -3 to 3 and a bias of -5 leave a ReLU at 0.
TEST(IdleLookups, AreThoseOfTablesThatAreConstantWhereTheyAreRead) {
  const Circuit small = small_of(R"(circuit "dead"
  %0 = input "x" : tensor<1> [-3, 3]
  %1 = linear dense(%0, @w) + @b : tensor<2> [-9, 9] "fc1"
  %2 = lut %1 tables=[@relu per-tensor] : tensor<2> [-9, 9] -> [0, 9] "relu"
  %3 = linear dense(%2, @v) : tensor<1> [0, 18] "fc2"
  output "y" %3
constants
  @w = dense 2x1 [1, 1]
  @b = vector [-5, 0]
  @relu = table 1 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  @v = dense 1x2 [1, 1]
)");
  EXPECT_EQ(lookup_count(small), 1);
}

// An output and another lookup read whole tensors: what is left is put back in its place.
TEST(IdleLookups, LeaveOutputsAndOtherLookupsTheirTensors) {
  const Circuit small = small_of(R"(circuit "whole"
  %0 = input "x" : tensor<1> [0, 3]
  %1 = linear dense(%0, @w) + @b : tensor<3> [0, 6] "fc1"
  %2 = lut %1 tables=[@t per-tensor] : tensor<3> [0, 6] -> [0, 5] "table"
  %3 = lut %2 tables=[@u per-tensor] : tensor<3> [0, 5] -> [0, 4] "next"
  output "y" %2
  output "z" %3
  output "accumulator" %1
constants
  @w = dense 3x1 [1, 0, 2]
  @b = vector [0, 5, 0]
  @t = table 1 rows [3, 1, 4, 1, 5, 2, 0]
  @u = table 1 rows [0, 1, 4, 2, 0, 1]
)");
  EXPECT_EQ(lookup_count(small), 4);
  const std::vector<const Node*> outputs = output_nodes(small);
  for (const Node* output : outputs)
    EXPECT_EQ(small.values[std::get<Output>(output->op).operand].shape, Shape{3}) << output->name;
}

// ReLUs of 0 to 3 each, but for those that never open; then a map.
Circuit relus(const std::vector<bool>& is_idle, SparseWeight last, std::int64_t reach) {
  Circuit circuit;
  circuit.name = "relus";
  const auto elements = static_cast<std::int64_t>(is_idle.size());
  circuit.values = {
      {{elements}, {0, 3}}, {{elements}, {-3, 3}}, {{elements}, {0, 3}}, {{last.rows}, {0, reach}}};
  std::vector<std::int64_t> bias;
  for (const bool idle : is_idle) bias.push_back(idle ? -3 : 0);
  const Table relu{"relu", {-3, 3}, 1, {0, 0, 0, 0, 1, 2, 3}, {}};
  circuit.nodes = {{"x", Input{0}},
                   {"sums", Linear{{{0, ScaleWeight{1}}}, std::move(bias), 1}},
                   {"relu", Lut{1, {relu}, {2}}},
                   {"last", Linear{{{2, std::move(last)}}, {}, 3}},
                   {"y", Output{3}}};
  verify(circuit);
  return circuit;
}

// Rows of `width` neighbours each, times 1 or 2.
SparseWeight windows(std::int64_t rows, std::int64_t width) {
  SparseRows made(rows + width - 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t offset = 0; offset < width; ++offset)
      made.add(row + offset, 1 + offset * offset % 3);
    made.end_row();
  }
  return made.finish();
}

TEST(IdleLookups, StayWhereFewerThanASixtyFourthAreIdle) {
  std::vector<bool> is_idle(128, false);
  const auto count = [&] {
    return lookup_count(remove_idle_lookups(relus(is_idle, windows(128, 1), 3)));
  };
  is_idle[5] = true;
  EXPECT_EQ(count(), 128);
  is_idle[77] = true;
  EXPECT_EQ(count(), 126);
}

// Windows are one pattern until some of their columns are gone, here and there.
TEST(IdleLookups, StayWhereTheirReaderWouldBecomeIrregularAndLarge) {
  const auto count_idle = [](std::int64_t rows) {
    std::mt19937 random(1);
    std::vector<bool> is_idle;
    for (std::int64_t e = 0; e < rows + 999; ++e) is_idle.push_back(random() % 7 == 0);
    const Circuit circuit = relus(is_idle, windows(rows, 1000), 6000);
    const Circuit small = remove_idle_lookups(circuit);
    return std::pair(std::ranges::count(is_idle, true),
                     lookup_count(circuit) - lookup_count(small));
  };
  const auto [idle, removed] = count_idle(300);  // some 257,000 entries
  EXPECT_GT(idle, 100);
  EXPECT_EQ(removed, idle);
  EXPECT_EQ(count_idle(2000).second, 0);  // 1.7 million
}

TEST(IdleLookups, LeaveACircuitOfNeededOnesAsItIs) {
  const Circuit circuit = parse_circuit(R"(circuit "needed"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = linear dense(%0, @w) : tensor<2> [-9, 9] "fc1"
  %2 = lut %1 tables=[@relu per-tensor] : tensor<2> [-9, 9] -> [0, 9] "relu"
  output "y" %2
constants
  @w = dense 2x2 [1, 2, 2, 1]
  @relu = table 1 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
)");
  EXPECT_EQ(print(remove_idle_lookups(circuit)), print(circuit));
}

TEST(IdleLookups, MayLeaveNone) {
  const Circuit small = small_of(R"(circuit "constant"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = linear dense(%0, @w) + @b : tensor<2> [-9, 9] "fc1"
  %2 = lut %1 tables=[@relu per-tensor] : tensor<2> [-9, 9] -> [0, 9] "relu"
  %3 = linear dense(%2, @v) : tensor<1> [0, 90] "fc2"
  output "y" %3
constants
  @w = dense 2x2 [0, 0, 0, 0]
  @b = vector [4, -4]
  @relu = table 1 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  @v = dense 1x2 [5, 5]
)");
  EXPECT_EQ(print(small), R"(circuit "constant"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = linear @n1.bias : tensor<1> [0, 90] "fc2"
  output "y" %1
constants
  @n1.bias = vector [20]
)");
}

}  // namespace
}  // namespace torusml
