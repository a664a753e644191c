#include "circuit/circuit.h"

#include <gtest/gtest.h>

#include <random>

#include "base/testing/errors.h"
#include "circuit/norms.h"
#include "circuit/passes.h"
#include "circuit/separate_scales.h"
#include "circuit/step.h"
#include "circuit/text.h"
#include "torusml/error.h"

namespace torusml {
namespace {

const char kTiny[] = R"(circuit "tiny"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = linear dense(%0, @n1.0) + @n1.bias : tensor<3> [-12, 12] "fc1"
  %2, %3 = lut %1 tables=[@relu per-tensor, @step per-channel] : tensor<3> [-12, 12] -> [0, 12], [0, 1] "relu"
  %4 = linear scale(%2, 2) + sparse(%3, @n3.1) : tensor<3> [-1, 25] "sum"
  output "y" %4
constants
  @n1.0 = dense 3x2 [1, 2, 3, 0, -1, 1]
  @n1.bias = vector [0, 1, -1]
  @relu = table 1 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
  @step = table 2 rows [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] of [0, 1, 0]
  @n3.1 = sparse 3x3 [0, 1, 2] [0, 0] [1, -1] rows [0, 1, 0] at [2, 0, 1]
)";

TEST(Step, IsTwoRunsAtMost) {
  const Table table{
      "t", {-2, 2}, 4, {0, 0, 0, 5, 5, 3, 3, 3, 3, 3, 7, 1, 1, 1, 1, 0, 1, 1, 0, 0}, {}};
  const auto expect_step = [&](std::size_t row, const Step& expected) {
    const auto step = as_step(table, row);
    ASSERT_TRUE(step) << row;
    EXPECT_EQ(step->first, expected.first) << row;
    EXPECT_EQ(step->below, expected.below) << row;
    EXPECT_EQ(step->above, expected.above) << row;
  };
  expect_step(0, {1, 0, 5});
  expect_step(1, {0, 3, 3});
  expect_step(2, {-1, 7, 1});
  EXPECT_FALSE(as_step(table, 3));

  EXPECT_FALSE(step_reach({0, {table}, {1}}));
  Table steps = table;
  steps.rows = 1;
  steps.entries.resize(5);
  EXPECT_EQ(step_reach({0, {steps}, {1}}), 3u);  // -2, -1 and 0
  steps.rows = 3;
  steps.entries.assign(table.entries.begin(), table.entries.begin() + 15);
  EXPECT_EQ(step_reach({0, {steps}, {1}}), 4u);  // -1 .. 2
}

ErrorCode code_of(const std::string& text) {
  try {
    parse_circuit(text);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(CircuitText, PrintsWhatItParsed) {
  const Circuit circuit = parse_circuit(kTiny);
  EXPECT_EQ(print(circuit), kTiny);
  EXPECT_EQ(parse_circuit(print(circuit)), circuit);
  EXPECT_EQ(lookup_count(circuit), 6);
  EXPECT_EQ(maximum_bit_width(circuit), 6);
}

TEST(CircuitText, EscapesNames) {
  Circuit circuit = parse_circuit(kTiny);
  circuit.nodes[1].name = "a \"quoted\"\n\\name";
  EXPECT_EQ(parse_circuit(print(circuit)), circuit);
}

TEST(CircuitText, EveryPrefixIsRefused) {
  const std::string text = kTiny;
  for (std::size_t length = 0; length + 2 < text.size(); ++length) {
    EXPECT_EQ(code_of(text.substr(0, length)), ErrorCode::invalid_circuit) << length;
  }
}

TEST(CircuitText, RefusesWhatDoesNotFit) {
  const std::pair<const char*, const char*> edits[] = {
      {"tensor<2>", "tensor<0>"},
      {"tensor<2>", "tensor<-2>"},
      {"tensor<2>", "tensor<99999999999999999999>"},
      {"tensor<2>", "tensor<4>"},
      {"tensor<2>", "tensor<3000000000x3000000000x3>"},
      {"[-3, 3]", "[3, -3]"},
      {"dense(%0", "dense(%1"},
      {"dense(%0", "dense(%7"},
      {"%1 = linear", "%2 = linear"},
      {"dense 3x2", "dense 2x2"},
      {"vector [0, 1, -1]", "vector [0, 1]"},
      {"-> [0, 12]", "-> [0, 11]"},
      {"table 1 rows", "table 2 rows"},
      {"of [0, 1, 0]", "of [0, 2, 0]"},
      {"of [0, 1, 0]", "of [0, 1]"},
      {"at [2, 0, 1]", "at [3, 0, 1]"},
      {"at [2, 0, 1]", "at [-1, 0, 1]"},
      {"at [2, 0, 1]", "at [2, 0]"},
      {"[0, 0] [1, -1]", "[1, 0] [1, -1]"},
      {"[0, 0] [1, -1]", "[0, -1] [1, -1]"},
      {"[0, 0] [1, -1]", "[0, 0] [1]"},
      {"[0, 0] [1, -1]", "[9223372036854775807, 0] [1, -1]"},
      {"[0, 1, 2] [0", "[0, 2, 1] [0"},
      {"[0, 1, 2] [0", "[1, 1, 2] [0"},
      {"[0, 1, 2] [0", "[] [0"},
      {"rows [0, 1, 0]", "rows [0, 2, 0]"},
      {"rows [0, 1, 0]", "rows [0, -1, 0]"},
      {"rows [0, 1, 0]", "rows [0, 4294967296, 0]"},
      {"rows [0, 1, 0]", "rows [0, 1]"},
      {"output \"y\" %4\n", ""},
      {"@n1.0 = dense", "@n9.0 = dense"},
  };
  for (const auto& [from, to] : edits) {
    EXPECT_EQ(code_of(replaced(kTiny, from, to)), ErrorCode::invalid_circuit)
        << from << " -> " << to;
  }
}

TEST(Circuit, BitWidthIsThatOfTwosComplement) {
  EXPECT_EQ(bit_width({0, 0}), 1);
  EXPECT_EQ(bit_width({0, 1}), 1);
  EXPECT_EQ(bit_width({0, 255}), 8);
  EXPECT_EQ(bit_width({0, 256}), 9);
  EXPECT_EQ(bit_width({-1, 0}), 1);
  EXPECT_EQ(bit_width({-4, 3}), 3);
  EXPECT_EQ(bit_width({-157, 150}), 9);
  EXPECT_EQ(bit_width({-1, 255}), 9);
}

TEST(Circuit, GuaranteedIntervalsFollowWeightsAndTables) {
  const Circuit circuit = parse_circuit(kTiny);
  const std::vector<Interval> intervals = guaranteed_intervals(circuit);
  EXPECT_EQ(intervals[1], (Interval{-9, 10}));  // 3 * 3 + 1 above, 1 * 3 + 2 * 3 below
  EXPECT_EQ(intervals[2], (Interval{0, 10}));
  EXPECT_EQ(intervals[3], (Interval{0, 1}));
  EXPECT_EQ(intervals[4], (Interval{-1, 20}));
}

TEST(Circuit, GuaranteedIntervalsRefuseOverflow) {
  const std::string text = replaced(kTiny, "scale(%2, 2)", "scale(%2, 4611686018427387904)");
  EXPECT_THROW(guaranteed_intervals(parse_circuit(text)), Error);
}

TEST(Circuit, NormsCountCoherently) {
  const Circuit circuit = parse_circuit(R"(circuit "residual"
  %0 = input "x" : tensor<1> [0, 1]
  %1 = linear scale(%0, 3) : tensor<1> [0, 3] "a"
  %2 = linear scale(%0, 1) + scale(%1, 2) : tensor<1> [0, 7] "b"
  %3, %4 = lut %2 tables=[@f per-tensor, @g per-tensor] : tensor<1> [0, 7] -> [0, 1], [0, 1] "f"
  %5 = linear scale(%3, 3) + scale(%4, 4) : tensor<1> [0, 7] "c"
  output "y" %5
constants
  @f = table 1 rows [0, 0, 0, 0, 1, 1, 1, 1]
  @g = table 1 rows [0, 0, 0, 1, 1, 1, 1, 1]
)");
  const std::vector<NoiseNorms> norms = noise_norms(circuit);
  EXPECT_EQ(norms[2].fresh, 49);  // (1 + 2 * 3)^2
  EXPECT_EQ(norms[2].bootstrap, 0);
  EXPECT_EQ(norms[5].bootstrap, 49);  // (3 + 4)^2: tables of one operand
  EXPECT_EQ(norms[5].fresh, 0);
  EXPECT_EQ(norms[3].by_lookup, (std::map<std::size_t, double>{{3, 1}}));
  EXPECT_EQ(norms[5].by_lookup, (std::map<std::size_t, double>{{3, 49}}));
}

// Shares of coherent lookups add up to the whole; those of different operands are apart, each with
// its largest element.
TEST(Circuit, NormsByLookup) {
  const Circuit circuit = parse_circuit(R"(circuit "shares"
  %0 = input "x" : tensor<2> [0, 1]
  %1 = lut %0 tables=[@f per-tensor] : tensor<2> [0, 1] -> [0, 1] "f"
  %2 = lut %0 tables=[@g per-tensor] : tensor<2> [0, 1] -> [0, 1] "g"
  %3 = lut %1 tables=[@h per-tensor] : tensor<2> [0, 1] -> [0, 1] "h"
  %4 = linear scale(%1, 3) + scale(%2, -4) + dense(%3, @w) : tensor<2> [-4, 16] "sum"
  output "y" %4
constants
  @f = table 1 rows [0, 1]
  @g = table 1 rows [0, 1]
  @h = table 1 rows [1, 0]
  @w = dense 2x2 [1, 2, 3, 0]
)");
  const NoiseNorms norms = noise_norms(circuit)[4];
  EXPECT_EQ(norms.bootstrap, 49 + 9);
  EXPECT_EQ(norms.by_lookup, (std::map<std::size_t, double>{{1, 21}, {2, 28}, {3, 9}}));
  EXPECT_EQ(noise_norms(circuit, {{2, 4}})[4].bootstrap, 11 * 11 + 9);
}

// A value that a linear map reads has its composed map measured, others their rows.
TEST(Norms, AreTheSameByRowsAndByMatrices) {
  std::mt19937_64 random(5);
  const auto draw = [&] { return static_cast<std::int64_t>(random() % 7) - 3; };
  for (int turn = 0; turn < 20; ++turn) {
    Circuit circuit;
    circuit.values.assign(5, {{6}, {-3, 3}});
    circuit.nodes.push_back({"x", Input{0}});
    const Table table{"t", {-3, 3}, 1, {0, 0, 0, 0, 1, 2, 3}, {}};
    circuit.nodes.push_back({"a", Lut{0, {table}, {1}}});
    circuit.values[2].interval = {-1000, 1000};
    DenseWeight dense{3, 3, {}};
    for (int i = 0; i < 9; ++i) dense.data.push_back(draw());
    SparseRows sparse(6);
    for (int row = 0; row < 6; ++row) {
      for (int e = 0; e < 3; ++e) sparse.add(static_cast<std::int64_t>(random() % 6), draw());
      sparse.end_row();
    }
    circuit.nodes.push_back({"sum", Linear{{{turn % 2 == 0 ? 0u : 1u, dense},
                                            {1 - turn % 2 == 0 ? 0u : 1u, sparse.finish()}},
                                           {},
                                           2}});
    const std::map<std::size_t, double> variance{{1, 2.5}};
    const NoiseNorms by_rows = noise_norms(circuit, variance)[2];
    circuit.values[3].interval = {-1000, 1000};
    circuit.nodes.push_back({"again", Linear{{{2, ScaleWeight{1}}}, {}, 3}});
    const NoiseNorms by_matrices = noise_norms(circuit, variance)[2];
    EXPECT_DOUBLE_EQ(by_rows.fresh, by_matrices.fresh);
    EXPECT_DOUBLE_EQ(by_rows.bootstrap, by_matrices.bootstrap);
    ASSERT_EQ(by_rows.by_lookup.size(), by_matrices.by_lookup.size());
    for (const auto& [node, norm] : by_rows.by_lookup)
      EXPECT_DOUBLE_EQ(norm, by_matrices.by_lookup.at(node));
  }
}

TEST(Passes, ShareLookups) {
  const Circuit shared = share_lookups(parse_circuit(R"(circuit "twice"
  %0 = input "x" : tensor<1> [0, 3]
  %1 = lut %0 tables=[@a per-tensor] : tensor<1> [0, 3] -> [0, 1] "a"
  %2 = lut %0 tables=[@b per-tensor] : tensor<1> [0, 3] -> [0, 2] "b"
  %3 = lut %0 tables=[@c per-tensor] : tensor<1> [0, 3] -> [0, 1] "c"
  %4 = linear scale(%1, 1) + scale(%2, 1) + scale(%3, 1) : tensor<1> [0, 4] "sum"
  output "y" %4
constants
  @a = table 1 rows [0, 1, 0, 1]
  @b = table 1 rows [0, 2, 0, 1]
  @c = table 1 rows [0, 1, 0, 1]
)"));
  EXPECT_EQ(print(shared), R"(circuit "twice"
  %0 = input "x" : tensor<1> [0, 3]
  %1, %2 = lut %0 tables=[@a per-tensor, @b per-tensor] : tensor<1> [0, 3] -> [0, 1], [0, 2] "a"
  %3 = linear scale(%1, 1) + scale(%2, 1) + scale(%1, 1) : tensor<1> [0, 4] "sum"
  output "y" %3
constants
  @a = table 1 rows [0, 1, 0, 1]
  @b = table 1 rows [0, 2, 0, 1]
)");
  verify(shared);
}

TEST(Passes, FoldAffineLuts) {
  const Circuit folded = fold_affine_luts(parse_circuit(R"(circuit "affine"
  %0 = input "x" : tensor<2> [-1, 2]
  %1 = lut %0 tables=[@a per-element] : tensor<2> [-1, 2] -> [-6, 6] "a"
  %2 = lut %1 tables=[@b per-tensor] : tensor<2> [-6, 6] -> [0, 36] "square"
  output "y" %2
constants
  @a = table 2 rows [-1, 1, 3, 5, 6, 3, 0, -3] of [0, 1]
  @b = table 1 rows [36, 25, 16, 9, 4, 1, 0, 1, 4, 9, 16, 25, 36]
)"));
  verify(folded);
  EXPECT_EQ(lookup_count(folded), 2);
  const auto& linear = std::get<Linear>(folded.nodes[1].op);
  EXPECT_EQ(linear.bias, (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(std::get<SparseWeight>(linear.terms[0].weight).value,
            (std::vector<std::int64_t>{2, -3}));
}

// %2 goes into a wide sum and, with %4, into a narrow one: a residual connection.
constexpr const char* kResidual = R"(circuit "residual"
  %0 = input "x" : tensor<2> [-3, 3]
  %1 = lut %0 tables=[@relu per-tensor] : tensor<2> [-3, 3] -> [0, 3] "relu"
  %2 = linear dense(%1, @wide) : tensor<2> [-120, 120] "wide"
  %3 = lut %2 tables=[@sign per-tensor] : tensor<2> [-120, 120] -> [0, 1] "sign"
  %4 = linear scale(%1, 1) + scale(%3, 1) : tensor<2> [0, 4] "sum"
  %5 = lut %4 tables=[@last per-tensor] : tensor<2> [0, 4] -> [0, 2] "last"
  output "y" %5
constants
  @relu = table 1 rows [0, 0, 0, 0, 1, 2, 3]
  @wide = dense 2x2 [20, -20, 7, 20]
  @sign = table 1 rows [SIGN]
  @last = table 1 rows [0, 1, 0, 2, 1]
)";

Circuit residual() {
  std::string text = kResidual, entries;
  for (int v = -120; v <= 120; ++v)
    entries += (v == -120 ? "" : ", ") + std::string(v > 0 ? "1" : "0");
  return parse_circuit(text.replace(text.find("SIGN"), 4, entries));
}

TEST(Passes, SeparateScalesCopiesWhatSumsOfUnlikeWidthRead) {
  const Circuit circuit = residual();
  const Circuit separate = separate_scales(circuit);
  verify(separate);
  const Lut& relu = std::get<Lut>(separate.nodes[1].op);
  ASSERT_EQ(relu.tables.size(), 2u);
  EXPECT_EQ(relu.tables[0].entries, relu.tables[1].entries);
  const Linear& wide = std::get<Linear>(separate.nodes[2].op);
  const Linear& sum = std::get<Linear>(separate.nodes[4].op);
  EXPECT_NE(wide.terms[0].operand, sum.terms[0].operand);
  EXPECT_EQ(lookup_count(separate), lookup_count(circuit) + 2);
  EXPECT_EQ(parse_circuit(print(separate)), separate);
  EXPECT_EQ(separate_scales(separate), separate);
}

TEST(Passes, SeparateScalesFindsFreeNames) {
  Circuit circuit = residual();
  std::get<Lut>(circuit.nodes[3].op).tables[0].name = "relu.2";
  const Circuit separate = separate_scales(circuit);
  verify(separate);
  EXPECT_EQ(std::get<Lut>(separate.nodes[1].op).tables[1].name, "relu.3");
}

TEST(Passes, SeparateScalesLeavesLikeWidthsAndTiedReaders) {
  Circuit alike = residual();  // 19 values beside 5 are not far enough apart
  auto& sign = std::get<Lut>(alike.nodes[3].op).tables[0];
  alike.values[2].interval = sign.domain = {-9, 9};
  sign.entries.assign(19, 0);
  std::get<DenseWeight>(std::get<Linear>(alike.nodes[2].op).terms[0].weight).data = {3, 0, 0, 3};
  verify(alike);
  EXPECT_EQ(separate_scales(alike), alike);

  Circuit tied = residual();  // the wide sum is a term of the narrow one
  std::get<Linear>(tied.nodes[4].op).terms[1].operand = std::get<Linear>(tied.nodes[2].op).result;
  tied.values[4].interval = {-117, 123};
  auto& last = std::get<Lut>(tied.nodes[5].op).tables[0];
  last.domain = {-117, 123};
  last.entries.assign(241, 0);
  verify(tied);
  EXPECT_EQ(separate_scales(tied), tied);
}

constexpr const char* kTwoInputs = R"(circuit "two inputs"
  %0 = input "x" : tensor<2> [0, 1]
  %1 = input "z" clear : tensor<2> [0, 1]
  %2 = linear @n2.bias : tensor<2> [1, 2] "constant"
  %3 = linear dense(%1, @n3.0) + scale(%2, 1) : tensor<2> [1, 4] "clear"
  %4, %5 = lut %3 tables=[@a per-tensor, @b per-tensor] : tensor<2> [1, 4] -> [0, 1], [0, 1] "tables"
  %6 = linear dense(%0, @n5.0) + scale(%4, 1) : tensor<2> [0, 3] "both"
  %7 = lut %6 tables=[@c per-tensor] : tensor<2> [0, 3] -> [0, 1] "last"
  output "y" %7
constants
  @n2.bias = vector [1, 2]
  @n3.0 = dense 2x2 [1, 1, 1, 1]
  @n5.0 = dense 2x2 [1, 1, 1, 1]
  @a = table 1 rows [0, 1, 1, 0]
  @b = table 1 rows [1, 0, 0, 1]
  @c = table 1 rows [0, 1, 0, 1]
)";

Circuit two_inputs() { return parse_circuit(kTwoInputs); }

TEST(ClearValues, DependOnClearInputsAndConstantsAlone) {
  Circuit circuit = two_inputs();
  EXPECT_EQ(parse_circuit(print(circuit)), circuit);
  EXPECT_EQ(clear_values(circuit),
            (std::vector<bool>{false, true, true, true, true, true, false, false}));
  EXPECT_EQ(lookup_count(circuit), 2);
  EXPECT_EQ(linear_multiplications(circuit), 4);
  EXPECT_EQ(lookup_count(run_passes(circuit)), 2) << "passes keep the mark";
  EXPECT_EQ(separate_scales(circuit), circuit);
  const std::string without = print(circuit, {.clear = false});
  EXPECT_EQ(without, replaced(print(circuit), "\"z\" clear", "\"z\""));

  mark_clear(circuit, {false, false});
  EXPECT_EQ(parse_circuit(without), circuit);
  EXPECT_EQ(clear_values(circuit), std::vector<bool>(8, false)) << "constants neither";
  EXPECT_EQ(lookup_count(circuit), 6);
  EXPECT_EQ(linear_multiplications(circuit), 8);
}

TEST(ClearValues, AreDeclaredByName) {
  Circuit circuit = two_inputs();
  const Circuit marked = circuit;
  declare_clear(circuit, std::vector<std::string>{"x"});
  EXPECT_TRUE(std::get<Input>(circuit.nodes[0].op).is_clear);
  EXPECT_FALSE(std::get<Input>(circuit.nodes[1].op).is_clear) << "only those that are named";
  declare_clear(circuit, std::vector<std::string>{"z"});
  EXPECT_EQ(circuit, marked);
  const auto code = [&](const std::vector<std::string>& names) {
    return error_of([&] { declare_clear(circuit, names); }).code();
  };
  EXPECT_EQ(code({"w"}), ErrorCode::unknown_option);
  EXPECT_EQ(code({"x", "z"}), ErrorCode::invalid_argument);
}

TEST(Passes, RemoveDeadNodesKeepsInputs) {
  const Circuit lean = remove_dead_nodes(parse_circuit(R"(circuit "dead"
  %0 = input "unused" : tensor<1> [0, 1]
  %1 = input "x" : tensor<1> [0, 1]
  %2 = lut %0 tables=[@a per-tensor] : tensor<1> [0, 1] -> [0, 1] "dead"
  output "y" %1
constants
  @a = table 1 rows [1, 0]
)"));
  verify(lean);
  EXPECT_EQ(lookup_count(lean), 0);
  EXPECT_EQ(input_nodes(lean).size(), 2u);
  EXPECT_EQ(lean.values.size(), 2u);
}

}  // namespace
}  // namespace torusml
