// Random circuits for differential tests. Tests only: nothing else includes this file.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "circuit/circuit.h"
#include "torusml/tensor.h"

namespace torusml {

class RandomCircuit {
 public:
  explicit RandomCircuit(std::uint64_t seed, std::uint64_t max_table_values = 32)
      : random_(seed), max_table_values_(max_table_values) {}

  // Inputs, linear maps (dense, sparse, residual adds), tables of every kind, up to five of a value
  // and more where two nodes read it, several outputs, among them duplicates, inputs and constants.
  // Some tables are steps.
  Circuit make() {
    circuit_ = {};
    circuit_.name = "random";
    const int inputs = below(3) + 1;
    for (int i = 0; i < inputs; ++i) add_input(i);
    const int steps = below(5) + 1;
    for (int s = 0; s < steps; ++s) {
      add_linear(s);
      if (circuit_.values.back().interval.size() <= max_table_values_ && below(4) != 0) {
        const auto operand = static_cast<ValueId>(circuit_.values.size() - 1);
        add_lut(s, operand);
        if (below(6) == 0) add_lut(s, operand);
      }
    }
    if (below(6) == 0) add_constant();
    add_output(static_cast<ValueId>(circuit_.values.size() - 1));
    for (int extra = below(3); extra > 0; --extra) add_output(pick());
    return circuit_;
  }

  // A batch of inputs; the ends of the intervals come up often.
  std::vector<Tensor<std::int64_t>> make_inputs(const Circuit& circuit, std::int64_t batch) {
    std::vector<Tensor<std::int64_t>> inputs;
    for (const Node* node : input_nodes(circuit)) {
      const TensorType& type = circuit.values[std::get<Input>(node->op).result];
      Tensor<std::int64_t> tensor{{batch}, {}};
      tensor.shape.insert(tensor.shape.end(), type.shape.begin(), type.shape.end());
      const std::int64_t elements = number_of_elements(tensor.shape);
      for (std::int64_t e = 0; e < elements; ++e) tensor.data.push_back(draw(type.interval));
      inputs.push_back(std::move(tensor));
    }
    return inputs;
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
  std::int64_t between(std::int64_t lower, std::int64_t upper) {
    return std::uniform_int_distribution<std::int64_t>(lower, upper)(random_);
  }
  ValueId pick() {
    return static_cast<ValueId>(between(0, static_cast<std::int64_t>(circuit_.values.size()) - 1));
  }
  std::int64_t draw(Interval interval) {
    const int end = below(4);
    if (end == 0) return interval.lower;
    return end == 1 ? interval.upper : between(interval.lower, interval.upper);
  }
  std::int64_t elements(ValueId value) const {
    return number_of_elements(circuit_.values[value].shape);
  }

  void add_input(int index) {
    const std::int64_t lower = between(-3, 1);
    circuit_.values.push_back({{between(1, 4)}, {lower, lower + between(0, 5)}});
    circuit_.nodes.push_back(
        {"x" + std::to_string(index), Input{static_cast<ValueId>(circuit_.values.size() - 1)}});
  }

  void add_linear(int step) {
    Linear linear;
    const ValueId x = pick();
    Shape shape{between(1, 4)};
    linear.terms.push_back({x, random_weight(elements(x), shape[0])});
    if (below(2) == 0) {  // a residual add, perhaps of the same value
      const ValueId other = pick();
      const bool same_size = elements(other) == shape[0];
      linear.terms.push_back({other, same_size ? Weight(ScaleWeight{between(-2, 2)})
                                               : random_weight(elements(other), shape[0])});
    }
    if (below(2) == 0) {
      for (std::int64_t e = 0; e < shape[0]; ++e) linear.bias.push_back(between(-4, 4));
    }
    append(std::move(linear), shape, "linear" + std::to_string(step));
  }

  void add_constant() {
    Linear linear;
    linear.bias = {between(-5, 5)};
    append(std::move(linear), {1}, "constant");
  }

  void append(Linear linear, Shape shape, std::string name) {
    linear.result = static_cast<ValueId>(circuit_.values.size());
    circuit_.values.push_back({std::move(shape), {0, 0}});
    circuit_.nodes.push_back({std::move(name), std::move(linear)});
    circuit_.values.back().interval = guaranteed_intervals(circuit_).back();
  }

  Weight random_weight(std::int64_t columns, std::int64_t rows) {
    if (below(2) == 0) {
      DenseWeight dense{rows, columns, {}};
      for (std::int64_t i = 0; i < rows * columns; ++i) dense.data.push_back(between(-2, 2));
      return dense;
    }
    SparseRows sparse(columns);
    const bool is_window = columns >= 2 && below(2) == 0;  // one pattern of two entries, shifted
    const std::int64_t left = between(-3, 3), right = between(-3, 3);
    for (std::int64_t row = 0; row < rows; ++row) {
      if (is_window) {
        sparse.add(row % (columns - 1), left);
        sparse.add(row % (columns - 1) + 1, right);
      }
      for (std::int64_t column = 0; !is_window && column < columns; ++column) {
        if (below(2) != 0) sparse.add(column, between(-3, 3));
      }
      sparse.end_row();
    }
    return sparse.finish();
  }

  void add_lut(int step, ValueId operand_id) {
    Lut lut;
    lut.operand = operand_id;
    const TensorType operand = circuit_.values[operand_id];
    const std::int64_t count = number_of_elements(operand.shape);
    const bool are_steps = below(3) == 0;
    for (int t = below(4) == 0 ? below(3) + 3 : below(2) + 1; t > 0; --t) {
      Table table;
      table.name = "t" + std::to_string(circuit_.values.size());
      table.domain = operand.interval;
      table.rows = below(2) == 0 ? 1 : between(1, count);
      const Interval range{between(-3, 0), between(0, 3)};
      for (std::int64_t row = 0; row < table.rows; ++row) {
        if (are_steps)
          add_step(table, range);
        else
          for (std::uint64_t e = 0; e < table.domain.size(); ++e)
            table.entries.push_back(draw(range));
      }
      if (table.rows > 1) {
        for (std::int64_t e = 0; e < count; ++e) {
          table.row_of_element.push_back(static_cast<std::uint32_t>(between(0, table.rows - 1)));
        }
      }
      lut.results.push_back(static_cast<ValueId>(circuit_.values.size()));
      circuit_.values.push_back({operand.shape, range});
      lut.tables.push_back(std::move(table));
    }
    circuit_.nodes.push_back({"lut" + std::to_string(step), std::move(lut)});
  }

  // Mostly somewhere in the middle, at times at an end or constant.
  void add_step(Table& table, Interval range) {
    const auto size = static_cast<std::int64_t>(table.domain.size());
    const std::int64_t first = below(6) == 0 ? between(0, size) : between(size / 3, 2 * size / 3);
    const std::int64_t low = draw(range), high = draw(range);
    for (std::int64_t v = 0; v < size; ++v) table.entries.push_back(v < first ? low : high);
  }

  void add_output(ValueId value) {
    const auto index = std::to_string(output_nodes(circuit_).size());
    circuit_.nodes.push_back({"y" + index, Output{value}});
  }

  std::mt19937_64 random_;
  std::uint64_t max_table_values_;
  Circuit circuit_;
};

}  // namespace torusml
