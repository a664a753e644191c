#include <fmt/format.h>

#include <mutex>

#include "base/threads.h"
#include "runtime/batch.h"
#include "runtime/executors.h"
#include "runtime/integer_nodes.h"
#include "torusml/error.h"

namespace torusml {
namespace {

class ClearSample {
 public:
  ClearSample(const Circuit& circuit, const ValueObserver& observer, std::size_t sample)
      : circuit_(circuit), observer_(observer), sample_(sample), values_(circuit.values.size()) {}

  void run(const std::vector<Tensor<std::int64_t>>& inputs,
           std::vector<Tensor<std::int64_t>>& outputs) {
    std::size_t input = 0, output = 0;
    for (const Node& node : circuit_.nodes) {
      if (const auto* in = std::get_if<Input>(&node.op)) {
        const std::size_t elements = size_of(in->result);
        const auto first =
            inputs[input++].data.begin() + static_cast<std::ptrdiff_t>(sample_ * elements);
        set(node, in->result, {first, first + static_cast<std::ptrdiff_t>(elements)});
      } else if (const auto* linear = std::get_if<Linear>(&node.op)) {
        evaluate(node, *linear);
      } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
        evaluate(node, *lut);
      } else {
        const std::vector<std::int64_t>& value = values_[std::get<Output>(node.op).operand];
        std::copy(
            value.begin(), value.end(),
            outputs[output++].data.begin() + static_cast<std::ptrdiff_t>(sample_ * value.size()));
      }
    }
  }

 private:
  std::size_t size_of(ValueId value) const {
    return static_cast<std::size_t>(number_of_elements(circuit_.values[value].shape));
  }

  void evaluate(const Node& node, const Linear& linear) {
    set(node, linear.result, linear_sums(linear, values_, size_of(linear.result)));
  }

  void evaluate(const Node& node, const Lut& lut) {
    for (std::size_t t = 0; t < lut.tables.size(); ++t)
      set(node, lut.results[t], table_entries(lut.tables[t], values_[lut.operand]));
  }

  void set(const Node& node, ValueId value, std::vector<std::int64_t> integers) {
    const Interval interval = circuit_.values[value].interval;
    for (std::size_t i = 0; i < integers.size(); ++i) {
      if (interval.contains(integers[i])) continue;
      throw Error(ErrorCode::accumulator_out_of_range,
                  fmt::format("element {} of sample {} is {}, outside the interval [{}, {}] that "
                              "the encoding was built for",
                              i, sample_, integers[i], interval.lower, interval.upper),
                  fmt::format("layer '{}'", node.name),
                  "calibration data that covers such inputs, or a larger margin");
    }
    if (observer_) observer_(value, integers);
    values_[value] = std::move(integers);
  }

  const Circuit& circuit_;
  const ValueObserver& observer_;
  const std::size_t sample_;
  SampleIntegers values_;
};

}  // namespace

std::vector<Tensor<std::int64_t>> run_clear(const Circuit& circuit,
                                            const std::vector<Tensor<std::int64_t>>& inputs,
                                            const ValueObserver& observer) {
  const std::int64_t batch = check_inputs(circuit, inputs);
  std::vector<Tensor<std::int64_t>> outputs = make_outputs(circuit, batch);
  if (observer) {  // in order, for the observer's sake
    for (std::int64_t s = 0; s < batch; ++s)
      ClearSample(circuit, observer, static_cast<std::size_t>(s)).run(inputs, outputs);
    return outputs;
  }
  parallel_for(static_cast<std::size_t>(batch),
               [&](std::size_t s) { ClearSample(circuit, observer, s).run(inputs, outputs); });
  return outputs;
}

}  // namespace torusml
