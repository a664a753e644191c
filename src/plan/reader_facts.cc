#include "plan/reader_facts.h"

#include <cmath>
#include <map>

namespace torusml {
namespace {

template <class ReaderPlan>
ReaderFacts describe(const CompiledModel& model, std::size_t node, ValueId operand,
                     const ReaderPlan& planned) {
  const Interval interval = model.circuit.values[operand].interval;
  ReaderFacts facts;
  facts.name = model.circuit.nodes[node].name;
  facts.interval = interval;
  facts.bits = bit_width(interval);
  facts.policy = planned.policy;
  facts.tolerance = planned.tolerance;
  facts.sigma = std::sqrt(planned.noise.value) / model.plan.tensors[operand].scale;
  facts.effective_bits = effective_bits(model.circuit, model.plan, node);
  facts.flip = planned.flip_probability;
  facts.wrap = planned.wrap_probability;
  return facts;
}

ReaderFacts describe_lookup(const CompiledModel& model, std::size_t node, const Lut& lut,
                            double ms) {
  const LookupPlan& planned = model.plan.lookups.at(node);
  ReaderFacts facts = describe(model, node, lut.operand, planned);
  facts.is_lookup = true;
  facts.tables = number_of_elements(model.circuit.values[lut.operand].shape) *
                 static_cast<std::int64_t>(lut.tables.size());
  facts.step = planned.step_probability;
  facts.far = planned.far_probability;
  facts.ms = ms;
  facts.key_set = model.plan.key_set_of(planned).name;
  if (model.precision && model.precision->flip_rates.contains(node))
    facts.measured_flip = model.precision->flip_rates.at(node);
  return facts;
}

}  // namespace

std::vector<ReaderFacts> describe_readers(const CompiledModel& model) {
  const std::map<std::size_t, double> costs = cost_by_lookup(model.circuit, model.plan);
  std::vector<ReaderFacts> readers;
  for (std::size_t n = 0; n < model.circuit.nodes.size(); ++n) {
    const Node& node = model.circuit.nodes[n];
    const auto* lut = std::get_if<Lut>(&node.op);
    if (lut != nullptr && model.plan.lookups.contains(n))
      readers.push_back(describe_lookup(model, n, *lut, costs.at(n)));
    else if (const auto* output = std::get_if<Output>(&node.op))
      readers.push_back(describe(model, n, output->operand, model.plan.outputs.at(n)));
  }
  return readers;
}

}  // namespace torusml
