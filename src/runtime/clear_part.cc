#include "runtime/clear_part.h"

#include <algorithm>

#include "base/threads.h"
#include "runtime/integer_nodes.h"

namespace torusml {
namespace {

class ClearPart {
 public:
  ClearPart(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs)
      : circuit_(circuit), inputs_(inputs), is_clear_(clear_values(circuit)) {}

  bool is_empty() const { return std::ranges::find(is_clear_, true) == is_clear_.end(); }

  ClearResults make_results(std::size_t samples) const {
    ClearResults results;
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      const auto& op = circuit_.nodes[n].op;
      if (const auto* linear = std::get_if<Linear>(&op); linear && takes_clear(*linear))
        results[n].resize(samples * size_of(linear->result));
      if (const auto* output = std::get_if<Output>(&op); output && is_clear_[output->operand])
        results[n].resize(samples * size_of(output->operand));
    }
    return results;
  }

  // Sample `sample` of the inputs gives the part `place` of the results.
  void run(std::size_t sample, std::size_t place, ClearResults& results) const {
    SampleIntegers values(circuit_.values.size());
    std::size_t input = 0;
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      const auto& op = circuit_.nodes[n].op;
      if (const auto* in = std::get_if<Input>(&op)) {
        if (in->is_clear) values[in->result] = take(inputs_[input], sample, size_of(in->result));
        ++input;
      } else if (const auto* linear = std::get_if<Linear>(&op)) {
        if (is_clear_[linear->result])
          values[linear->result] = linear_sums(*linear, values, size_of(linear->result));
        else if (takes_clear(*linear))
          put(clear_terms(*linear, values), place, results.at(n));
      } else if (const auto* lut = std::get_if<Lut>(&op)) {
        for (std::size_t t = 0; is_clear_[lut->operand] && t < lut->tables.size(); ++t)
          values[lut->results[t]] = table_entries(lut->tables[t], values[lut->operand]);
      } else if (const ValueId operand = std::get<Output>(op).operand; is_clear_[operand]) {
        put(clipped(values[operand], circuit_.values[operand].interval), place, results.at(n));
      }
    }
  }

 private:
  std::size_t size_of(ValueId value) const {
    return static_cast<std::size_t>(number_of_elements(circuit_.values[value].shape));
  }

  // Clear terms beside encrypted ones.
  bool takes_clear(const Linear& linear) const {
    return !is_clear_[linear.result] &&
           std::ranges::any_of(linear.terms,
                               [&](const LinearTerm& term) { return is_clear_[term.operand]; });
  }

  std::vector<std::int64_t> clear_terms(const Linear& linear, const SampleIntegers& values) const {
    std::vector<std::int64_t> sums(size_of(linear.result), 0);
    for (const LinearTerm& term : linear.terms) {
      if (is_clear_[term.operand]) add_term(term, values, sums);
    }
    return sums;
  }

  static std::vector<std::int64_t> take(const Tensor<std::int64_t>& input, std::size_t sample,
                                        std::size_t elements) {
    const auto first = input.data.begin() + static_cast<std::ptrdiff_t>(sample * elements);
    return {first, first + static_cast<std::ptrdiff_t>(elements)};
  }

  static std::vector<std::int64_t> clipped(std::vector<std::int64_t> values, Interval interval) {
    for (std::int64_t& v : values) v = std::clamp(v, interval.lower, interval.upper);
    return values;
  }

  static void put(const std::vector<std::int64_t>& integers, std::size_t place,
                  std::vector<std::int64_t>& result) {
    std::ranges::copy(integers,
                      result.begin() + static_cast<std::ptrdiff_t>(place * integers.size()));
  }

  const Circuit& circuit_;
  const std::vector<Tensor<std::int64_t>>& inputs_;
  const std::vector<bool> is_clear_;
};

}  // namespace

bool is_clear_node(const Node& node, const std::vector<bool>& is_clear) {
  if (const auto* input = std::get_if<Input>(&node.op)) return is_clear[input->result];
  if (const auto* linear = std::get_if<Linear>(&node.op)) return is_clear[linear->result];
  if (const auto* lut = std::get_if<Lut>(&node.op)) return is_clear[lut->operand];
  return false;
}

ClearResults run_clear_part(const Circuit& circuit, const std::vector<Tensor<std::int64_t>>& inputs,
                            std::size_t first_sample, std::size_t samples) {
  const ClearPart part(circuit, inputs);
  if (part.is_empty()) return {};
  ClearResults results = part.make_results(samples);
  parallel_for(samples, [&](std::size_t s) { part.run(first_sample + s, s, results); });
  return results;
}

}  // namespace torusml
