// Wrong reads of a model, simulated and on ciphertexts: the engine behind flips.py.
//
//   flips MODEL.tml INPUTS ENCRYPTED SIMULATED RESULTS
//
// INPUTS: integers as the model's one input takes them, 64 bits each, sample after sample. The
// first ENCRYPTED samples run under fresh keys; all of them are simulated so often that SIMULATED
// samples are reached. RESULTS receives the integers of the model's one output, encrypted ones
// first, 64 bits each. Prints a JSON line for each layer, and one of all. result_noise is the
// standard deviation of what a lookup gives, in units of one integer: unless it is small, results
// on ciphertexts differ without a wrong read.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "artifact/codecs.h"
#include "artifact/files.h"
#include "benchmark/machine.h"
#include "plan/client_spec.h"
#include "runtime/executors.h"
#include "runtime/testing/encrypted_flips.h"
#include "tfhe/secret_keys.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;
using Integers = std::vector<Tensor<std::int64_t>>;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::int64_t positive(const char* text) {
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  if (*end == '\0' && value > 0) return value;
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a positive integer", text));
}

ValueId only_value(const std::vector<const Node*>& nodes, const char* what) {
  if (nodes.size() != 1)
    throw Error(ErrorCode::not_supported, fmt::format("the model has {} {}s", nodes.size(), what),
                "", "a model with one input and one output");
  const auto* input = std::get_if<Input>(&nodes[0]->op);
  return input != nullptr ? input->result : std::get<Output>(nodes[0]->op).operand;
}

Integers read_inputs(const std::string& path, const Circuit& circuit) {
  Shape shape = circuit.values[only_value(input_nodes(circuit), "input")].shape;
  const auto elements = static_cast<std::size_t>(number_of_elements(shape));
  const FileSource source(path);
  std::vector<std::int64_t> data(source.size() / sizeof(std::int64_t) / elements * elements);
  source.read(0, {reinterpret_cast<std::uint8_t*>(data.data()), data.size() * sizeof(data[0])});
  shape.insert(shape.begin(), static_cast<std::int64_t>(data.size() / elements));
  return {{std::move(shape), std::move(data)}};
}

// So many samples, from the first one on and again.
Integers samples_of(const Integers& inputs, std::int64_t count) {
  Integers some = inputs;
  const std::size_t wanted = inputs[0].data.size() / static_cast<std::size_t>(inputs[0].shape[0]) *
                             static_cast<std::size_t>(count);
  some[0].shape[0] = count;
  some[0].data.resize(wanted);
  for (std::size_t i = inputs[0].data.size(); i < wanted; ++i)
    some[0].data[i] = some[0].data[i - inputs[0].data.size()];
  return some;
}

std::vector<std::int64_t> run_on_ciphertexts(const CompiledModel& model, const Integers& inputs,
                                             FlipCounts& counts) {
  const Circuit& circuit = model.circuit;
  const Plan& plan = model.plan;
  SecretGenerator random;
  const SecretKeys secret = SecretKeys::generate(plan.key_sets[0].parameters, random);
  std::vector<EvaluationKeys> keys;
  for (const TfheParameters& p : parameters_of(plan.key_sets))
    keys.push_back(EvaluationKeys::prepare(make_evaluation_keys(secret, p, random)));
  const TensorPlan& input = plan.tensors[only_value(input_nodes(circuit), "input")];
  std::vector<Torus> phases;
  for (const std::int64_t v : inputs[0].data)
    phases.push_back(encode(v, input.scale, input.center));
  const std::vector<LweBatch> results =
      run_encrypted(circuit, plan, keys, {expand(encrypt(secret, phases, random))}, {}, {},
                    flip_counter(circuit, plan, secret, counts));
  const ValueId value = only_value(output_nodes(circuit), "output");
  const TensorPlan& output = plan.tensors[value];
  std::vector<std::int64_t> integers;
  for (const Torus phase : decrypt(secret, results[0]))
    integers.push_back(decode(phase, output.scale, output.center, circuit.values[value].interval));
  return integers;
}

Json json(const LookupCounts& counts) {
  return {{"events", counts.events},
          {"flips", counts.flips},
          {"far", counts.far},
          {"wraps", counts.wraps},
          {"flip_rate", counts.flip_rate()}};
}

void measure(const std::string& path, const std::string& inputs_path, std::int64_t encrypted,
             std::int64_t simulated, const std::string& results_path) {
  const CompiledModel model = load_model(path).model;
  const Integers inputs = read_inputs(inputs_path, model.circuit);
  FlipCounts real, predicted;
  Clock::time_point start = Clock::now();
  const std::vector<std::int64_t> results =
      run_on_ciphertexts(model, samples_of(inputs, encrypted), real);
  const double encrypted_s = seconds_since(start);
  start = Clock::now();
  const Integers simulated_results =
      run_simulated(model.circuit, model.plan, samples_of(inputs, simulated), 1, {}, &predicted);
  const double simulated_s = seconds_since(start);
  for (const auto& [node, counts] : real) {
    const LookupPlan& lookup = model.plan.lookups.at(node);
    double result_noise = 0;  // in units of one integer
    for (const ValueId result : std::get<Lut>(model.circuit.nodes[node].op).results) {
      result_noise =
          std::max(result_noise, std::sqrt(model.plan.key_set_of(lookup).bootstrap.value) /
                                     model.plan.tensors[result].scale);
    }
    const Json line{{"layer", model.circuit.nodes[node].name},
                    {"encrypted", json(counts)},
                    {"simulated", json(predicted.at(node))},
                    {"result_noise", result_noise},
                    {"plan_step_probability", lookup.step_probability},
                    {"plan_far_probability", lookup.far_probability},
                    {"plan_wrap_probability", lookup.wrap_probability}};
    fmt::print("{}\n", line.dump());
  }
  const Machine machine = describe_machine();
  const Json line{{"layer", nullptr},
                  {"encrypted", json(total(real))},
                  {"simulated", json(total(predicted))},
                  {"key_set", names_of(model.plan.key_sets)},
                  {"encrypted_samples", encrypted},
                  {"encrypted_s", encrypted_s},
                  {"simulated_samples", simulated},
                  {"simulated_s", simulated_s},
                  {"cpu", machine.cpu},
                  {"commit", machine.commit}};
  fmt::print("{}\n", line.dump());
  std::ofstream file(results_path, std::ios::binary);
  for (const std::vector<std::int64_t>* values : {&results, &simulated_results[0].data}) {
    file.write(reinterpret_cast<const char*>(values->data()),
               static_cast<std::streamsize>(values->size() * sizeof(std::int64_t)));
  }
  if (!file) throw Error(ErrorCode::file_unwritable, "results", results_path);
}

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) {
  try {
    if (count != 6)
      throw torusml::Error(torusml::ErrorCode::invalid_argument, "five arguments are expected", "",
                           "flips MODEL.tml INPUTS ENCRYPTED SIMULATED RESULTS");
    torusml::measure(arguments[1], arguments[2], torusml::positive(arguments[3]),
                     torusml::positive(arguments[4]), arguments[5]);
  } catch (const torusml::Error& error) {
    fmt::print(stderr, "flips: {}\n", error.what());
    return 1;
  }
}
