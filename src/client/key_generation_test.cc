#include "client/key_generation.h"

#include <gtest/gtest.h>

#include "artifact/sample_model.h"
#include "client/model_client.h"
#include "torusml/error.h"

namespace torusml {
namespace {

ClientHalf half(const std::string& name, const std::vector<TfheParameters>& key_sets,
                std::uint8_t hash) {
  ClientHalf made{sample_model().client, {}, "test"};
  made.spec.model_name = name;
  made.spec.key_sets = key_sets;
  made.hash.bytes.fill(hash);
  return made;
}

TEST(KeyGeneration, SeveralModelsShareOneSecretKey) {
  const TfheParameters first = sample_parameters(), second = sample_second_parameters();
  const std::vector<ClientHalf> models{half("a", {first}, 1), half("b", {second, first}, 2)};
  EXPECT_EQ(key_sets_of(models), (std::vector{first, second}));
  const SecretKeySet secret = make_secret_keys(models);
  EXPECT_EQ(secret.key_sets, (std::vector{first, second}));
  EXPECT_EQ(secret.provenance.model, models[0].hash);
  const EvaluationKeySet evaluation = make_evaluation_keys(secret, secret.key_sets);
  EXPECT_EQ(parameters_of(evaluation.keys), secret.key_sets);
  EXPECT_EQ(evaluation.provenance.key, secret.provenance.key);
  for (const ClientHalf& model : models) {
    const ModelClient client(model);
    EXPECT_NO_THROW(client.check_keys(secret));
    EXPECT_NO_THROW(check_key_sets(model.spec.key_sets, parameters_of(evaluation.keys), "they"));
    const Tensor<std::int64_t> x{{1, 2}, {0, 3}};
    EXPECT_EQ(client.encrypt(secret, {x}).provenance.model, model.hash);
  }
}

TEST(KeyGeneration, ModelsThatNeedDifferentKeysAreNamed) {
  TfheParameters larger = sample_parameters();
  larger.polynomial_size = {128};
  const std::vector<ClientHalf> models{half("small", {sample_parameters()}, 1),
                                       half("large", {larger}, 2),
                                       half("other", {sample_second_parameters()}, 3)};
  try {
    make_secret_keys(models);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::wrong_key);
    EXPECT_NE(error.message().find("'small' (010101010101), 'other' (030303030303): 64 bits"),
              std::string::npos)
        << error.what();
    EXPECT_NE(error.message().find("'large' (020202020202): 128 bits"), std::string::npos)
        << error.what();
  }
}

TEST(KeyGeneration, NeedsAModel) {
  try {
    key_sets_of({});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  }
}

}  // namespace
}  // namespace torusml
