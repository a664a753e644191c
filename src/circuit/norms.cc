#include "circuit/norms.h"

#include <Eigen/SparseCore>
#include <cmath>
#include <map>

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
  for (std::size_t row = 0; row + 1 < w.row_start.size(); ++row) {
    for (auto e = static_cast<std::size_t>(w.row_start[row]);
         e < static_cast<std::size_t>(w.row_start[row + 1]); ++e) {
      entries.emplace_back(static_cast<std::int64_t>(row), w.column[e],
                           static_cast<double>(w.value[e]));
    }
  }
  Matrix matrix(w.rows, w.columns);
  matrix.setFromTriplets(entries.begin(), entries.end());
  return matrix;
}

Matrix as_matrix(const ScaleWeight& w, std::int64_t operands) {
  return identity(operands) * static_cast<double>(w.factor);
}

class NormCounter {
 public:
  NormCounter(const Circuit& circuit, const std::map<std::size_t, double>& result_variance)
      : circuit_(circuit),
        result_variance_(result_variance),
        maps_(circuit.values.size()),
        norms_(circuit.values.size()) {}

  std::vector<NoiseNorms> run() {
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      const Node& node = circuit_.nodes[n];
      if (const auto* input = std::get_if<Input>(&node.op)) {
        add_source(input->result, input->result, n, 1);
        norms_[input->result].fresh = 1;
        is_fresh_[input->result] = true;
      } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
        const auto named = result_variance_.find(n);
        const double variance = named == result_variance_.end() ? 1 : named->second;
        for (ValueId result : lut->results) {
          add_source(result, lut->operand, n, variance);
          norms_[result].bootstrap = variance;
          norms_[result].by_lookup[n] = variance;
          is_fresh_[result] = false;
        }
      } else if (const auto* linear = std::get_if<Linear>(&node.op)) {
        compose(*linear);
      }
    }
    return std::move(norms_);
  }

 private:
  void add_source(ValueId value, ValueId coherence_group, std::size_t node, double variance) {
    const Matrix ones = identity(number_of_elements(circuit_.values[value].shape));
    maps_[value].emplace(value, ones * std::sqrt(variance));
    amplitude_[value] = std::sqrt(variance);
    group_[value] = coherence_group;
    node_[value] = node;
  }

  void compose(const Linear& linear) {
    SourceMaps& result = maps_[linear.result];
    for (const LinearTerm& term : linear.terms) {
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
  std::vector<SourceMaps> maps_;
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
