#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <span>

#include "base/progress.h"
#include "base/threads.h"
#include "parameters/noise.h"
#include "parameters/wide_lookups.h"
#include "plan/client_spec.h"
#include "runtime/batch.h"
#include "runtime/executors.h"
#include "runtime/lookup_table.h"

namespace torusml {
namespace {

// Gaussian torus words. Speed and repeatability matter here, secrecy does not.
class NoiseSource {
 public:
  explicit NoiseSource(std::uint64_t seed) : engine_(seed) {}

  Torus draw(double sigma) {
    if (sigma == 0) return 0;
    const double turns = sigma * normal_(engine_);
    const double fraction = turns - std::round(turns);  // [-1/2, 1/2]
    return static_cast<Torus>(std::llrint(std::ldexp(fraction, 63))) << 1;
  }

  bool happens(double probability) {
    return std::uniform_real_distribution<double>()(engine_) < probability;
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

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
  SimulatedCircuit(const Circuit& circuit, const Plan& plan) : circuit(circuit), plan(plan) {
    for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
      if (const auto* linear = std::get_if<Linear>(&circuit.nodes[n].op)) {
        constants[n] = linear_constants(circuit, *linear, plan);
      } else if (const auto* lut = std::get_if<Lut>(&circuit.nodes[n].op)) {
        const LookupPlan& lookup = plan.lookups.at(n);
        const KeySet& set = plan.key_set_of(lookup);
        result_sigma[n] = result_sigma_of(set);
        if (lookup.wide.index_bits != 0) {
          add_wide(*lut, n, lookup.wide);
          continue;
        }
        tables[n] = make_torus_tables(*lut, plan, lookup);
        const Variance mask = modulus_switch_mask_variance(set.parameters.small_dimension,
                                                           2 * table_size(plan, lookup));
        lookup_sigma[n] = std::sqrt(set.keyswitch.value + mask.value);
      }
    }
    fresh_sigma = std::sqrt(plan.fresh.value);
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
  std::map<std::size_t, std::vector<Torus>> constants;
  std::map<std::size_t, std::vector<TorusTable>> tables;
  std::map<std::size_t, double>
      lookup_sigma;  // keyswitch and the mask's part of the modulus switch
  // Of a wide lookup: that another of its bootstraps fails than the first.
  std::map<std::size_t, double> later_failure;
  std::map<std::size_t, ResultSigma> result_sigma;
  double fresh_sigma = 0;
};

class SimulatedSample {
 public:
  SimulatedSample(const SimulatedCircuit& shared, std::uint64_t seed)
      : shared_(shared), noise_(seed), phases_(shared.circuit.values.size()) {}

  void run(std::size_t sample, const std::vector<Tensor<std::int64_t>>& inputs,
           std::vector<Tensor<std::int64_t>>& outputs) {
    std::size_t input = 0, output = 0;
    for (std::size_t n = 0; n < shared_.circuit.nodes.size(); ++n) {
      const Node& node = shared_.circuit.nodes[n];
      if (const auto* in = std::get_if<Input>(&node.op))
        encrypt(*in, inputs[input++], sample);
      else if (const auto* linear = std::get_if<Linear>(&node.op))
        evaluate(*linear, n);
      else if (const auto* lut = std::get_if<Lut>(&node.op))
        evaluate(*lut, n);
      else
        decrypt(std::get<Output>(node.op), outputs[output++], sample);
    }
  }

 private:
  std::size_t size_of(ValueId value) const {
    return static_cast<std::size_t>(number_of_elements(shared_.circuit.values[value].shape));
  }

  void encrypt(const Input& input, const Tensor<std::int64_t>& integers, std::size_t sample) {
    const TensorPlan& tensor = shared_.plan.tensors[input.result];
    const std::size_t elements = size_of(input.result);
    std::vector<Torus>& phases = phases_[input.result];
    for (std::size_t i = 0; i < elements; ++i) {
      phases.push_back(encode(integers.data[sample * elements + i], tensor.scale, tensor.center) +
                       noise_.draw(shared_.fresh_sigma));
    }
  }

  void evaluate(const Linear& linear, std::size_t node) {
    std::vector<Torus> sum = shared_.constants.at(node);
    // Torus words are integers modulo 2^64, so the integer map applies as it stands.
    for (const LinearTerm& term : linear.terms) add_term(term, sum);
    phases_[linear.result] = std::move(sum);
  }

  void add_term(const LinearTerm& term, std::vector<Torus>& sum) const {
    const std::vector<Torus>& x = phases_[term.operand];
    if (const auto* w = std::get_if<DenseWeight>(&term.weight)) {
      const auto rows = static_cast<std::size_t>(w->rows),
                 columns = static_cast<std::size_t>(w->columns);
      for (std::size_t i = 0; i < sum.size(); ++i) {
        const std::int64_t* weights = w->data.data() + i % rows * columns;
        const Torus* block = x.data() + i / rows * columns;
        for (std::size_t c = 0; c < columns; ++c)
          sum[i] += static_cast<Torus>(weights[c]) * block[c];
      }
    } else if (const auto* s = std::get_if<SparseWeight>(&term.weight)) {
      for (std::size_t i = 0; i < sum.size(); ++i) {
        for (auto e = static_cast<std::size_t>(s->row_start[i]);
             e < static_cast<std::size_t>(s->row_start[i + 1]); ++e) {
          sum[i] += static_cast<Torus>(s->value[e]) * x[static_cast<std::size_t>(s->column[e])];
        }
      }
    } else {
      const auto factor = static_cast<Torus>(std::get<ScaleWeight>(term.weight).factor);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += factor * x[i];
    }
  }

  void evaluate(const Lut& lut, std::size_t node) {
    const WideShape& wide = shared_.plan.lookups.at(node).wide;
    if (wide.index_bits != 0) return evaluate_wide(lut, node, wide);
    const std::vector<TorusTable>& tables = shared_.tables.at(node);
    const std::size_t size = tables.front().table_size;
    const std::size_t together = std::size_t{1}
                                 << shared_.plan.lookups.at(node).rotation.tables_log2;
    const Torus offset = lookup_offset(size);
    const double sigma = shared_.lookup_sigma.at(node);
    const ResultSigma& result_sigma = shared_.result_sigma.at(node);
    const std::vector<Torus>& x = phases_[lut.operand];
    for (ValueId result : lut.results) phases_[result].resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      // One keyswitch and one modulus switch serve all tables of the node, with the same noise,
      // whether they share rotations or not.
      const std::uint64_t index = switch_modulus(x[i] + offset + noise_.draw(sigma), 2 * size);
      for (std::size_t t = 0; t < tables.size(); t += together) {
        const std::size_t end = std::min(t + together, tables.size());
        read_together(lut, std::span(tables).subspan(t, end - t), t, i, index, result_sigma);
      }
    }
  }

  // Results of one rotation: of tables first, first + 1, ... of the node, for one element.
  void read_together(const Lut& lut, std::span<const TorusTable> tables, std::size_t first,
                     std::size_t element, std::uint64_t index, const ResultSigma& result) {
    const bool is_alone = tables.size() == 1;
    const Torus common = is_alone ? 0 : noise_.draw(result.common);
    const double sigma = is_alone ? result.alone : result.own;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      const Torus* table = tables[t].of_element(element);
      const std::size_t size = tables[t].table_size;
      const Torus read = index < size ? table[index] : Torus{0} - table[index - size];
      phases_[lut.results[first + t]][element] =
          read + tables[t].constant_of(element) + common + noise_.draw(sigma);
    }
  }

  // The noise of the first rotation, which reads the lowest bits, decides which index is read. If a
  // later bootstrap fails, a higher bit or a digit is wrong: half the table away stands for that.
  // Digits bring the noise of a bootstrap each.
  void evaluate_wide(const Lut& lut, std::size_t node, const WideShape& shape) {
    const std::vector<TorusTable>& tables = shared_.tables.at(node);
    const Torus offset = wide_offset(shared_.circuit.values[lut.operand].interval,
                                     shared_.plan.tensors[lut.operand], shape);
    const double sigma = shared_.lookup_sigma.at(node);
    const double digits_sigma = shared_.result_sigma.at(node).alone * std::sqrt(shape.digit_count);
    const std::vector<Torus>& x = phases_[lut.operand];
    for (ValueId result : lut.results) phases_[result].resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Torus wrong = noise_.happens(shared_.later_failure.at(node)) ? Torus{1} << 62 : 0;
      const Torus phase = x[i] + offset + noise_.draw(sigma) + wrong;
      const Torus index = phase << 1 >> (64 - shape.index_bits);
      for (std::size_t t = 0; t < tables.size(); ++t) {
        phases_[lut.results[t]][i] = tables[t].of_element(i)[index] + noise_.draw(digits_sigma);
      }
    }
  }

  void decrypt(const Output& output, Tensor<std::int64_t>& integers, std::size_t sample) const {
    const TensorPlan& tensor = shared_.plan.tensors[output.operand];
    const std::vector<Torus>& phases = phases_[output.operand];
    for (std::size_t i = 0; i < phases.size(); ++i) {
      integers.data[sample * phases.size() + i] = decode(
          phases[i], tensor.scale, tensor.center, shared_.circuit.values[output.operand].interval);
    }
  }

  const SimulatedCircuit& shared_;
  NoiseSource noise_;
  std::vector<std::vector<Torus>> phases_;
};

// Spreads seed and sample over 64 bits (the finaliser of SplitMix64).
std::uint64_t sample_seed(std::uint64_t seed, std::uint64_t sample) {
  std::uint64_t z = seed + 0x9e3779b97f4a7c15 * (sample + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

std::vector<Tensor<std::int64_t>> run_simulated(const Circuit& circuit, const Plan& plan,
                                                const std::vector<Tensor<std::int64_t>>& inputs,
                                                std::uint64_t seed,
                                                const ProgressCallback& progress) {
  const std::int64_t batch = check_inputs(circuit, inputs);
  std::vector<Tensor<std::int64_t>> outputs = make_outputs(circuit, batch);
  const SimulatedCircuit shared(circuit, plan);
  ProgressCounter counter(progress, static_cast<std::size_t>(batch));
  parallel_for(static_cast<std::size_t>(batch), [&](std::size_t s) {
    SimulatedSample(shared, sample_seed(seed, s)).run(s, inputs, outputs);
    counter.advance();
  });
  return outputs;
}

}  // namespace torusml
