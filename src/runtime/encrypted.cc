#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "base/threads.h"
#include "plan/client_spec.h"
#include "runtime/batch.h"
#include "runtime/clear_part.h"
#include "runtime/executors.h"
#include "runtime/lookup_table.h"
#include "runtime/memory.h"
#include "runtime/phase_block.h"
#include "runtime/run_state.h"
#include "tfhe/wire_words.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Linear layers ask this often whether to go on.
constexpr std::chrono::milliseconds kAskInterval{20};

std::size_t size_of(const Circuit& circuit, ValueId value) {
  return static_cast<std::size_t>(number_of_elements(circuit.values[value].shape));
}

void check_keys(const Plan& plan, std::span<const EvaluationKeys* const> keys) {
  const auto parameters = [](const EvaluationKeys* set) { return set->parameters(); };
  if (std::ranges::equal(keys, parameters_of(plan.key_sets), {}, parameters)) return;
  throw Error(ErrorCode::wrong_key,
              fmt::format("the evaluation keys are not those of the plan's key sets, {}",
                          names_of(plan.key_sets)),
              "", "keys made for this model");
}

// Samples of the batch.
std::size_t check_run_inputs(const Circuit& circuit, const Plan& plan,
                             const std::vector<LweBatch>& inputs,
                             const std::vector<Tensor<std::int64_t>>& clear) {
  const std::vector<const Node*> nodes = input_nodes(circuit);
  const auto is_clear = [&](std::size_t i) { return std::get<Input>(nodes[i]->op).is_clear; };
  std::size_t needed = 0;  // an entry for the last clear input, and those before it
  for (std::size_t i = 0; i < nodes.size(); ++i) needed = is_clear(i) ? i + 1 : needed;
  if (inputs.size() != nodes.size() || clear.size() < needed) {
    throw Error(ErrorCode::wrong_shape,
                fmt::format("{} encrypted and {} clear inputs were given, the circuit has {}",
                            inputs.size(), clear.size(), nodes.size()));
  }
  std::optional<std::size_t> batch;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::string where = fmt::format("input '{}'", nodes[i]->name);
    const ValueId value = std::get<Input>(nodes[i]->op).result;
    const std::size_t elements = size_of(circuit, value);
    if (is_clear(i)) {
      const auto samples =
          static_cast<std::size_t>(check_input(circuit.values[value], clear[i], nodes[i]->name));
      if (batch && *batch != samples) {
        throw Error(ErrorCode::wrong_shape,
                    fmt::format("{} samples were given, {} are expected", samples, *batch), where);
      }
      batch = samples;
      continue;
    }
    if (inputs[i].dimension != plan.big_dimension()) {
      throw Error(ErrorCode::wrong_key,
                  fmt::format("ciphertexts have dimension {}, the model's key has {}",
                              inputs[i].dimension.value, plan.big_dimension().value),
                  where);
    }
    if (inputs[i].count == 0 || inputs[i].count % elements != 0 ||
        (batch && *batch != inputs[i].count / elements)) {
      throw Error(ErrorCode::wrong_shape,
                  fmt::format("{} ciphertexts were given, a multiple of {} is expected",
                              inputs[i].count, elements),
                  where);
    }
    batch = inputs[i].count / elements;
  }
  return batch.value_or(1);
}

// Runs a circuit on some samples at a time.
class EncryptedRun {
 public:
  EncryptedRun(const Circuit& circuit, const Plan& plan,
               std::span<const EvaluationKeys* const> keys, ProgressCounter& progress,
               const LookupObserver& observer)
      : circuit_(circuit),
        is_clear_(clear_values(circuit)),
        plan_(plan),
        keys_(keys),
        progress_(progress),
        observer_(observer),
        values_(circuit.values.size()),
        last_use_(last_uses(circuit)) {
    for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
      const auto* linear = std::get_if<Linear>(&circuit.nodes[n].op);
      if (linear != nullptr && !is_clear_[linear->result])
        constants_[n] = linear_constants(circuit, *linear, plan, is_clear_);
    }
  }

  // From position.next_node on, with the values that it and later nodes read.
  void run(const RunPosition& position, std::map<ValueId, LweBatch> values,
           const std::vector<LweBatch>& inputs, const std::vector<Tensor<std::int64_t>>& clear,
           std::vector<LweBatch>& outputs, const RunCheckpoints* checkpoints) {
    first_sample_ = position.first_sample;
    samples_ = position.samples;
    clear_ = run_clear_part(circuit_, clear, first_sample_, samples_);
    for (auto& [value, ciphertexts] : values) values_[value] = std::move(ciphertexts);
    std::size_t input = 0, output = 0;
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      const Node& node = circuit_.nodes[n];
      const std::size_t in = input, out = output;
      input += std::holds_alternative<Input>(node.op);
      output += std::holds_alternative<Output>(node.op);
      if (n < position.next_node) continue;
      try {
        evaluate(node, n, in < inputs.size() ? &inputs[in] : nullptr,
                 out < outputs.size() ? &outputs[out] : nullptr);
      } catch (...) {
        if (checkpoints) checkpoints->keep(view(n, outputs), true);
        throw;
      }
      release(n);
      if (checkpoints) checkpoints->keep(view(n + 1, outputs), false);
    }
  }

 private:
  // What is clear is computed already.
  void evaluate(const Node& node, std::size_t n, const LweBatch* input, LweBatch* output) {
    if (is_clear_node(node, is_clear_)) return;
    if (const auto* in = std::get_if<Input>(&node.op))
      take(*in, *input);
    else if (const auto* linear = std::get_if<Linear>(&node.op))
      evaluate(*linear, n);
    else if (const auto* lut = std::get_if<Lut>(&node.op))
      evaluate(*lut, n);
    else
      give(std::get<Output>(node.op), n, *output);
  }

  RunView view(std::size_t next_node, const std::vector<LweBatch>& outputs) const {
    RunView result{{first_sample_, samples_, next_node}, {}, outputs};
    for (const ValueId value : live_values(circuit_, next_node))
      result.values[value] = &values_[value];
    return result;
  }

  void release(std::size_t node) {
    for (std::size_t v = 0; v < values_.size(); ++v) {
      if (last_use_[v] <= node) values_[v] = LweBatch();
    }
  }

  LweBatch& make(ValueId value) {
    values_[value] = LweBatch(plan_.big_dimension(), samples_ * size_of(circuit_, value));
    return values_[value];
  }

  std::vector<LweBatch*> make_all(const std::vector<ValueId>& values) {
    std::vector<LweBatch*> batches;
    for (const ValueId value : values) batches.push_back(&make(value));
    return batches;
  }

  void take(const Input& input, const LweBatch& source) {
    LweBatch& target = make(input.result);
    const std::size_t elements = size_of(circuit_, input.result);
    for (std::size_t i = 0; i < target.count; ++i)
      std::ranges::copy(source.row(first_sample_ * elements + i), target.row(i).begin());
  }

  // Results that will be packed are rounded then.
  void give(const Output& output, std::size_t node, LweBatch& target) const {
    const OutputPlan& plan = plan_.outputs.at(node);
    const std::size_t elements = size_of(circuit_, output.operand);
    const LweBatch encoded =
        is_clear_[output.operand] ? encode_clear(output.operand, node) : LweBatch();
    const LweBatch& source = is_clear_[output.operand] ? encoded : values_[output.operand];
    for (std::size_t i = 0; i < source.count; ++i) {
      const std::span<Torus> row = target.row(first_sample_ * elements + i);
      std::ranges::copy(source.row(i), row.begin());
      if (!plan.packed) round_to_wire(row, plan.wire_bits);
    }
  }

  // Ciphertexts without mask and noise.
  LweBatch encode_clear(ValueId value, std::size_t node) const {
    const TensorPlan& tensor = plan_.tensors[value];
    const std::vector<std::int64_t>& integers = clear_.at(node);
    LweBatch batch(plan_.big_dimension(), integers.size());
    for (std::size_t i = 0; i < batch.count; ++i)
      batch.row(i).back() = encode(integers[i], tensor.scale, tensor.center);
    return batch;
  }

  void evaluate(const Linear& linear, std::size_t node) {
    const std::vector<Torus>& constants = constants_.at(node);
    const auto clear = clear_.find(node);
    const double scale = plan_.tensors[linear.result].scale;
    LweBatch result(plan_.big_dimension(), samples_ * constants.size());
    for (std::size_t i = 0; i < result.count; ++i) {
      result.row(i).back() = constants[i % constants.size()];
      if (clear != clear_.end()) result.row(i).back() += encode(clear->second[i], scale, 0);
    }
    for (const LinearTerm& term : linear.terms) {
      if (!is_clear_[term.operand]) add_term(term.weight, values_[term.operand], result, ask());
    }
    values_[linear.result] = std::move(result);
  }

  // Whether to go on: what no lookup counts tells the run's progress nothing new, but may take
  // long.
  ProgressCallback ask() {
    using Clock = std::chrono::steady_clock;
    return [this, last = Clock::time_point()](std::size_t, std::size_t) mutable {
      const Clock::time_point now = Clock::now();
      if (now - last < kAskInterval) return;
      last = now;
      progress_.advance(0);
    };
  }

  static void add_to_bodies(Torus offset, LweBatch& x) {
    for (std::size_t i = 0; i < x.count; ++i) x.row(i).back() += offset;
  }

  // Calls look_up(x) on the operand with `offset` added to its bodies. It is no copy where nothing
  // reads it later, and then is put back if the lookup is interrupted.
  template <class LookUp>
  void with_operand(const Lut& lut, std::size_t node, Torus offset, const LookUp& look_up) {
    LweBatch& operand = values_[lut.operand];
    const bool is_last = last_use_[lut.operand] == node;
    LweBatch x = is_last ? std::move(operand) : operand;
    add_to_bodies(offset, x);
    try {
      look_up(x);
    } catch (...) {
      add_to_bodies(0 - offset, x);
      operand = std::move(x);
      throw;
    }
  }

  void evaluate_wide(const Lut& lut, std::size_t node) {
    const LookupPlan& lookup = plan_.lookups.at(node);
    const EvaluationKeys& keys = *keys_[lookup.key_set];
    const WideShape& shape = lookup.wide;
    const Interval interval = circuit_.values[lut.operand].interval;
    const Torus offset = wide_offset(interval, plan_.tensors[lut.operand], shape);
    with_operand(lut, node, offset, [&](const LweBatch& x) {
      const std::size_t elements = size_of(circuit_, lut.operand);
      std::vector<std::vector<WideTable>> tables;
      for (std::size_t t = 0; t < lut.tables.size(); ++t) {
        tables.push_back(make_wide_tables(lut.tables[t], interval, plan_.tensors[lut.results[t]],
                                          shape, keys.parameters().polynomial_size));
      }
      std::vector<const WideTable*> read;
      for (std::size_t i = 0; i < x.count; ++i) {
        for (std::size_t t = 0; t < tables.size(); ++t)
          read.push_back(&tables[t][lut.tables[t].row_of(i % elements)]);
      }
      const std::vector<LweBatch*> results = make_all(lut.results);
      wide_lookup_batch(keys, x, read, results, advance());
      show(node, x, offset, results);
    });
  }

  // Progress of one call on the progress of the run.
  ProgressCallback advance() {
    return [this, reported = std::size_t{0}](std::size_t done, std::size_t) mutable {
      progress_.advance(done - reported);
      reported = done;
    };
  }

  void evaluate(const Lut& lut, std::size_t node) {
    const LookupPlan& lookup = plan_.lookups.at(node);
    if (lookup.wide.index_bits != 0) return evaluate_wide(lut, node);
    const std::size_t elements = size_of(circuit_, lut.operand);
    const Torus offset = lookup_offset(table_size(plan_, lookup));
    with_operand(lut, node, offset, [&](const LweBatch& x) {
      // Tables can be large: they are made when it is their node's turn, and dropped after it.
      const std::vector<TorusTable> tables = make_torus_tables(lut, plan_, lookup);
      std::vector<const Torus*> read;
      for (std::size_t i = 0; i < x.count; ++i) {
        for (const TorusTable& table : tables) read.push_back(table.of_element(i % elements));
      }
      const std::vector<LweBatch*> results = make_all(lut.results);
      bootstrap_batch(*keys_[lookup.key_set], x, read, lookup.rotation, results, advance());
      for (std::size_t t = 0; lookup.is_odd && t < tables.size(); ++t) {
        for (std::size_t i = 0; i < x.count; ++i)
          results[t]->row(i).back() += tables[t].constant_of(i % elements);
      }
      show(node, x, offset, results);
    });
  }

  void show(std::size_t node, const LweBatch& operand, Torus offset,
            const std::vector<LweBatch*>& results) const {
    if (observer_) observer_({node, first_sample_, samples_, operand, offset, results});
  }

  const Circuit& circuit_;
  const std::vector<bool> is_clear_;
  const Plan& plan_;
  const std::span<const EvaluationKeys* const> keys_;
  ProgressCounter& progress_;
  const LookupObserver& observer_;
  std::size_t first_sample_ = 0, samples_ = 0;
  std::vector<LweBatch> values_;
  ClearResults clear_;
  const std::vector<std::size_t> last_use_;
  std::map<std::size_t, std::vector<Torus>> constants_;
};

std::vector<LweBatch> empty_outputs(const Circuit& circuit, const Plan& plan, std::size_t batch) {
  std::vector<LweBatch> outputs;
  for (const Node* node : output_nodes(circuit)) {
    outputs.emplace_back(plan.big_dimension(),
                         batch * size_of(circuit, std::get<Output>(node->op).operand));
  }
  return outputs;
}

std::size_t lookups_before(const Circuit& circuit, const RunPosition& position) {
  const std::vector<bool> is_clear = clear_values(circuit);
  std::size_t of_part = 0;
  for (std::size_t n = 0; n < position.next_node; ++n) {
    const auto* lut = std::get_if<Lut>(&circuit.nodes[n].op);
    if (lut != nullptr && !is_clear[lut->operand])
      of_part += size_of(circuit, lut->operand) * lut->tables.size();
  }
  return position.first_sample * static_cast<std::size_t>(lookup_count(circuit)) +
         position.samples * of_part;
}

std::vector<LweBatch> run(const Circuit& circuit, const Plan& plan,
                          std::span<const EvaluationKeys* const> keys,
                          const std::vector<LweBatch>& inputs,
                          const std::vector<Tensor<std::int64_t>>& clear,
                          const ProgressCallback& progress, const Limits& limits,
                          const LookupObserver& observer, RunCheckpoints* checkpoints) {
  check_keys(plan, keys);
  const std::size_t batch = check_run_inputs(circuit, plan, inputs, clear);
  const std::size_t at_once = choose_samples_at_once(circuit, plan, batch, limits);
  RunState state;
  if (checkpoints && checkpoints->start) {
    state = *std::move(checkpoints->start);
    checkpoints->start.reset();
  } else {
    state.position.samples = at_once;
    state.outputs = empty_outputs(circuit, plan, batch);
  }
  ProgressCounter counter(progress, batch * static_cast<std::size_t>(lookup_count(circuit)));
  if (const std::size_t done = lookups_before(circuit, state.position)) counter.advance(done);
  with_threads(limits.threads, [&] {
    EncryptedRun run(circuit, plan, keys, counter, observer);
    RunPosition& at = state.position;
    while (at.first_sample < batch) {
      run.run(at, std::exchange(state.values, {}), inputs, clear, state.outputs, checkpoints);
      at.first_sample += at.samples;
      at.samples = std::min(at_once, batch - at.first_sample);
      at.next_node = 0;
    }
  });
  return std::move(state.outputs);
}

}  // namespace

std::vector<LweBatch> run_encrypted(const Circuit& circuit, const Plan& plan,
                                    std::span<const EvaluationKeys* const> keys,
                                    const std::vector<LweBatch>& inputs,
                                    const ProgressCallback& progress, const Limits& limits,
                                    const LookupObserver& observer,
                                    const std::vector<Tensor<std::int64_t>>& clear) {
  return run(circuit, plan, keys, inputs, clear, progress, limits, observer, nullptr);
}

std::vector<LweBatch> run_encrypted(const Circuit& circuit, const Plan& plan,
                                    std::span<const EvaluationKeys* const> keys,
                                    const std::vector<LweBatch>& inputs,
                                    RunCheckpoints& checkpoints, const ProgressCallback& progress,
                                    const Limits& limits,
                                    const std::vector<Tensor<std::int64_t>>& clear) {
  return run(circuit, plan, keys, inputs, clear, progress, limits, {}, &checkpoints);
}

std::vector<LweBatch> run_encrypted(const Circuit& circuit, const Plan& plan,
                                    std::span<const EvaluationKeys> keys,
                                    const std::vector<LweBatch>& inputs,
                                    const ProgressCallback& progress, const Limits& limits,
                                    const LookupObserver& observer,
                                    const std::vector<Tensor<std::int64_t>>& clear) {
  std::vector<const EvaluationKeys*> sets;
  for (const EvaluationKeys& set : keys) sets.push_back(&set);
  return run_encrypted(circuit, plan, std::span<const EvaluationKeys* const>(sets), inputs,
                       progress, limits, observer, clear);
}

}  // namespace torusml
