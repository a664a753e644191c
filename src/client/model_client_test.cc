#include "client/model_client.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "artifact/sample_model.h"
#include "base/testing/errors.h"
#include "tfhe/ciphertext.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// The sample model with its output on its input: what is encrypted comes back, without a server.
ClientSpec echo_spec() {
  ClientSpec spec = sample_model().client;
  const InputSpec& input = spec.inputs[0];
  spec.outputs = {{"y", input.shape, {0.5}, {1}, input.interval, input.torus_scale, input.center}};
  return spec;
}

ModelHash hash_with(std::uint8_t byte) {
  ModelHash hash;
  hash.bytes.fill(byte);
  return hash;
}

EncryptedOutputs echo(const EncryptedInputs& inputs) {
  EncryptedOutputs outputs{inputs.provenance, {}};
  for (const EncryptedInput& tensor : inputs.tensors)
    outputs.tensors.push_back({"y", tensor.shape, 64, expand(tensor.ciphertexts)});
  return outputs;
}

// The messages of a packed ciphertext without mask are its bodies.
TEST(ModelClient, PackedResultsAreDecrypted) {
  const ModelClient client(echo_spec(), hash_with(1));
  const SecretKeySet keys = client.make_secret_keys();
  const Tensor<std::int64_t> x{{2, 2}, {-3, 0, 1, 4}};
  EncryptedOutputs results{client.encrypt(keys, {x}).provenance, {}};
  const OutputSpec& output = client.spec().outputs[0];
  PackedResults packed({64}, 4);
  for (std::size_t i = 0; i < 4; ++i)
    packed.bodies(0)[i] = encode(x.data[i], output.torus_scale, output.center);
  results.tensors.push_back({"y", x.shape, 64, {}, packed});
  EXPECT_EQ(client.decrypt(keys, results)[0], x);
  results.tensors[0].packed = PackedResults({64}, 5);
  expect_error(ErrorCode::wrong_shape, "(2, 2)", [&] { client.decrypt(keys, results); });
  results.tensors[0].packed = PackedResults({128}, 4);
  expect_error(ErrorCode::wrong_key, "dimension 128", [&] { client.decrypt(keys, results); });
}

TEST(ModelClient, WhatIsEncryptedIsDecrypted) {
  const ModelClient client(echo_spec(), hash_with(1));
  const SecretKeySet keys = client.make_secret_keys();
  Tensor<std::int64_t> x{{4, 2}, {-3, -2, -1, 0, 1, 2, 3, 4}};
  const EncryptedInputs sent = client.encrypt(keys, {x});
  EXPECT_EQ(sent.provenance.model, client.model());
  EXPECT_EQ(sent.provenance.key, keys.provenance.key);
  EXPECT_EQ(sent.provenance.p_error, client.spec().options.p_error);
  EXPECT_EQ(sent.tensors[0].shape, x.shape);
  const auto back = client.decrypt(keys, echo(sent));
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0], x);
  const auto floats = client.dequantize(back);
  EXPECT_EQ(floats[0].data, (std::vector<double>{-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5}));
}

TEST(ModelClient, KeysAndCiphertextsAreNeverTheSameTwice) {
  const ModelClient client(echo_spec(), hash_with(1));
  const SecretKeySet a = client.make_secret_keys(), b = client.make_secret_keys();
  EXPECT_NE(a.provenance.key, b.provenance.key);
  const Tensor<std::int64_t> x{{1, 2}, {0, 0}};
  EXPECT_NE(client.encrypt(a, {x}).tensors[0].ciphertexts.seed,
            client.encrypt(a, {x}).tensors[0].ciphertexts.seed);
}

TEST(ModelClient, QuantizesAndCountsClippedValues) {
  const ModelClient client(echo_spec(), hash_with(1));
  const QuantizedInputs q = client.quantize({{{3, 2}, {0.1, -0.3, 9, -9, 0.4, 0.0}}});
  EXPECT_EQ(q.integers[0].data, (std::vector<std::int64_t>{1, -3, 4, -3, 4, 0}));
  EXPECT_EQ(q.values, 6);
  EXPECT_EQ(q.clipped, 2);
}

TEST(ModelClient, EvaluationKeysCarryTheKeysId) {
  const ModelClient client(echo_spec(), hash_with(1));
  const SecretKeySet keys = client.make_secret_keys();
  const EvaluationKeySet evaluation = client.make_evaluation_keys(keys);
  EXPECT_EQ(evaluation.provenance, keys.provenance);
  ASSERT_EQ(evaluation.keys.size(), 1u);
  EXPECT_EQ(evaluation.keys[0].parameters, keys.keys.parameters);
  EXPECT_EQ(evaluation.keys[0].bootstrap_bodies.size(), 10u * 2 * 2 * 64 * 7);
  EXPECT_EQ(evaluation.keys[0].keyswitch_bodies.size(), 54u * 3);
}

TEST(ModelClient, EachKeySetHasItsKeysUnderOneSecret) {
  ClientSpec spec = echo_spec();
  spec.key_sets.push_back(sample_second_parameters());
  const ModelClient client(spec, hash_with(1));
  const SecretKeySet keys = client.make_secret_keys();
  EXPECT_EQ(keys.key_sets, spec.key_sets);
  EXPECT_EQ(keys.keys.big.size(), 64u);
  std::size_t steps = 0, total = 0;
  const EvaluationKeySet evaluation =
      client.make_evaluation_keys(keys, [&](std::size_t done, std::size_t of) {
        steps = done;
        total = of;
      });
  EXPECT_EQ(parameters_of(evaluation.keys), spec.key_sets);
  EXPECT_NE(evaluation.keys[0].seed, evaluation.keys[1].seed);
  EXPECT_EQ(steps, 10u + 12u);
  EXPECT_EQ(total, steps);
  // The secret key of two sets serves a model that needs one of them; not the other way round.
  const ModelClient simple(echo_spec(), hash_with(2));
  const Tensor<std::int64_t> x{{1, 2}, {0, 3}};
  EXPECT_EQ(simple.decrypt(keys, echo(simple.encrypt(keys, {x})))[0], x);
  const SecretKeySet few = simple.make_secret_keys();
  expect_error(ErrorCode::wrong_key, "no key set n64-k1-s12", [&] { client.encrypt(few, {x}); });
}

TEST(ModelClient, AModelWithoutLookupsHasEmptyEvaluationKeys) {
  ClientSpec spec = sample_model(false).client;
  const ModelClient client(spec, hash_with(1));
  const SecretKeySet keys = client.make_secret_keys();
  EXPECT_EQ(keys.keys.small().size(), 0u);
  const EvaluationKeySet evaluation = client.make_evaluation_keys(keys);
  EXPECT_EQ(parameters_of(evaluation.keys), spec.key_sets);
  EXPECT_TRUE(evaluation.keys[0].bootstrap_bodies.empty());
  EXPECT_TRUE(evaluation.keys[0].keyswitch_bodies.empty());
  EXPECT_NO_THROW(client.encrypt(keys, {{{1, 2}, {0, 0}}}));
}

TEST(ModelClient, WrongInputsAreSpecificErrors) {
  const ModelClient client(echo_spec(), hash_with(1));
  const SecretKeySet keys = client.make_secret_keys();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  expect_error(ErrorCode::non_finite_value, "nan", [&] { client.quantize({{{1, 2}, {0, nan}}}); });
  expect_error(ErrorCode::non_finite_value, "inf", [&] {
    client.quantize({{{1, 2}, {INFINITY, 0}}});
  });
  expect_error(ErrorCode::wrong_shape, "(1, 3)", [&] { client.quantize({{{1, 3}, {0, 0, 0}}}); });
  expect_error(ErrorCode::wrong_shape, "(2)", [&] { client.quantize({{{2}, {0, 0}}}); });
  expect_error(ErrorCode::wrong_shape, "(0, 2)", [&] { client.quantize({{{0, 2}, {}}}); });
  expect_error(ErrorCode::wrong_shape, "0 inputs", [&] { client.quantize({}); });
  expect_error(ErrorCode::wrong_shape, "(1, 3)", [&] {
    client.encrypt(keys, {{{1, 3}, {0, 0, 0}}});
  });
  expect_error(ErrorCode::wrong_shape, "(1, 2)", [&] { client.encrypt(keys, {{{1, 2}, {0}}}); });
  expect_error(ErrorCode::invalid_argument,
               "element 1 of sample 2 lies outside the input's interval [-3, 4]", [&] {
                 client.encrypt(keys, {{{3, 2}, {0, 1, 2, 3, 4, 5}}});
               });
  expect_error(ErrorCode::wrong_shape, "2 outputs", [&] {
    client.dequantize({{{1, 2}, {0, 0}}, {{1, 2}, {0, 0}}});
  });
}

TEST(ModelClient, KeysOfOtherParametersAreRefused) {
  const ModelClient client(echo_spec(), hash_with(1));
  ClientSpec other_spec = echo_spec();
  other_spec.key_sets[0].polynomial_size.value = 128;
  const ModelClient other(other_spec, hash_with(2));
  const SecretKeySet keys = other.make_secret_keys();
  const Tensor<std::int64_t> x{{1, 2}, {0, 0}};
  const std::string id = short_hex(keys.provenance.key);
  expect_error(ErrorCode::wrong_key, id, [&] { client.encrypt(keys, {x}); });
  expect_error(ErrorCode::wrong_key, "n128-k1", [&] { client.make_evaluation_keys(keys); });
  expect_error(ErrorCode::wrong_key, "0202020202",
               [&] { client.decrypt(keys, echo(other.encrypt(keys, {x}))); });
}

TEST(ModelClient, ResultsOfAnotherModelOrKeyAreRefused) {
  const ModelClient client(echo_spec(), hash_with(1)), twin(echo_spec(), hash_with(2));
  const SecretKeySet keys = client.make_secret_keys(), other = client.make_secret_keys();
  const Tensor<std::int64_t> x{{1, 2}, {0, 0}};
  expect_error(ErrorCode::wrong_model, "020202020202",
               [&] { client.decrypt(keys, echo(twin.encrypt(keys, {x}))); });
  expect_error(ErrorCode::wrong_key, short_hex(other.provenance.key),
               [&] { client.decrypt(keys, echo(client.encrypt(other, {x}))); });
  EncryptedOutputs results = echo(client.encrypt(keys, {x}));
  results.tensors[0].shape = {2, 1};
  expect_error(ErrorCode::wrong_shape, "(2, 1)", [&] { client.decrypt(keys, results); });
  results.tensors.clear();
  expect_error(ErrorCode::wrong_shape, "0 outputs", [&] { client.decrypt(keys, results); });
}

}  // namespace
}  // namespace torusml
