// Key material and ciphertexts of random words, in files with right sizes and hashes: what is
// computed with them is garbage of the right shape.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "artifact/container.h"
#include "client/model_client.h"
#include "serving/server_model.h"
#include "tfhe/testing/on_target.h"

namespace torusml::fuzz {
namespace {

const std::string kFolder =
    TORUSML_SOURCE_DIR "/tests/golden/version_" + std::to_string(kFormatVersion) + "/";

// Bytes for keys and ciphertexts: random ones, and those that are extreme as words of any width.
struct Filling {
  const char* name;
  std::function<std::uint8_t(std::mt19937_64&)> byte;
};

std::vector<Filling> fillings() {
  return {{"random", [](std::mt19937_64& random) { return static_cast<std::uint8_t>(random()); }},
          {"zeros", [](std::mt19937_64&) { return std::uint8_t{0}; }},
          {"ones", [](std::mt19937_64&) { return std::uint8_t{0xff}; }},
          {"sign bits", [](std::mt19937_64&) { return std::uint8_t{0x80}; }},
          {"largest", [](std::mt19937_64&) { return std::uint8_t{0x7f}; }}};
}

template <class Words>
void fill(Words& words, const Filling& filling, std::mt19937_64& random) {
  auto* bytes = reinterpret_cast<std::uint8_t*>(words.data());
  for (std::size_t i = 0; i < words.size() * sizeof(words[0]); ++i) bytes[i] = filling.byte(random);
}

EvaluationKeySet filled_keys(const Filling& filling, std::mt19937_64& random) {
  EvaluationKeySet keys = load_evaluation_keys(kFolder + "evaluation.key");
  for (SeededEvaluationKeys& set : keys.keys) {
    for (std::uint8_t& byte : set.seed) byte = static_cast<std::uint8_t>(random());
    fill(set.bootstrap_bodies, filling, random);
    fill(set.keyswitch_bodies, filling, random);
    fill(set.trace_bodies, filling, random);
  }
  return evaluation_keys_from_bytes(to_bytes(keys));
}

EncryptedInputs filled_inputs(const Filling& filling, std::mt19937_64& random) {
  EncryptedInputs inputs = load_encrypted_inputs(kFolder + "inputs.ct");
  for (EncryptedInput& tensor : inputs.tensors) fill(tensor.ciphertexts.bodies, filling, random);
  return encrypted_inputs_from_bytes(to_bytes(inputs));
}

SecretKeySet random_secret(const ModelClient& client, const Provenance& provenance,
                           std::mt19937_64& random) {
  SecretKeySet secret;
  secret.provenance = provenance;
  secret.key_sets = client.spec().key_sets;
  secret.keys.parameters = secret.key_sets.front();
  secret.keys.big = SecretBuffer<std::uint64_t>(secret.keys.parameters.big_dimension().value);
  for (std::size_t i = 0; i < secret.keys.big.size(); ++i) secret.keys.big[i] = random() & 1;
  return secret;
}

// Both key sets of the golden model: one and two bits a step, circuit bootstrapping, wide lookups.
TEST(RandomKeys, ComputeGarbage) {
  const ModelClient client(load_client_half(kFolder + "client.tmc"));
  std::mt19937_64 random(5);
  const SecretKeySet secret =
      random_secret(client, load_evaluation_keys(kFolder + "evaluation.key").provenance, random);
  const Interval interval = client.spec().outputs[0].interval;
  int runs = 0;
  for (const std::string& target : target_names()) {
    OnTarget forced;
    if (!forced.use(target)) continue;
    for (const Filling& filling : fillings()) {
      SCOPED_TRACE(target + " " + filling.name);
      ServerModel server(load_server_half(kFolder + "server.tms"));
      server.load_keys(filled_keys(filling, random));
      const EncryptedOutputs outputs = server.run(filled_inputs(filling, random));
      ASSERT_EQ(outputs.tensors.size(), 1u);
      EXPECT_EQ(outputs.tensors[0].shape, (Shape{4, 2}));
      const auto values =
          client.decrypt(secret, encrypted_outputs_from_bytes(to_bytes(outputs)))[0].data;
      ASSERT_EQ(values.size(), 8u);
      for (const std::int64_t value : values) EXPECT_TRUE(interval.contains(value)) << value;
      ++runs;
    }
  }
  EXPECT_GE(runs, 5);
}

// Results of a server that sends random words decrypt to integers of the interval.
TEST(RandomKeys, RandomResultsDecrypt) {
  const ModelClient client(load_client_half(kFolder + "client.tmc"));
  EncryptedOutputs outputs = load_encrypted_outputs(kFolder + "outputs.ct");
  std::mt19937_64 random(6);
  const SecretKeySet secret = random_secret(client, outputs.provenance, random);
  for (const Filling& filling : fillings()) {
    SCOPED_TRACE(filling.name);
    fill(outputs.tensors[0].ciphertexts.words, filling, random);
    const auto values = client.decrypt(secret, outputs)[0].data;
    for (const std::int64_t value : values)
      EXPECT_TRUE(client.spec().outputs[0].interval.contains(value)) << value;
  }
}

}  // namespace
}  // namespace torusml::fuzz
