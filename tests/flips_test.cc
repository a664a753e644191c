// Wrong reads of a trained network: as often on ciphertexts as in the simulator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "compiler/quantized_module.h"
#include "importer/onnx.h"
#include "plan/client_spec.h"
#include "runtime/executors.h"
#include "runtime/testing/encrypted_flips.h"
#include "tfhe/secret_keys.h"

namespace torusml {
namespace {

using Integers = std::vector<Tensor<std::int64_t>>;

const std::string kCheckerboard =
    std::string(TORUSML_SOURCE_DIR) + "/tests/models/checkerboard_qat_seed0";

// An array of points of the fixture, which tests/models/README.md describes.
Tensor<double> read_points(const std::string& wanted) {
  std::ifstream file(kCheckerboard + "_integers.txt");
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string name;
    std::int64_t width = 0;
    line >> name >> width;
    if (name != wanted) continue;
    Tensor<double> points;
    for (double value; line >> value;) points.data.push_back(value);
    points.shape = {static_cast<std::int64_t>(points.data.size()) / width, width};
    return points;
  }
  return {};
}

// The samples, so many times one after the other.
Integers repeat(const Integers& inputs, std::int64_t times) {
  Integers many = inputs;
  for (std::int64_t copy = 1; copy < times; ++copy)
    many[0].data.insert(many[0].data.end(), inputs[0].data.begin(), inputs[0].data.end());
  many[0].shape[0] *= times;
  return many;
}

Integers run_under_fresh_keys(const CompiledModel& model, const Integers& inputs,
                              FlipCounts& counts) {
  SecretGenerator random;
  const SecretKeys secret = SecretKeys::generate(model.plan.key_sets[0].parameters, random);
  std::vector<EvaluationKeys> keys;
  for (const TfheParameters& p : parameters_of(model.plan.key_sets))
    keys.push_back(EvaluationKeys::prepare(make_evaluation_keys(secret, p, random)));
  const TensorPlan& input = model.plan.tensors[0];
  std::vector<Torus> phases;
  for (const std::int64_t v : inputs[0].data)
    phases.push_back(encode(v, input.scale, input.center));
  const std::vector<LweBatch> results =
      run_encrypted(model.circuit, model.plan, keys, {expand(encrypt(secret, phases, random))}, {},
                    {}, flip_counter(model.circuit, model.plan, secret, counts));
  const ValueId value = std::get<Output>(output_nodes(model.circuit)[0]->op).operand;
  const TensorPlan& output = model.plan.tensors[value];
  Integers outputs{{{inputs[0].shape[0], 2}, {}}};
  for (const Torus phase : decrypt(secret, results[0])) {
    outputs[0].data.push_back(
        decode(phase, output.scale, output.center, model.circuit.values[value].interval));
  }
  return outputs;
}

// Samples whose class is another one than expected[i], expected being repeated.
std::uint64_t other_classes(const CompiledModel& model, const Integers& results,
                            const Integers& expected) {
  const Tensor<double> y = dequantize_output(model.client.outputs[0], results[0]);
  const Tensor<double> z = dequantize_output(model.client.outputs[0], expected[0]);
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < y.data.size(); i += 2) {
    const std::size_t j = i % z.data.size();
    count += (y.data[i] < y.data[i + 1]) != (z.data[j] < z.data[j + 1]) ? 1 : 0;
  }
  return count;
}

double share(std::uint64_t count, double of) { return static_cast<double>(count) / of; }

TEST(StatisticalFlips, CheckerboardEncryptedAsSimulated) {
  const std::vector<Tensor<double>> calibration{read_points("calibration")};
  ASSERT_FALSE(calibration[0].data.empty());
  QuantizedModule module = QuantizedModule::build(import_onnx(kCheckerboard + ".onnx"), calibration,
                                                  {.bits = {}, .import_qat = true}, 0.3);
  const CompiledModel model =
      module.compile(calibration, {.precision = Precision::tolerant, .tolerance = 0.02});
  for (const auto& [node, lookup] : model.plan.lookups) {  // so that results show what was read
    const ValueId result = std::get<Lut>(model.circuit.nodes[node].op).results[0];
    ASSERT_LT(std::sqrt(model.plan.key_set_of(lookup).bootstrap.value),
              0.1 * model.plan.tensors[result].scale);
  }
  const Integers points = module.quantize_inputs({read_points("points")});
  const Integers clear = run_clear(model.circuit, points);

  constexpr std::int64_t kEncrypted = 4, kSimulated = 40;
  FlipCounts encrypted, simulated;
  const std::uint64_t encrypted_classes = other_classes(
      model, run_under_fresh_keys(model, repeat(points, kEncrypted), encrypted), clear);
  const std::uint64_t simulated_classes = other_classes(
      model,
      run_simulated(model.circuit, model.plan, repeat(points, kSimulated), 1, {}, &simulated),
      clear);
  for (const auto& [node, counts] : encrypted) {
    const LookupCounts& other = simulated.at(node);
    std::printf("%-12s encrypted %.4f far %.4f wraps %llu, simulated %.4f far %.4f wraps %llu\n",
                model.circuit.nodes[node].name.c_str(), counts.flip_rate(), counts.far_rate(),
                static_cast<unsigned long long>(counts.wraps), other.flip_rate(), other.far_rate(),
                static_cast<unsigned long long>(other.wraps));
  }
  const LookupCounts real = total(encrypted), model_of_it = total(simulated);
  EXPECT_GE(real.flips, 2500u);
  EXPECT_GE(model_of_it.flips, 25000u);
  EXPECT_NEAR(real.flip_rate() / model_of_it.flip_rate(), 1, 0.1);

  const double n = 60.0 * kEncrypted, m = 60.0 * kSimulated;
  const double p = share(encrypted_classes + simulated_classes, n + m);
  EXPECT_NEAR(share(encrypted_classes, n), share(simulated_classes, m),
              1 / n + 4 * std::sqrt(p * (1 - p) * (1 / n + 1 / m)));
  std::printf("another class than in the clear: encrypted %.3f, simulated %.3f\n",
              share(encrypted_classes, n), share(simulated_classes, m));
}

}  // namespace
}  // namespace torusml
