#include "circuit/norms.h"

#include <Eigen/SparseCore>
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>

namespace torusml {
namespace {

using Matrix = Eigen::SparseMatrix<double, Eigen::RowMajor, std::int64_t>;

// Linear maps from noise sources to one value, by source.
using SourceMaps = std::map<ValueId, Matrix>;

Matrix identity(std::int64_t size) {
  Matrix matrix(size, size);
  matrix.setIdentity();
  return matrix;
}

Matrix as_matrix(const DenseWeight& w, std::int64_t operands) {
  const std::int64_t blocks = operands / w.columns;
  std::vector<Eigen::Triplet<double, std::int64_t>> entries;
  for (std::int64_t block = 0; block < blocks; ++block) {
    for (std::int64_t row = 0; row < w.rows; ++row) {
      for (std::int64_t column = 0; column < w.columns; ++column) {
        const std::int64_t value = w.data[static_cast<std::size_t>(row * w.columns + column)];
        if (value != 0) {
          entries.emplace_back(block * w.rows + row, block * w.columns + column,
                               static_cast<double>(value));
        }
      }
    }
  }
  Matrix matrix(blocks * w.rows, operands);
  matrix.setFromTriplets(entries.begin(), entries.end());
  return matrix;
}

Matrix as_matrix(const SparseWeight& w, std::int64_t) {
  std::vector<Eigen::Triplet<double, std::int64_t>> entries;
  for (std::int64_t row = 0; row < w.rows; ++row) {
    w.row(row).for_each([&](std::int64_t column, std::int64_t value) {
      entries.emplace_back(row, column, static_cast<double>(value));
    });
  }
  Matrix matrix(w.rows, w.columns);
  matrix.setFromTriplets(entries.begin(), entries.end());
  return matrix;
}

Matrix as_matrix(const ScaleWeight& w, std::int64_t operands) {
  return identity(operands) * static_cast<double>(w.factor);
}

double squared_norm(std::span<const std::int64_t> values) {
  double sum = 0;
  for (const std::int64_t v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

// Squared norms of the rows of a weight, added to one total a result.
void add_row_norms(const Weight& weight, double variance, Eigen::VectorXd& totals) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    const auto columns = static_cast<std::size_t>(dense->columns);
    std::vector<double> norms;
    for (std::size_t row = 0; row < static_cast<std::size_t>(dense->rows); ++row)
      norms.push_back(squared_norm({dense->data.data() + row * columns, columns}));
    for (std::int64_t i = 0; i < totals.size(); ++i)
      totals[i] += variance * norms[static_cast<std::size_t>(i % dense->rows)];
  } else if (const auto* sparse = std::get_if<SparseWeight>(&weight)) {
    std::vector<double> norms(sparse->patterns(), -1);
    for (std::int64_t row = 0; row < sparse->rows; ++row) {
      double& norm = norms[sparse->pattern[static_cast<std::size_t>(row)]];
      if (norm < 0) norm = squared_norm(sparse->row(row));
      totals[row] += variance * norm;
    }
  } else {
    const auto factor = static_cast<double>(std::get<ScaleWeight>(weight).factor);
    totals.array() += variance * factor * factor;
  }
}

// Values that linear maps read: only of these the composed map is needed.
std::vector<bool> linear_operands(const Circuit& circuit) {
  std::vector<bool> is_read(circuit.values.size());
  for (const Node& node : circuit.nodes) {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear == nullptr) continue;
    for (const LinearTerm& term : linear->terms) is_read[term.operand] = true;
  }
  return is_read;
}

class NormCounter {
 public:
  NormCounter(const Circuit& circuit, const std::map<std::size_t, double>& result_variance)
      : circuit_(circuit),
        result_variance_(result_variance),
        is_clear_(clear_values(circuit)),
        maps_(circuit.values.size()),
        is_linear_operand_(linear_operands(circuit)),
        norms_(circuit.values.size()) {}

  std::vector<NoiseNorms> run() {
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      const Node& node = circuit_.nodes[n];
      if (const auto* input = std::get_if<Input>(&node.op)) {
        if (is_clear_[input->result]) continue;
        add_source(input->result, input->result, n, 1);
        norms_[input->result].fresh = 1;
        is_fresh_[input->result] = true;
      } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
        if (is_clear_[lut->operand]) continue;
        const auto named = result_variance_.find(n);
        const double variance = named == result_variance_.end() ? 1 : named->second;
        for (ValueId result : lut->results) {
          add_source(result, lut->operand, n, variance);
          norms_[result].bootstrap = variance;
          norms_[result].by_lookup[n] = variance;
          is_fresh_[result] = false;
        }
      } else if (const auto* linear = std::get_if<Linear>(&node.op)) {
        if (is_clear_[linear->result]) continue;
        if (!is_linear_operand_[linear->result] && reads_sources_apart(*linear))
          measure_apart(*linear);
        else
          compose(*linear);
      }
    }
    return std::move(norms_);
  }

 private:
  void add_source(ValueId value, ValueId coherence_group, std::size_t node, double variance) {
    maps_[value].emplace(value, Matrix());  // its own identity is left out
    amplitude_[value] = std::sqrt(variance);
    group_[value] = coherence_group;
    node_[value] = node;
  }

  // No two terms read one source, or sources of one group: squared norms add up.
  bool reads_sources_apart(const Linear& linear) const {
    std::set<std::pair<bool, ValueId>> groups;
    return std::ranges::all_of(linear.terms, [&](const LinearTerm& term) {
      if (is_clear_[term.operand]) return true;
      const auto group = group_.find(term.operand);
      return group != group_.end() &&
             groups.emplace(is_fresh_.at(term.operand), group->second).second;
    });
  }

  void measure_apart(const Linear& linear) {
    const std::int64_t results = number_of_elements(circuit_.values[linear.result].shape);
    Eigen::VectorXd fresh = Eigen::VectorXd::Zero(results), bootstrap = fresh;
    NoiseNorms& norms = norms_[linear.result];
    for (const LinearTerm& term : linear.terms) {
      if (is_clear_[term.operand]) continue;
      const double amplitude = amplitude_.at(term.operand);
      Eigen::VectorXd own = Eigen::VectorXd::Zero(results);
      add_row_norms(term.weight, amplitude * amplitude, own);
      if (is_fresh_.at(term.operand)) {
        fresh += own;
      } else {
        bootstrap += own;
        norms.by_lookup[node_.at(term.operand)] = own.maxCoeff();
      }
    }
    norms.fresh = fresh.maxCoeff();
    norms.bootstrap = bootstrap.maxCoeff();
  }

  void compose(const Linear& linear) {
    SourceMaps& result = maps_[linear.result];
    for (const LinearTerm& term : linear.terms) {
      if (is_clear_[term.operand]) continue;
      const std::int64_t operands = number_of_elements(circuit_.values[term.operand].shape);
      const Matrix weight =
          std::visit([&](const auto& w) { return as_matrix(w, operands); }, term.weight);
      for (const auto& [source, map] : maps_[term.operand]) {
        const Matrix product =
            source == term.operand ? Matrix(weight * amplitude_.at(source)) : Matrix(weight * map);
        const auto found = result.find(source);
        if (found == result.end())
          result.emplace(source, product);
        else
          found->second = Matrix(found->second + product);
      }
    }
    norms_[linear.result] = measure(result);
  }

  // Sources of one coherence group add up in amplitude, groups in variance.
  NoiseNorms measure(const SourceMaps& maps) const {
    std::map<std::pair<bool, ValueId>, Matrix> groups;
    for (const auto& [source, map] : maps) {
      const std::pair key{is_fresh_.at(source), group_.at(source)};
      const Matrix amplitude = map.cwiseAbs();
      const auto found = groups.find(key);
      if (found == groups.end())
        groups.emplace(key, amplitude);
      else
        found->second = Matrix(found->second + amplitude);
    }
    Eigen::VectorXd fresh, bootstrap;
    for (const auto& [key, amplitude] : groups) {
      Eigen::VectorXd& total = key.first ? fresh : bootstrap;
      if (total.size() == 0) total = Eigen::VectorXd::Zero(amplitude.rows());
      for (std::int64_t row = 0; row < amplitude.rows(); ++row)
        total[row] += amplitude.row(row).squaredNorm();
    }
    return {fresh.size() == 0 ? 0 : fresh.maxCoeff(),
            bootstrap.size() == 0 ? 0 : bootstrap.maxCoeff(), share_out(maps, groups)};
  }

  // (sum of sqrt(V_i) |a_i|)^2 is at most the sum of V_i |a_i| (sum of |a_j|): the node of source i
  // is charged with |a_i| times the amplitude of its group.
  std::map<std::size_t, double> share_out(
      const SourceMaps& maps, const std::map<std::pair<bool, ValueId>, Matrix>& groups) const {
    std::map<std::size_t, Eigen::VectorXd> by_node;
    for (const auto& [source, map] : maps) {
      if (is_fresh_.at(source)) continue;
      const Matrix& group = groups.at({false, group_.at(source)});
      const Matrix amplitude = map.cwiseAbs();
      Eigen::VectorXd& total = by_node[node_.at(source)];
      if (total.size() == 0) total = Eigen::VectorXd::Zero(map.rows());
      for (std::int64_t row = 0; row < map.rows(); ++row)
        total[row] += amplitude.row(row).dot(group.row(row));
    }
    std::map<std::size_t, double> norms;
    for (const auto& [node, total] : by_node) norms[node] = total.maxCoeff();
    return norms;
  }

  const Circuit& circuit_;
  const std::map<std::size_t, double>& result_variance_;
  const std::vector<bool> is_clear_;
  std::vector<SourceMaps> maps_;
  std::vector<bool> is_linear_operand_;
  std::vector<NoiseNorms> norms_;
  std::map<ValueId, double> amplitude_;  // of each source
  std::map<ValueId, ValueId> group_;
  std::map<ValueId, std::size_t> node_;
  std::map<ValueId, bool> is_fresh_;
};

}  // namespace

std::vector<NoiseNorms> noise_norms(const Circuit& circuit,
                                    const std::map<std::size_t, double>& result_variance) {
  return NormCounter(circuit, result_variance).run();
}

}  // namespace torusml
