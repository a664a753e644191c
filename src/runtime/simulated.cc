#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <span>

#include "base/progress.h"
#include "base/threads.h"
#include "parameters/noise.h"
#include "parameters/wide_lookups.h"
#include "parameters/wire_noise.h"
#include "plan/client_spec.h"
#include "runtime/batch.h"
#include "runtime/block_noise.h"
#include "runtime/clear_part.h"
#include "runtime/executors.h"
#include "runtime/lookup_table.h"
#include "runtime/memory.h"
#include "runtime/noise_origins.h"
#include "runtime/phase_block.h"

namespace torusml {
namespace {

// Lanes of a block at most: one strip of tfhe/linear.h.
constexpr std::size_t kMostLanes = 96;
// Of the phases of a block, all values together, unless it has the fewest lanes.
constexpr std::size_t kBlockBytes = std::size_t{256} << 20;
// Elements whose noise is drawn together. Part of what a seed stands for.
constexpr std::size_t kDrawnTogether = 8;
// Inputs of more values are encoded one by one.
constexpr std::uint64_t kMostEncoded = std::uint64_t{1} << 16;

// Noise of a lookup's results: of one alone; and of several of one rotation what they have in
// common and what each has of its own.
struct ResultSigma {
  double alone = 0, common = 0, own = 0;
};

ResultSigma result_sigma_of(const KeySet& set) {
  const double all = set.bootstrap.value;
  const double common = std::min(all, shared_rotation_covariance(set.parameters).value);
  return {std::sqrt(all), std::sqrt(common), std::sqrt(all - common)};
}

// Everything that is the same for all samples.
struct SimulatedCircuit {
  SimulatedCircuit(const Circuit& circuit, const Plan& plan, bool counts_flips)
      : circuit(circuit),
        plan(plan),
        is_clear(clear_values(circuit)),
        last_use(last_uses(circuit)) {
    for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
      if (is_clear_node(circuit.nodes[n], is_clear)) continue;
      if (const auto* input = std::get_if<Input>(&circuit.nodes[n].op)) {
        add_input(*input, n);
      } else if (const auto* linear = std::get_if<Linear>(&circuit.nodes[n].op)) {
        constants[n] = linear_constants(circuit, *linear, plan, is_clear);
      } else if (const auto* lut = std::get_if<Lut>(&circuit.nodes[n].op)) {
        if (counts_flips) judges.emplace(n, LookupJudge(circuit, plan, n));
        add_lookup(*lut, n, plan.lookups.at(n));
      } else {
        const OutputPlan& output = plan.outputs.at(n);
        wire_sigma[n] = std::sqrt(wire_noise(plan.key_sets, output.wire_bits, output.packed).value);
      }
    }
    fresh_sigma = std::sqrt(plan.fresh.value);
    origins = find_noise_origins(circuit, plan, constants, tables);
  }

  void add_input(const Input& input, std::size_t node) {
    const Interval interval = circuit.values[input.result].interval;
    if (interval.size() > kMostEncoded) return;
    const TensorPlan& tensor = plan.tensors[input.result];
    for (std::int64_t v = interval.lower; v <= interval.upper; ++v)
      encoded[node].push_back(encode(v, tensor.scale, tensor.center));
  }

  void add_lookup(const Lut& lut, std::size_t node, const LookupPlan& lookup) {
    const KeySet& set = plan.key_set_of(lookup);
    result_sigma[node] = result_sigma_of(set);
    if (lookup.wide.index_bits != 0) return add_wide(lut, node, lookup.wide);
    tables[node] = make_torus_tables(lut, plan, lookup);
    const Variance mask =
        modulus_switch_mask_variance(set.parameters.small_dimension, 2 * table_size(plan, lookup));
    lookup_sigma[node] = std::sqrt(set.keyswitch.value + mask.value);
  }

  void add_wide(const Lut& lut, std::size_t node, const WideShape& shape) {
    for (std::size_t t = 0; t < lut.tables.size(); ++t) {
      tables[node].push_back(make_wide_torus_table(lut.tables[t],
                                                   circuit.values[lut.operand].interval,
                                                   plan.tensors[lut.results[t]], shape));
    }
    const LookupPlan& lookup = plan.lookups.at(node);
    lookup_sigma[node] =
        std::sqrt(wide_input_noise(plan.key_set_of(lookup).parameters, shape, 0).value);
    later_failure[node] = std::max(0.0, lookup.flip_probability - lookup.step_probability);
  }

  const Circuit& circuit;
  const Plan& plan;
  std::vector<bool> is_clear;
  std::vector<std::size_t> last_use;
  std::map<std::size_t, std::vector<Torus>> encoded;  // of an input, by value from the least on
  std::map<std::size_t, std::vector<Torus>> constants;
  std::map<std::size_t, std::vector<TorusTable>> tables;
  std::map<std::size_t, double>
      lookup_sigma;  // keyswitch and the mask's part of the modulus switch
  // Of a wide lookup: that another of its bootstraps fails than the first.
  std::map<std::size_t, double> later_failure;
  std::map<std::size_t, ResultSigma> result_sigma;
  std::map<std::size_t, double> wire_sigma;   // of an output: of rounding its words, and of packing
  std::map<std::size_t, LookupJudge> judges;  // where flips are counted
  NoiseOrigins origins;
  double fresh_sigma = 0;
};

// Some samples, the whole circuit.
class SimulatedBlock {
 public:
  // Of `lanes` lanes the first `samples` are samples of the batch.
  SimulatedBlock(const SimulatedCircuit& shared, std::uint64_t seed, std::size_t first,
                 std::size_t samples, std::size_t lanes)
      : shared_(shared),
        first_(first),
        samples_(samples),
        lanes_(lanes),
        noise_(seed, first, lanes),
        values_(shared.circuit.values.size()),
        kept_(shared.origins.slots) {}

  void run(const std::vector<Tensor<std::int64_t>>& inputs,
           std::vector<Tensor<std::int64_t>>& outputs) {
    clear_ = run_clear_part(shared_.circuit, inputs, first_, samples_);
    std::size_t input = 0, output = 0;
    for (std::size_t n = 0; n < shared_.circuit.nodes.size(); ++n) {
      const Node& node = shared_.circuit.nodes[n];
      noise_.start(n);
      const std::size_t in = input;
      input += std::holds_alternative<Input>(node.op) ? 1 : 0;
      if (is_clear_node(node, shared_.is_clear)) continue;
      if (const auto* fresh = std::get_if<Input>(&node.op))
        encrypt(*fresh, n, inputs[in]);
      else if (const auto* linear = std::get_if<Linear>(&node.op))
        evaluate(*linear, n);
      else if (const auto* lut = std::get_if<Lut>(&node.op))
        evaluate(*lut, n);
      else
        decrypt(std::get<Output>(node.op), n, outputs[output++]);
      release(n);
    }
  }

  const FlipCounts& flips() const { return flips_; }

 private:
  std::size_t size_of(ValueId value) const {
    return static_cast<std::size_t>(number_of_elements(shared_.circuit.values[value].shape));
  }

  PhaseBlock& make(ValueId value) { return values_[value] = make_block(size_of(value), lanes_); }

  void release(std::size_t node) {
    for (std::size_t v = 0; v < values_.size(); ++v) {
      if (shared_.last_use[v] <= node) values_[v] = PhaseBlock();
    }
  }

  // Calls body(first, rows) for runs of elements whose noise is drawn together.
  template <class Body>
  void for_runs(std::size_t elements, const Body& body) {
    for (std::size_t first = 0; first < elements; first += kDrawnTogether)
      body(first, std::min(kDrawnTogether, elements - first));
  }

  std::span<const Torus> draw(std::vector<Torus>& words, std::size_t rows, double sigma) {
    words.resize(rows * lanes_);
    noise_.fill(words, sigma);
    return words;
  }

  void encrypt(const Input& input, std::size_t node, const Tensor<std::int64_t>& integers) {
    PhaseBlock& phases = make(input.result);
    const std::size_t elements = phases.count;
    for_runs(elements, [&](std::size_t first, std::size_t rows) {
      const auto fresh = draw(index_noise_, rows, shared_.fresh_sigma);
      std::ranges::copy(fresh, phases.row(first).data());
    });
    const TensorPlan& tensor = shared_.plan.tensors[input.result];
    const std::int64_t lower = shared_.circuit.values[input.result].interval.lower;
    const auto table = shared_.encoded.find(node);
    for (std::size_t b = 0; b < samples_; ++b) {
      const std::int64_t* sample = integers.data.data() + (first_ + b) * elements;
      for (std::size_t i = 0; i < elements; ++i) {
        phases.row(i)[b] += table == shared_.encoded.end()
                                ? encode(sample[i], tensor.scale, tensor.center)
                                : table->second[static_cast<std::size_t>(sample[i] - lower)];
      }
    }
  }

  void evaluate(const Linear& linear, std::size_t node) {
    const std::vector<Torus>& constants = shared_.constants.at(node);
    PhaseBlock& sums = make(linear.result);
    for (std::size_t i = 0; i < sums.count; ++i) std::ranges::fill(sums.row(i), constants[i]);
    add_clear(node, shared_.plan.tensors[linear.result].scale, sums);
    // Torus words are integers modulo 2^64, so the integer map applies as it stands.
    for (const LinearTerm& term : linear.terms) {
      if (!shared_.is_clear[term.operand]) add_term(term.weight, values_[term.operand], sums);
    }
  }

  // What clear terms add to a linear map.
  void add_clear(std::size_t node, double scale, PhaseBlock& sums) {
    const auto found = clear_.find(node);
    if (found == clear_.end()) return;
    for (std::size_t b = 0; b < samples_; ++b) {
      const std::int64_t* sample = found->second.data() + b * sums.count;
      for (std::size_t i = 0; i < sums.count; ++i) sums.row(i)[b] += encode(sample[i], scale, 0);
    }
  }

  // Of a clear value that leaves.
  void encode_clear(ValueId value, std::size_t node) {
    PhaseBlock& phases = make(value);
    const TensorPlan& tensor = shared_.plan.tensors[value];
    const std::int64_t* integers = clear_.at(node).data();
    for (std::size_t b = 0; b < samples_; ++b) {
      for (std::size_t i = 0; i < phases.count; ++i)
        phases.row(i)[b] = encode(integers[b * phases.count + i], tensor.scale, tensor.center);
    }
  }

  void evaluate(const Lut& lut, std::size_t node) {
    const LookupPlan& lookup = shared_.plan.lookups.at(node);
    for (const ValueId result : lut.results) make(result);
    for_runs(values_[lut.operand].count, [&](std::size_t first, std::size_t rows) {
      if (lookup.wide.index_bits != 0)
        evaluate_wide(lut, node, lookup.wide, first, rows);
      else
        evaluate(lut, node, lookup, first, rows);
    });
  }

  void evaluate(const Lut& lut, std::size_t node, const LookupPlan& lookup, std::size_t first,
                std::size_t rows) {
    const std::vector<TorusTable>& tables = shared_.tables.at(node);
    const std::size_t size = tables.front().table_size;
    const Torus offset = lookup_offset(size);
    const LookupOrigins& origins = shared_.origins.lookups.at(node);
    // One keyswitch and one modulus switch serve all tables of the node, with the same noise,
    // whether they share rotations or not.
    const auto noise = draw(index_noise_, rows, shared_.lookup_sigma.at(node));
    share(origins.inputs, first, index_noise_);
    const Torus* x = values_[lut.operand].row(first).data();
    indices_.resize(noise.size());
    for (std::size_t i = 0; i < noise.size(); ++i)
      indices_[i] = switch_modulus(x[i] + offset + noise[i], 2 * size);

    const std::size_t together = std::size_t{1} << lookup.rotation.tables_log2;
    const ResultSigma& sigma = shared_.result_sigma.at(node);
    for (std::size_t t = 0; t < tables.size(); ++t) {
      const std::size_t begin = t / together * together;
      const bool is_alone = std::min(begin + together, tables.size()) - begin == 1;
      if (!is_alone && t == begin) draw(common_noise_, rows, sigma.common);
      draw(result_noise_, rows, is_alone ? sigma.alone : sigma.own);
      if (!is_alone) add(common_noise_, result_noise_.data());
      share(origins.results[t], first, result_noise_);
      for (std::size_t r = 0; r < rows; ++r) read(tables[t], first + r, r, values_[lut.results[t]]);
      finish(lut, node, t, first, rows);
    }
  }

  // Rows of noise, from element `first` on, that are the noise of others, or are kept for them.
  void share(const std::vector<NoiseOrigin>& origins, std::size_t first, std::span<Torus> noise) {
    if (origins.empty()) return;
    for (std::size_t r = 0; r < noise.size() / lanes_; ++r) {
      const NoiseOrigin& origin = origins[first + r];
      const std::span<Torus> row = noise.subspan(r * lanes_, lanes_);
      if (origin.kind == NoiseOrigin::Kind::absent) std::ranges::fill(row, Torus{0});
      if (origin.kind == NoiseOrigin::Kind::kept) kept_[origin.slot].assign(row.begin(), row.end());
      if (origin.kind != NoiseOrigin::Kind::copied) continue;
      const Torus sign = 0 - Torus{origin.is_negative};  // all ones: negate
      for (std::size_t b = 0; b < lanes_; ++b) row[b] = (kept_[origin.slot][b] ^ sign) - sign;
    }
  }

  // Phases of the table's entries at the indices of row r, without noise.
  void read(const TorusTable& table, std::size_t element, std::size_t r, PhaseBlock& results) {
    const Torus* words = table.of_element(element);
    const Torus constant = table.constant_of(element);
    const std::uint64_t* indices = indices_.data() + r * lanes_;
    Torus* row = results.row(element).data();
    for (std::size_t b = 0; b < lanes_; ++b) {
      const Torus sign = 0 - Torus{indices[b] >= table.table_size};  // all ones: negate
      row[b] = ((words[indices[b] & (table.table_size - 1)] ^ sign) - sign) + constant;
    }
  }

  // What follows a read: it is judged, and has the noise of its rotations.
  void finish(const Lut& lut, std::size_t node, std::size_t table, std::size_t first,
              std::size_t rows) {
    PhaseBlock& results = values_[lut.results[table]];
    if (const auto judge = shared_.judges.find(node); judge != shared_.judges.end()) {
      const PhaseBlock& x = values_[lut.operand];
      for (std::size_t i = first; i < first + rows; ++i) {
        judge->second.count(i, table, x.row(i).first(samples_), results.row(i).first(samples_),
                            flips_[node]);
      }
    }
    add(result_noise_, results.row(first).data());
  }

  static void add(std::span<const Torus> noise, Torus* words) {
    for (std::size_t i = 0; i < noise.size(); ++i) words[i] += noise[i];
  }

  // The noise of the first rotation, which reads the lowest bits, decides which index is read. If a
  // later bootstrap fails, a higher bit or a digit is wrong: half the table away stands for that.
  // Digits bring the noise of a bootstrap each.
  void evaluate_wide(const Lut& lut, std::size_t node, const WideShape& shape, std::size_t first,
                     std::size_t rows) {
    const std::vector<TorusTable>& tables = shared_.tables.at(node);
    const Torus offset = wide_offset(shared_.circuit.values[lut.operand].interval,
                                     shared_.plan.tensors[lut.operand], shape);
    const double digits_sigma = shared_.result_sigma.at(node).alone * std::sqrt(shape.digit_count);
    const auto later = static_cast<Torus>(std::ldexp(shared_.later_failure.at(node), 63));
    const auto noise = draw(index_noise_, rows, shared_.lookup_sigma.at(node));
    chance_.resize(noise.size());
    noise_.fill_uniform(chance_);
    const Torus* x = values_[lut.operand].row(first).data();
    indices_.resize(noise.size());
    for (std::size_t i = 0; i < noise.size(); ++i) {
      const Torus wrong = chance_[i] >> 1 < later ? Torus{1} << 62 : 0;
      indices_[i] = (x[i] + offset + noise[i] + wrong) << 1 >> (64 - shape.index_bits);
    }
    for (std::size_t t = 0; t < tables.size(); ++t) {
      draw(result_noise_, rows, digits_sigma);
      for (std::size_t r = 0; r < rows; ++r) read(tables[t], first + r, r, values_[lut.results[t]]);
      finish(lut, node, t, first, rows);
    }
  }

  void decrypt(const Output& output, std::size_t node, Tensor<std::int64_t>& integers) {
    const TensorPlan& tensor = shared_.plan.tensors[output.operand];
    const Interval interval = shared_.circuit.values[output.operand].interval;
    if (shared_.is_clear[output.operand]) encode_clear(output.operand, node);
    const PhaseBlock& phases = values_[output.operand];
    const double sigma = shared_.wire_sigma.at(node);
    for_runs(phases.count, [&](std::size_t first, std::size_t rows) {
      const auto rounding = draw(result_noise_, rows, sigma);
      share(shared_.origins.outputs.at(node), first, result_noise_);
      for (std::size_t b = 0; b < samples_; ++b) {
        std::int64_t* sample = integers.data.data() + (first_ + b) * phases.count + first;
        for (std::size_t r = 0; r < rows; ++r) {
          const Torus phase = phases.row(first + r)[b] + rounding[r * lanes_ + b];
          sample[r] = decode(phase, tensor.scale, tensor.center, interval);
        }
      }
    });
  }

  const SimulatedCircuit& shared_;
  const std::size_t first_, samples_, lanes_;
  BlockNoise noise_;
  std::vector<PhaseBlock> values_;
  ClearResults clear_;
  std::vector<Torus> index_noise_, common_noise_, result_noise_, chance_;
  std::vector<std::uint64_t> indices_;
  std::vector<std::vector<Torus>> kept_;  // noise that several lookups meet, by slot
  FlipCounts flips_;
};

std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

// Lanes that give every core a block, within bounds.
std::size_t choose_lanes(const Circuit& circuit, std::size_t batch) {
  std::size_t elements = 1;
  for (const TensorType& type : circuit.values)
    elements += static_cast<std::size_t>(number_of_elements(type.shape));
  const auto threads = static_cast<std::size_t>(threads_used(0));
  const std::size_t step = BlockNoise::kLaneStep;
  const std::size_t fit = kBlockBytes / (elements * sizeof(Torus)) / step * step;
  const std::size_t wanted = round_up((batch + threads - 1) / threads, step);
  return std::clamp(std::min(wanted, fit), step, kMostLanes);
}

}  // namespace

std::vector<Tensor<std::int64_t>> run_simulated(const Circuit& circuit, const Plan& plan,
                                                const std::vector<Tensor<std::int64_t>>& inputs,
                                                std::uint64_t seed,
                                                const ProgressCallback& progress,
                                                FlipCounts* flips) {
  const auto batch = static_cast<std::size_t>(check_inputs(circuit, inputs));
  std::vector<Tensor<std::int64_t>> outputs =
      make_outputs(circuit, static_cast<std::int64_t>(batch));
  const SimulatedCircuit shared(circuit, plan, flips != nullptr);
  const std::size_t lanes = choose_lanes(circuit, batch), blocks = (batch + lanes - 1) / lanes;
  ProgressCounter counter(progress, batch);
  std::mutex mutex;
  const auto run_block = [&](std::size_t block) {
    const std::size_t first = block * lanes, samples = std::min(lanes, batch - first);
    SimulatedBlock run(shared, seed, first, samples, lanes);
    run.run(inputs, outputs);
    counter.advance(samples);
    if (flips == nullptr) return;
    const std::lock_guard lock(mutex);
    *flips += run.flips();
  };
  if (blocks == 1) {  // its products may use all cores
    run_block(0);
  } else {
    parallel_for(blocks, [&](std::size_t i) { with_threads(1, [&] { run_block(i); }); });
  }
  return outputs;
}

}  // namespace torusml
