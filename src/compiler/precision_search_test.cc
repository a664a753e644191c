#include "compiler/precision_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "runtime/executors.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// inputs - hidden - hidden - classes neurons, random weights of 3 bits, activations of 3 bits.
struct Classifier {
  Circuit circuit;
  ClientSpec client;
  std::vector<Tensor<std::int64_t>> inputs;
};

class ClassifierBuilder {
 public:
  explicit ClassifierBuilder(std::uint64_t seed, std::int64_t largest_weight = 3)
      : random_(seed), largest_weight_(largest_weight) {}

  Classifier make(std::int64_t samples, std::int64_t classes = 4, std::int64_t hidden = 24) {
    Circuit& circuit = made_.circuit;
    circuit.name = "classifier";
    ValueId value = add_value({12}, {-8, 7});
    circuit.nodes.push_back({"x", Input{value}});
    for (const char* name : {"first", "second"})
      value = add_relu(name, add_dense(name, value, hidden));
    value = add_dense("sums", value, classes);
    circuit.nodes.push_back({"y", Output{value}});
    made_.client.outputs.push_back({.name = "y",
                                    .shape = circuit.values[value].shape,
                                    .scale = {0.5},
                                    .zero_point = {0},
                                    .interval = circuit.values[value].interval});
    add_inputs(samples);
    return made_;
  }

 private:
  std::int64_t between(std::int64_t lower, std::int64_t upper) {
    return std::uniform_int_distribution<std::int64_t>(lower, upper)(random_);
  }

  ValueId add_value(Shape shape, Interval interval) {
    made_.circuit.values.push_back({std::move(shape), interval});
    return static_cast<ValueId>(made_.circuit.values.size() - 1);
  }

  ValueId add_dense(const std::string& name, ValueId operand, std::int64_t rows) {
    const TensorType x = made_.circuit.values[operand];
    DenseWeight weight{rows, x.shape[0], {}};
    std::int64_t reach = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      std::int64_t sum = 0;
      for (std::int64_t column = 0; column < x.shape[0]; ++column) {
        weight.data.push_back(between(0, 2) == 0 ? between(-largest_weight_, largest_weight_) : 0);
        sum += std::abs(weight.data.back());
      }
      reach = std::max(reach, sum * std::max(-x.interval.lower, x.interval.upper));
    }
    const ValueId result = add_value({rows}, {-reach, reach});
    made_.circuit.nodes.push_back({name + "_sum", Linear{{{operand, weight}}, {}, result}});
    return result;
  }

  ValueId add_relu(const std::string& name, ValueId operand) {
    const TensorType x = made_.circuit.values[operand];
    Table table{name, x.interval, 1, {}, {}};
    const double step = std::sqrt(static_cast<double>(x.interval.upper)) / 2;
    for (std::int64_t v = x.interval.lower; v <= x.interval.upper; ++v)
      table.entries.push_back(
          std::clamp(static_cast<std::int64_t>(std::nearbyint(static_cast<double>(v) / step)),
                     std::int64_t{0}, std::int64_t{7}));
    const ValueId result = add_value(x.shape, {0, 7});
    made_.circuit.nodes.push_back({name, Lut{operand, {table}, {result}}});
    return result;
  }

  void add_inputs(std::int64_t samples) {
    Tensor<std::int64_t> x{{samples, 12}, {}};
    for (std::int64_t i = 0; i < samples * 12; ++i) x.data.push_back(between(-8, 7));
    made_.inputs = {x};
  }

  std::mt19937_64 random_;
  std::int64_t largest_weight_;
  Classifier made_;
};

Error error_of(const Classifier& net, const PlanOptions& options, const PrecisionSearch& search) {
  try {
    search_precision(net.circuit, net.client, net.inputs, options, search);
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "no error");
}

double agreement(const Classifier& net, const Plan& plan, std::uint64_t seed) {
  const auto classes = static_cast<std::size_t>(net.client.outputs[0].shape[0]);
  const std::vector<std::int64_t> exact = run_clear(net.circuit, net.inputs)[0].data;
  const std::vector<std::int64_t> noisy =
      run_simulated(net.circuit, plan, net.inputs, seed)[0].data;
  std::size_t same = 0;
  for (std::size_t i = 0; i < exact.size(); i += classes) {
    const auto largest = [&](const std::vector<std::int64_t>& y) {
      return std::max_element(y.begin() + static_cast<std::ptrdiff_t>(i),
                              y.begin() + static_cast<std::ptrdiff_t>(i + classes)) -
             (y.begin() + static_cast<std::ptrdiff_t>(i));
    };
    same += largest(exact) == largest(noisy) ? 1 : 0;
  }
  return static_cast<double>(same) / static_cast<double>(exact.size() / classes);
}

TEST(PrecisionSearch, IsFasterThanExactAndAgreesOnNewSamples) {
  for (std::uint64_t seed : {1, 2}) {
    Classifier net = ClassifierBuilder(seed).make(900);
    for (const double target : {0.9, 0.98, 0.995}) {
      const PrecisionSearch search{.target = {.least_agreement = target}};
      const PrecisionFound found =
          search_precision(net.circuit, net.client, net.inputs, {}, search);
      EXPECT_EQ(found.options.layers.size(), 3u);
      EXPECT_LE(found.report.loss, 1 - target);
      EXPECT_EQ(found.report.samples, 600);
      EXPECT_LE(found.report.trials, search.max_trials);
      const Plan plan = make_plan(net.circuit, found.options);
      EXPECT_LE(plan.cost_ms_per_core, found.report.exact_ms_per_core);
      Classifier others = net;
      others.inputs = ClassifierBuilder(seed + 100).make(4000).inputs;
      EXPECT_GE(agreement(others, plan, 7), target - 0.01) << target;
    }
  }
}

TEST(PrecisionSearch, ALooserTargetTakesNoMoreTime) {
  const Classifier net = ClassifierBuilder(5).make(1500);
  double cost = std::numeric_limits<double>::infinity();
  std::vector<double> costs;
  for (const double target : {0.999, 0.99, 0.9, 0.6}) {
    const PrecisionFound found = search_precision(net.circuit, net.client, net.inputs, {},
                                                  {.target = {.least_agreement = target}});
    costs.push_back(make_plan(net.circuit, found.options).cost_ms_per_core);
    EXPECT_LE(costs.back(), cost * (1 + 1e-9)) << target;
    cost = costs.back();
  }
  EXPECT_LT(costs.back(), 0.7 * costs.front());
}

// What the report says of a looser target is what a search with that target finds, or more.
TEST(PrecisionSearch, SaysWhatLooserTargetsWouldTake) {
  const Classifier net = ClassifierBuilder(5).make(1500);
  const auto found_with = [&](double agreement) {
    return search_precision(net.circuit, net.client, net.inputs, {},
                            {.target = {.least_agreement = agreement}});
  };
  const PrecisionFound strict = found_with(0.995);
  double cost = make_plan(net.circuit, strict.options).cost_ms_per_core, loss = 0.005;
  ASSERT_FALSE(strict.report.looser.empty());
  for (const auto& [its_loss, its_cost] : strict.report.looser) {
    EXPECT_GT(its_loss, loss);
    EXPECT_LE(its_loss, 8 * 0.005);
    EXPECT_LE(its_cost, 0.7 * cost);
    const PrecisionFound looser = found_with(1 - its_loss - 0.01);
    EXPECT_LE(make_plan(net.circuit, looser.options).cost_ms_per_core, 1.05 * its_cost) << its_loss;
    loss = its_loss;
    cost = its_cost;
  }
}

// No tolerance of all layers is good enough; one that bears it has its own.
TEST(PrecisionSearch, LetsOneLayerBeTolerantWhereOthersMustBeExact) {
  const Classifier net = ClassifierBuilder(8).make(600, 1);
  const PrecisionFound found = search_precision(
      net.circuit, net.client, net.inputs, {},
      {.target = {.criterion = Criterion::relative_error, .most_relative_error = 0.003}});
  EXPECT_EQ(found.options.layers.at("first").policy, Precision::tolerant);
  EXPECT_EQ(found.options.layers.at("second").policy, Precision::exact);
  EXPECT_LE(found.report.loss, 0.003);
  EXPECT_LT(make_plan(net.circuit, found.options).cost_ms_per_core,
            0.8 * found.report.exact_ms_per_core);
}

TEST(PrecisionSearch, RepeatsItselfAndReportsTrials) {
  const Classifier net = ClassifierBuilder(3).make(700);
  std::size_t last = 0, total = 0;
  const PrecisionSearch search{.seed = 4, .progress = [&](std::size_t done, std::size_t of) {
                                 EXPECT_EQ(done, last + 1);
                                 last = done;
                                 total = of;
                               }};
  const PrecisionFound a = search_precision(net.circuit, net.client, net.inputs, {}, search);
  EXPECT_EQ(last, static_cast<std::size_t>(a.report.trials));
  EXPECT_GE(total, last);
  const PrecisionFound b = search_precision(net.circuit, net.client, net.inputs, {}, {.seed = 4});
  EXPECT_EQ(a.options.layers, b.options.layers);
  EXPECT_EQ(a.report.loss, b.report.loss);
}

TEST(PrecisionSearch, MeetsARelativeError) {
  const Classifier net = ClassifierBuilder(8).make(600, 1);
  const PrecisionFound found = search_precision(net.circuit, net.client, net.inputs, {}, {});
  EXPECT_EQ(found.report.criterion, Criterion::relative_error);
  const Plan plan = make_plan(net.circuit, found.options);
  const std::vector<std::int64_t> exact = run_clear(net.circuit, net.inputs)[0].data;
  double total = 0;
  constexpr int kDraws = 10;
  for (std::uint64_t seed = 100; seed < 100 + kDraws; ++seed) {
    const std::vector<std::int64_t> noisy =
        run_simulated(net.circuit, plan, net.inputs, seed)[0].data;
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      difference += std::pow(static_cast<double>(exact[i] - noisy[i]), 2);
      size += std::pow(static_cast<double>(exact[i]), 2);
    }
    total += std::sqrt(difference / size);
  }
  EXPECT_LE(total / kDraws, 0.012);
  EXPECT_GT(total, 0);
}

TEST(PrecisionSearch, FollowsAMetric) {
  const Classifier net = ClassifierBuilder(9).make(600);
  std::size_t calls = 0;
  // The share of samples whose first output is positive, which noise hardly changes.
  const Metric metric = [&](const std::vector<Tensor<double>>& outputs,
                            const std::vector<std::size_t>& samples) {
    ++calls;
    EXPECT_EQ(outputs[0].shape, (Shape{static_cast<std::int64_t>(samples.size()), 4}));
    double positive = 0;
    for (std::size_t i = 0; i < outputs[0].data.size(); i += 4)
      positive += outputs[0].data[i] > 0 ? 1 : 0;
    return positive / static_cast<double>(samples.size());
  };
  const PrecisionTarget target = make_target(true, 0, 0, metric, 0.05);
  const PrecisionFound found =
      search_precision(net.circuit, net.client, net.inputs, {}, {.target = target});
  EXPECT_GT(calls, 0u);
  const PrecisionFound strict = search_precision(net.circuit, net.client, net.inputs, {},
                                                 {.target = {.least_agreement = 0.995}});
  EXPECT_LE(make_plan(net.circuit, found.options).cost_ms_per_core,
            make_plan(net.circuit, strict.options).cost_ms_per_core);
}

// Of outputs of some samples, from the exact ones of all.
double relative_error(const std::vector<double>& exact, const std::vector<Tensor<double>>& outputs,
                      const std::vector<std::size_t>& samples) {
  const std::size_t width = outputs[0].data.size() / samples.size();
  double error = 0, norm = 0;
  for (std::size_t s = 0; s < samples.size(); ++s) {
    for (std::size_t c = 0; c < width; ++c) {
      const double value = exact[samples[s] * width + c];
      error += std::pow(outputs[0].data[s * width + c] - value, 2);
      norm += value * value;
    }
  }
  return std::sqrt(error / norm);
}

// More than a third of 900 samples, as the held-out ones are.
bool is_held_out(const std::vector<std::size_t>& samples) { return samples.size() > 300; }

// Samples that the choice is judged by may be harder than those that it was made by. What comes
// next is a finer tolerance, not exact lookups at several times the cost.
TEST(PrecisionSearch, TriesFinerTolerancesBeforeExact) {
  const Classifier net = ClassifierBuilder(9, 15).make(900);
  const std::vector<double> exact =
      dequantize_output(net.client.outputs[0], run_clear(net.circuit, net.inputs)[0]).data;
  const Metric metric = [&](const std::vector<Tensor<double>>& outputs,
                            const std::vector<std::size_t>& samples) {
    return (is_held_out(samples) ? -10 : -1) * relative_error(exact, outputs, samples);
  };
  const PrecisionTarget target = make_target(true, 0, 0, metric, 1);
  const PrecisionFound found =
      search_precision(net.circuit, net.client, net.inputs, {}, {.target = target});
  EXPECT_FALSE(found.is_exact);
  EXPECT_LE(found.report.loss, 1);
  EXPECT_LT(make_plan(net.circuit, found.options).cost_ms_per_core, found.report.exact_ms_per_core);
}

TEST(PrecisionSearch, JudgesNoPlanTwiceAndKeepsToItsTrials) {
  const Classifier net = ClassifierBuilder(9, 15).make(900);
  const std::vector<double> exact =
      dequantize_output(net.client.outputs[0], run_clear(net.circuit, net.inputs)[0]).data;
  for (const int max_trials : {16, 64}) {
    std::vector<double> judged;
    // No plan with any noise passes there.
    const Metric metric = [&](const std::vector<Tensor<double>>& outputs,
                              const std::vector<std::size_t>& samples) {
      const double error = relative_error(exact, outputs, samples);
      if (!is_held_out(samples)) return -error;
      if (error > 0) judged.push_back(error);
      return -1e6 * error;
    };
    const PrecisionFound found =
        search_precision(net.circuit, net.client, net.inputs, {},
                         {.target = make_target(true, 0, 0, metric, 1), .max_trials = max_trials});
    EXPECT_EQ(found.report.loss, 0);
    EXPECT_LE(found.report.trials, max_trials);
    EXPECT_GT(judged.size(), 3u);
    std::ranges::sort(judged);
    EXPECT_EQ(std::ranges::adjacent_find(judged), judged.end());  // the noise of two plans differs
  }
}

// Key sets of some tolerances cannot pack results, or have too much noise for it.
TEST(PrecisionSearch, PackedResultsAreFoundWhereSomeKeySetsCannotPack) {
  int refused = 0;
  for (std::uint64_t seed : {1, 2, 3}) {
    const Classifier net = ClassifierBuilder(seed).make(900);
    const PrecisionSearch search{.target = {.least_agreement = 0.98}};
    const PlanOptions options{.pack_outputs = PackOutputs::on};
    const Plan plan =
        make_plan(net.circuit,
                  search_precision(net.circuit, net.client, net.inputs, options, search).options);
    for (const auto& [node, output] : plan.outputs) EXPECT_TRUE(output.packed) << seed;
    for (double tolerance = 0x1p-9; tolerance < 0x1p-3; tolerance *= 2) {
      PlanOptions tolerant = options;
      tolerant.precision = Precision::tolerant;
      tolerant.tolerance = tolerance;
      try {
        make_plan(net.circuit, tolerant);
      } catch (const Error& error) {
        refused += error.code() == ErrorCode::not_supported;
      }
    }
  }
  EXPECT_GT(refused, 0) << "nothing was refused";
}

TEST(PrecisionSearch, LeavesFixedLayersAlone) {
  const Classifier net = ClassifierBuilder(10).make(600);
  PlanOptions options;
  options.layers["second"] = {Precision::tolerant, 0.003};
  const PrecisionFound found = search_precision(net.circuit, net.client, net.inputs, options,
                                                {.target = {.least_agreement = 0.9}});
  EXPECT_EQ(found.options.layers.at("second"), (LayerPrecision{Precision::tolerant, 0.003}));
  EXPECT_FALSE(found.is_exact);
  EXPECT_THAT(error_of(net, options, {}).message(), testing::HasSubstr("fixed"));
  for (const char* name : {"first", "second", "y"}) options.layers[name] = {};
  EXPECT_EQ(error_of(net, options, {}).code(), ErrorCode::invalid_argument);
}

TEST(PrecisionSearch, SharedResultsAreExact) {
  const Classifier net = ClassifierBuilder(11).make(10);
  const PrecisionFound found = search_precision(net.circuit, net.client, net.inputs,
                                                {.profile = Profile::shared_results}, {});
  EXPECT_TRUE(found.is_exact);
  EXPECT_EQ(found.report.trials, 0);
}

TEST(PrecisionSearch, NeedsNoSamplesWithoutLookups) {
  Classifier net = ClassifierBuilder(16).make(4);
  // The first sums alone, which no table reads.
  net.circuit.nodes.erase(net.circuit.nodes.begin() + 2, net.circuit.nodes.end());
  const ValueId sums = std::get<Linear>(net.circuit.nodes[1].op).result;
  net.circuit.nodes.push_back({"y", Output{sums}});
  net.circuit.values.resize(sums + 1);
  net.client.outputs[0].shape = net.circuit.values[sums].shape;
  net.client.outputs[0].interval = net.circuit.values[sums].interval;
  const PrecisionFound found = search_precision(net.circuit, net.client, net.inputs, {}, {});
  EXPECT_TRUE(found.is_exact);
  EXPECT_EQ(found.report.trials, 0);
}

TEST(PrecisionSearch, SaysHowManySamplesWouldDo) {
  const Classifier net = ClassifierBuilder(12).make(200);
  const Error error = error_of(net, {}, {});
  EXPECT_EQ(error.code(), ErrorCode::calibration_too_small);
  EXPECT_THAT(error.message(), testing::HasSubstr("299 would do"));
  Classifier enough = ClassifierBuilder(12).make(299);
  EXPECT_NO_THROW(search_precision(enough.circuit, enough.client, enough.inputs, {}, {}));
}

TEST(PrecisionSearch, SaysHowNearItCame) {
  const Classifier net = ClassifierBuilder(13, 100).make(300, 1);
  const Error error =
      error_of(net, {.max_exact_bits = 3}, {.target = make_target(true, 0, 1e-6, {}, 0)});
  EXPECT_EQ(error.code(), ErrorCode::target_not_met);
  EXPECT_THAT(error.message(), testing::HasSubstr("the best has 0.0"));
  EXPECT_THAT(error.where(), testing::HasSubstr("layer '"));
}

TEST(PrecisionSearch, RefusesWhatCannotBe) {
  const Classifier net = ClassifierBuilder(14).make(600);
  const auto code = [&](const PrecisionTarget& target) {
    return error_of(net, {}, {.target = target}).code();
  };
  EXPECT_EQ(code({.least_agreement = 1}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.criterion = Criterion::relative_error, .most_relative_error = 0}),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code({.criterion = Criterion::metric}), ErrorCode::invalid_argument);
  const Metric nan = [](const auto&, const auto&) { return std::nan(""); };
  EXPECT_EQ(code({.criterion = Criterion::metric, .metric = nan}), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of(net, {}, {.max_trials = 3}).code(), ErrorCode::invalid_argument);
  const Classifier one = ClassifierBuilder(14).make(600, 1);
  EXPECT_EQ(error_of(one, {}, {.target = {.criterion = Criterion::argmax}}).code(),
            ErrorCode::invalid_argument);
  const auto refuses = [](bool has_search, double agreement, double error, const Metric& metric) {
    EXPECT_THROW(make_target(has_search, agreement, error, metric, 0.01), Error);
  };
  refuses(false, 0.9, 0, {});
  refuses(false, 0, 0, nan);
  refuses(true, 0.9, 0.1, {});
}

}  // namespace
}  // namespace torusml
