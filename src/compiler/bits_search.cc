#include "compiler/bits_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "circuit/idle_lookups.h"
#include "compiler/plan_cost.h"
#include "compiler/precision_score.h"
#include "compiler/quantized_module.h"
#include "compiler/trials.h"
#include "quantization/calibration.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kMostBits = 8, kFewestBits = 2;
constexpr std::size_t kMostParts = 8;  // of neighbouring layers
constexpr int kFurthestBits = 2;       // below the best number for all layers
constexpr std::size_t kWantedSamples = 2000, kMostVerified = 6;
constexpr int kLeastTrials = 16, kMostTrials = 10000;

// A layer's bits less those of all: by part of the layers, of operands and of weights.
struct Fewer {
  int inputs = 0, weights = 0;
  auto operator<=>(const Fewer&) const = default;
};

struct Bits {
  int all = kMostBits;
  std::vector<Fewer> parts;
  auto operator<=>(const Bits&) const = default;
};

struct Candidate {
  Bits bits;
  double cost = 0, loss = 0;  // loss: on the samples to choose by
};

constexpr double kInfinite = std::numeric_limits<double>::infinity();

class Searcher {
 public:
  Searcher(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
           const BitsSearch& search)
      : graph_(graph),
        calibration_(calibration),
        search_(search),
        floats_(float_outputs()),
        score_(search.target, floats_) {
    const std::size_t most = std::max(kWantedSamples, 4 * score_.least_samples());
    const auto samples = static_cast<std::size_t>(calibration[0].shape[0]);
    samples_ = score_.split(samples, most, search.seed);
  }

  BitsFound run() {
    const std::optional<Candidate> base = best_uniform();
    if (base && base->cost > 0 && base->bits.all > kFewestBits) refine(base->bits);
    return verified();
  }

 private:
  std::vector<Tensor<double>> float_outputs() const {
    std::map<std::string, FloatTensor> tensors = evaluate(graph_, calibration_);
    std::vector<Tensor<double>> outputs;
    for (const std::string& name : graph_.outputs) outputs.push_back(tensors.at(name).values);
    return outputs;
  }

  QuantizationRequest request_for(const Bits& bits) const {
    QuantizationRequest request = search_.request;
    request.bits = QuantizationBits::uniform(bits.all);
    request.layers.clear();
    for (std::size_t l = 0; l < layers_.size() && !bits.parts.empty(); ++l) {
      const Fewer& fewer = bits.parts[part_of(l)];
      if (fewer == Fewer{}) continue;
      request.layers[layers_[l].output] = {bits.all - fewer.inputs, bits.all - fewer.weights};
    }
    return request;
  }

  std::size_t parts() const { return std::min(kMostParts, layers_.size()); }
  std::size_t part_of(std::size_t layer) const { return layer * parts() / layers_.size(); }

  QuantizedModule build(const Bits& bits) {
    QuantizationRequest request = request_for(bits);
    if (request.method == QuantizationMethod::best) {
      request.method = QuantizationMethod::mse;
      request.accumulator_bits = 0;
    }
    QuantizedModule module =
        QuantizedModule::build(graph_, calibration_, request, search_.margin, search_.rounding);
    module.declare_clear(search_.clear_inputs);
    if (layers_.empty()) layers_ = module.quantized_graph().layers;
    return module;
  }

  double loss_of(const QuantizedModule& module, const std::vector<std::size_t>& samples) const {
    const std::vector<Tensor<std::int64_t>> inputs =
        module.quantize_inputs(take_samples(calibration_, samples));
    return score_.loss(module.dequantize_outputs(module.run_clear(inputs)), samples);
  }

  // Exact and tolerant are what precision "auto" chooses from.
  double cost_of_module(const QuantizedModule& module) const {
    PlanOptions options = with_rounding(search_.plan, search_.rounding);
    const Circuit circuit = remove_idle_lookups(module.circuit());
    if (options.precision != Precision::automatic) return plan_cost(circuit, options);
    options.precision = Precision::exact;
    const double exact = plan_cost(circuit, options);
    if (options.profile == Profile::shared_results) return exact;
    options.precision = Precision::tolerant;
    return std::min(exact, plan_cost(circuit, options));
  }

  const Candidate& tried(const Bits& bits) {
    const auto found = tried_.find(bits);
    if (found != tried_.end()) return found->second;
    Candidate candidate{bits, kInfinite, kInfinite};
    try {
      const QuantizedModule module = build(bits);
      candidate.cost = cost_of_module(module);
      candidate.loss = loss_of(module, samples_.chosen_by);
    } catch (const Error& error) {
      if (!is_too_demanding(error)) throw;
    }
    trials_.add();
    return tried_.emplace(bits, std::move(candidate)).first->second;
  }

  bool passes(const Candidate& c) const { return c.loss <= score_.most_loss() && is_possible(c); }
  static bool is_possible(const Candidate& c) { return c.cost < kInfinite; }
  // Less time, or the same within a per cent and fewer errors.
  static bool is_better(const Candidate& a, const Candidate& b) {
    const auto rank = [](const Candidate& c) {
      return std::pair(std::round(100 * std::log(c.cost + 1e-9)), c.loss);
    };
    return rank(a) < rank(b);
  }

  std::optional<Candidate> best_uniform() {
    std::optional<Candidate> best;
    int failures = 0;  // in a row, below one that passed
    for (int all = kMostBits; all >= kFewestBits && failures < 2; --all) {
      const Candidate& candidate = tried({all, {}});
      if (!passes(candidate)) {
        failures += best ? 1 : 0;
        continue;
      }
      failures = 0;
      if (!best || is_better(candidate, *best)) best = candidate;
    }
    return best;
  }

  // A place where bits may be saved.
  struct Place {
    std::size_t part = 0;
    int Fewer::*role = nullptr;
  };

  Bits with(const Bits& base, const std::vector<Place>& places, std::size_t count,
            int fewer) const {
    Bits bits = base;
    bits.parts.resize(parts());
    for (std::size_t i = 0; i < count; ++i) bits.parts[places[i].part].*places[i].role = fewer;
    return bits;
  }

  // Where fewer bits everywhere would save no time there is nothing to look for.
  void refine(const Bits& base) {
    const double cost = tried(base).cost;
    std::vector<Place> all;
    for (std::size_t p = 0; p < parts(); ++p) {
      all.push_back({p, &Fewer::inputs});
      all.push_back({p, &Fewer::weights});
    }
    if (!trials_.may_try() || tried(with(base, all, all.size(), 1)).cost > 0.99 * cost) return;
    const std::vector<Place> order = least_sensitive_first(base, all);
    const int furthest = std::min(kFurthestBits, base.all - kFewestBits);
    for (int fewer = 1; fewer <= furthest; ++fewer) most_places(base, order, fewer);
  }

  std::vector<Place> least_sensitive_first(const Bits& base, const std::vector<Place>& all) {
    std::vector<std::pair<double, std::size_t>> sensitivity;
    for (std::size_t i = 0; i < all.size(); ++i)
      sensitivity.emplace_back(trials_.may_try() ? tried(with(base, {all[i]}, 1, 1)).loss : 0, i);
    std::ranges::stable_sort(sensitivity);
    std::vector<Place> order;
    for (const auto& [loss, i] : sensitivity) order.push_back(all[i]);
    return order;
  }

  // Tries the most places, in this order, that can have so many bits fewer.
  void most_places(const Bits& base, const std::vector<Place>& order, int fewer) {
    std::size_t low = 0, high = order.size();
    while (low < high && trials_.may_try()) {
      const std::size_t count = (low + high + 1) / 2;
      if (passes(tried(with(base, order, count, fewer))))
        low = count;
      else
        high = count - 1;
    }
  }

  // By time; then finer numbers for all layers, in case that none of the first passes.
  std::vector<Candidate> finalists() const {
    std::vector<Candidate> passing;
    for (const auto& [bits, candidate] : tried_) {
      if (passes(candidate)) passing.push_back(candidate);
    }
    std::ranges::stable_sort(passing, is_better);
    std::size_t place = 0;
    std::erase_if(passing, [&](const Candidate& c) {
      return place++ >= kMostVerified && !c.bits.parts.empty();
    });
    return passing;
  }

  BitsFound verified() {
    std::optional<double> best;
    for (const Candidate& candidate : finalists()) {
      const QuantizedModule module = build(candidate.bits);
      const double loss = loss_of(module, samples_.held_out);
      trials_.add();
      if (loss <= score_.most_loss()) return found(candidate.bits, loss);
      best = std::min(best.value_or(loss), loss);
    }
    fail(best);
  }

  [[noreturn]] void fail(std::optional<double> held_out) const {
    double least = kInfinite;
    bool is_possible_at_all = false;
    for (const auto& [bits, candidate] : tried_) {
      least = std::min(least, candidate.loss);
      is_possible_at_all = is_possible_at_all || is_possible(candidate);
    }
    if (!is_possible_at_all) {
      const bool packs = search_.plan.pack_outputs == PackOutputs::on;
      throw Error(ErrorCode::no_parameters,
                  fmt::format("no key sets{} serve this network with {} to {} bits",
                              packs ? " that pack results" : "", kFewestBits, kMostBits),
                  "n_bits \"auto\"",
                  fmt::format("{}precision \"tolerant\" or \"auto\", or pruning",
                              packs ? "pack_outputs \"auto\", " : ""));
    }
    throw Error(
        ErrorCode::target_not_met,
        fmt::format("no bits from {} to {} meet {} of {:.4g} against the float network; the "
                    "best has {:.4g}",
                    kFewestBits, kMostBits, score_.loss_text(), score_.most_loss(),
                    held_out.value_or(least)),
        "n_bits \"auto\"", "a looser target (agreement, relative_error, metric), or method best");
  }

  BitsFound found(const Bits& bits, double loss) const {
    BitsFound result;
    result.request = request_for(bits);
    BitsReport& report = result.report;
    report.criterion = score_.criterion();
    report.most_loss = score_.most_loss();
    report.loss = loss;
    report.samples = static_cast<std::int64_t>(samples_.held_out.size());
    report.trials = trials_.count();
    report.bits = result.request.bits;
    for (const QuantizedLayer& layer : layers_) {
      const auto own = result.request.layers.find(layer.output);
      const LayerBits same{bits.all, bits.all};
      report.layers.push_back(
          {layer.name, own == result.request.layers.end() ? same : own->second});
    }
    return result;
  }

  const FloatGraph& graph_;
  const std::vector<Tensor<double>>& calibration_;
  const BitsSearch& search_;
  const std::vector<Tensor<double>> floats_;
  const PrecisionScore score_;
  SampleSplit samples_;
  std::vector<QuantizedLayer> layers_;
  std::map<Bits, Candidate> tried_;
  Trials trials_{search_.max_trials, static_cast<int>(kMostVerified), search_.progress};
};

}  // namespace

BitsFound search_bits(const FloatGraph& graph, const std::vector<Tensor<double>>& calibration,
                      const BitsSearch& search) {
  if (search.request.import_qat) {
    throw Error(ErrorCode::invalid_argument, "the network brings its own quantizers",
                "n_bits \"auto\"", "a number of bits, or import_qat=False");
  }
  if (search.max_trials < kLeastTrials || search.max_trials > kMostTrials) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("max_trials is {}; it must lie between {} and {}", search.max_trials,
                            kLeastTrials, kMostTrials),
                "n_bits \"auto\"");
  }
  check_calibration(graph, calibration);
  return Searcher(graph, calibration, search).run();
}

}  // namespace torusml
