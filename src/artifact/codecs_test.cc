#include "artifact/codecs.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "artifact/container.h"
#include "artifact/describe.h"
#include "artifact/files.h"
#include "artifact/sample_model.h"
#include "artifact/testing/codecs.h"
#include "base/testing/errors.h"
#include "base/testing/released_secrets.h"
#include "circuit/text.h"
#include "tfhe/validate.h"
#include "torusml/error.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

void expect_equal(const CompiledModel& a, const CompiledModel& b) {
  EXPECT_EQ(a.circuit, b.circuit);
  EXPECT_EQ(print(a.plan, a.circuit), print(b.plan, b.circuit));
  EXPECT_EQ(parameters_of(a.plan.key_sets), parameters_of(b.plan.key_sets));
  EXPECT_EQ(a.client.key_sets, b.client.key_sets);
  EXPECT_EQ(a.client.model_name, b.client.model_name);
  EXPECT_EQ(a.client.options.p_error, b.client.options.p_error);
  EXPECT_EQ(a.client.options.tolerance, b.client.options.tolerance);
  ASSERT_EQ(a.client.inputs.size(), b.client.inputs.size());
  EXPECT_EQ(a.client.inputs[0].quantizer, b.client.inputs[0].quantizer);
  EXPECT_EQ(a.client.inputs[0].name, b.client.inputs[0].name);
  EXPECT_EQ(a.client.inputs[0].torus_scale, b.client.inputs[0].torus_scale);
  EXPECT_EQ(a.client.inputs[0].center, b.client.inputs[0].center);
  ASSERT_EQ(a.client.outputs.size(), b.client.outputs.size());
  EXPECT_EQ(a.client.outputs[0].scale, b.client.outputs[0].scale);
  EXPECT_EQ(a.client.outputs[0].zero_point, b.client.outputs[0].zero_point);
  EXPECT_EQ(a.client.outputs[0].interval, b.client.outputs[0].interval);
  ASSERT_EQ(a.ranges.size(), b.ranges.size());
  EXPECT_EQ(a.ranges[0].name, b.ranges[0].name);
  EXPECT_EQ(a.ranges[0].guaranteed, b.ranges[0].guaranteed);
  EXPECT_EQ(a.ranges[0].bits, b.ranges[0].bits);
}

TEST_F(Codecs, ModelsComeBackTheSame) {
  for (const bool with_lookup : {true, false}) {
    const CompiledModel model = sample_model(with_lookup);
    save_model(model, file("m.tml"));
    const StoredModel stored = load_model(file("m.tml"));
    expect_equal(stored.model, model);
    EXPECT_EQ(stored.hash, hash_of(model));
    EXPECT_EQ(hash_of(stored.model), stored.hash);
    EXPECT_TRUE(stored.producer.starts_with("torusml "));
    EXPECT_EQ(file_bytes(file("m.tml")), to_bytes(model));
    EXPECT_EQ(to_bytes(stored.model), to_bytes(model));
  }
}

TEST(ModelCodec, HashSeesEveryPart) {
  const ModelHash hash = hash_of(sample_model());
  CompiledModel model = sample_model();
  std::get<DenseWeight>(std::get<Linear>(model.circuit.nodes[1].op).terms[0].weight).data[0] += 1;
  EXPECT_NE(hash_of(model), hash);
  model = sample_model();
  model.plan.tensors[1].scale = std::nextafter(model.plan.tensors[1].scale, 1.0);
  EXPECT_NE(hash_of(model), hash);
  model = sample_model();
  model.client.outputs[0].scale[2] = std::nextafter(model.client.outputs[0].scale[2], 1.0);
  EXPECT_NE(hash_of(model), hash);
  model = sample_model();
  model.ranges[0].calibrated.lower -= 1;
  EXPECT_NE(hash_of(model), hash);
}

TEST(ModelCodec, ACutOrAFlippedByteAnywhereIsAnError) {
  expect_fragile(to_bytes(sample_model()), [](const std::string& b) { model_from_bytes(b); });
}

// Writes a model file with changed texts: valid hashes, contents that contradict each other.
std::string forged_model(const std::function<void(std::map<std::string, std::string>&)>& change) {
  const std::string bytes = to_bytes(sample_model());
  const MemorySource source(bytes, "sample");
  const ContainerReader reader(source, {FileKind::model});
  std::map<std::string, std::string> texts;
  for (const SectionInfo& section : reader.sections())
    texts[section.name] = reader.read_text(section.name, 1 << 20);
  change(texts);
  Sha256 hash;
  for (const char* name : {"circuit", "plan", "client", "ranges"}) {
    hash.update(std::string(name) + " " + std::to_string(texts[name].size()) + "\n");
    hash.update(texts[name]);
  }
  ContainerWriter writer(FileKind::model);
  for (const auto& [key, value] : reader.properties()) writer.set(key, value);
  writer.set("model_hash", to_hex(hash.finish()));
  for (const char* name : {"circuit", "plan", "client", "ranges"})
    writer.add_text(name, texts[name]);
  return writer.to_bytes();
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from << " in " << text;
  text.replace(at, from.size(), to);
}

// One for all elements, one per channel of the last axis, one per element; whole numbers are
// written without a fraction.
TEST(ModelCodec, ZeroPointsHaveFractions) {
  const std::vector<std::vector<double>> lists{
      {0.25}, {0, -0.5, 0x1p-16}, {-1e15, 3, 0x1.fffffffffffffp52}};
  for (const std::vector<double>& zero_point : lists) {
    CompiledModel model = sample_model();
    model.client.outputs[0].zero_point = zero_point;
    EXPECT_EQ(model_from_bytes(to_bytes(model)).model.client.outputs[0].zero_point, zero_point);
  }
  const std::string whole =
      forged_model([](auto& texts) { replace(texts["client"], "[0,-1,2]", "[0,-1,2.0]"); });
  EXPECT_EQ(model_from_bytes(whole).model.client.outputs[0].zero_point,
            sample_model().client.outputs[0].zero_point);
}

TEST(ModelCodec, ForgedContentsAreRefused) {
  EXPECT_NO_THROW(model_from_bytes(forged_model([](auto&) {})));
  struct Forgery {
    const char *section, *from, *to;
  };
  const Forgery forgeries[] = {
      {"circuit", "tensor<3>", "tensor<4>"},
      {"circuit", "circuit", "circus"},
      {"circuit", "%1 tables", "%7 tables"},
      {"plan", "lookup node 2", "lookup node 1"},
      {"plan", "lookup node 2", "lookup node 77"},
      {"plan", "sample lookups 3", "sample lookups 4"},
      {"plan", "wire_bits 64 guard", "wire_bits 64 packed guard"},
      {"plan", "bootstrap 2x20", "bootstrap 0x20"},
      {"plan", "h 0 guard", "h 0 tables_log2 6 guard"},
      {"plan", "h 0 guard", "h 1 tables_log2 1 guard"},
      {"client", "\"polynomial_size\":64", "\"polynomial_size\":65"},
      {"client", "\"polynomial_size\":64", "\"polynomial_size\":128"},
      {"client", "\"polynomial_size\":64", "\"polynomial_size\":4294967328"},
      {"client", "\"polynomial_size\":64", "\"polynomial_size\":-64"},
      {"client", "\"small_dimension\":10", "\"small_dimension\":0"},
      {"client", "\"trace\":", "\"traces\":"},
      {"client", "\"trace\":{\"base_log2\":0,\"level_count\":0}",
       "\"trace\":{\"base_log2\":8,\"level_count\":5}"},
      {"client", "\"n_bits\":3", "\"n_bits\":33"},
      {"client", "\"n_bits\":3", "\"n_bits\":\"3\""},
      {"client", "\"scale\":[0.1]", "\"scale\":[0]"},
      {"client", "\"scale\":[0.1]", "\"scale\":[1e999]"},
      {"client", "\"scale\":[0.1]", "\"scale\":[]"},
      {"client", "\"scale\":[0.1]", "\"scale\":[0.1,0.1,0.1]"},
      {"client", "\"shape\":[2]", "\"shape\":[-2]"},
      {"client", "\"shape\":[2]", "\"shape\":[0]"},
      {"client", "\"shape\":[2]", "\"shape\":[3]"},
      {"client", "\"shape\":[2]", "\"shape\":[4294967296,4294967296,4294967296]"},
      {"client", "\"interval\":[-3,4]", "\"interval\":[4,-3]"},
      {"client", "\"interval\":[-3,4]", "\"interval\":[-3]"},
      {"client", "\"interval\":[-3,4]", "\"interval\":[-3,18446744073709551615]"},
      {"client", "\"center\":0.5", "\"center\":0.25"},
      {"client", "\"center\":0.5", "\"center\":null"},
      {"client", "\"precision\":\"exact\"", "\"precision\":\"sloppy\""},
      {"client", "\"p_error\":", "\"p_error\":1,\"x\":"},
      {"client", "\"global_p_error\":", "\"global_p_error\":-0.1,\"x\":"},
      {"client", "\"tolerance\":", "\"tolerance\":-1,\"x\":"},
      {"client", "\"zero_point\":[0,-1,2]", "\"zero_point\":[0,-1]"},
      {"client", "\"zero_point\":[0,-1,2]", "\"zero_point\":[]"},
      {"client", "\"zero_point\":[0,-1,2]", "\"zero_point\":[0,-1,1e999]"},
      {"client", "\"zero_point\":[0,-1,2]", "\"zero_point\":[0,-1,4611686018427387904]"},
      {"client", "\"zero_point\":[0]", "\"zero_point\":[-4611686018427387904]"},
      {"client", "\"inputs\":[{", "\"inputs\":[{\"clear\":1,"},
      {"client", "{", "[{"},
      {"ranges", "\"bits\":7", "\"bits\":700"},
      {"ranges", "{\"ranges\":", "[[[["},
  };
  for (const Forgery& forgery : forgeries) {
    const std::string bytes = forged_model(
        [&](auto& texts) { replace(texts[forgery.section], forgery.from, forgery.to); });
    EXPECT_EQ(code_of([&] { model_from_bytes(bytes); }), ErrorCode::file_corrupt)
        << forgery.section << ": " << forgery.from << " -> " << forgery.to;
  }
}

// The client's half says again what the plan and the circuit say; the error has both.
TEST(ModelCodec, WhatIsSaidTwiceMustAgree) {
  struct Forgery {
    const char *section, *from, *to, *part;
  };
  const Forgery forgeries[] = {
      {"plan", "p_error 9.094947017729282e-13", "p_error 1e-06",
       "'p_error' is 9.094947017729282e-13, the plan says 1e-06"},
      {"client", "\"security_bits\":128", "\"security_bits\":132",
       "'security_bits' is 132, the plan says 128"},
      {"client", "\"profile\":\"private_results\"", "\"profile\":\"shared_results\"",
       "'profile' is shared_results, the plan says private_results"},
      {"client", "\"precision\":\"exact\"", "\"precision\":\"tolerant\"",
       "'precision' is tolerant, the plan says exact"},
      {"client", "\"global_p_error\":0.0", "\"global_p_error\":0.5",
       "'global_p_error' is 0.5, the plan says 0"},
      {"client", "\"parameters\":\"catalogue\"", "\"parameters\":\"custom\"",
       "'parameters' is custom, the plan says catalogue"},
      {"plan", "max_exact_bits 16", "max_exact_bits 8", "'max_exact_bits' is 16, the plan says 8"},
      {"plan", "max_key_sets 2", "max_key_sets 1", "'max_key_sets' is 2, the plan says 1"},
      {"plan", "tolerance 0.0027621358640099515", "tolerance 0.25",
       "'tolerance' is 0.0027621358640099515, the plan says 0.25"},
      {"client", "\"name\":\"y\"", "\"name\":\"z\"", "'z' is called 'y' in the circuit"},
      {"circuit", "input \"x", "input \"w", "'x \"1\"' is called 'w \"1\"' in the circuit"},
  };
  for (const Forgery& forgery : forgeries) {
    const std::string bytes = forged_model(
        [&](auto& texts) { replace(texts[forgery.section], forgery.from, forgery.to); });
    const Error error = error_of([&] { model_from_bytes(bytes, kNoLimit, "net.tml"); });
    EXPECT_EQ(error.code(), ErrorCode::file_corrupt) << error.what();
    EXPECT_NE(error.message().find(forgery.part), std::string::npos) << error.what();
    EXPECT_EQ(error.where(), "file 'net.tml'");
  }
}

// Half of an odd lookup's table is taken from the other half: it must be a step.
TEST(ModelCodec, OddLookupsOfOtherTablesAreRefused) {
  const auto model = [](bool is_step) {
    return forged_model([&](auto& texts) {
      replace(texts["plan"], "h 0 guard", "h 0 odd guard");
      if (!is_step) replace(texts["circuit"], "0, 1, 1", "1, 0, 1");
    });
  };
  EXPECT_TRUE(model_from_bytes(model(true)).model.plan.lookups.at(2).is_odd);
  EXPECT_EQ(code_of([&] { model_from_bytes(model(false)); }), ErrorCode::file_corrupt);
}

TEST_F(Codecs, SecretKeysComeBackTheSameInAPrivateFile) {
  const SecretKeySet keys = sample_secret_keys();
  save_secret_keys(keys, file("client.key"), false);
  const SecretKeySet back = load_secret_keys(file("client.key"));
  EXPECT_EQ(back.provenance, keys.provenance);
  EXPECT_EQ(back.key_sets, keys.key_sets);
  EXPECT_EQ(back.keys.parameters, keys.keys.parameters);
  EXPECT_TRUE(std::ranges::equal(back.keys.small(), keys.keys.small()));
  EXPECT_TRUE(std::ranges::equal(std::span<const std::uint64_t>(back.keys.big),
                                 std::span<const std::uint64_t>(keys.keys.big)));
  struct stat status;
  ASSERT_EQ(stat(file("client.key").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(code_of([&] { save_secret_keys(keys, file("client.key"), false); }),
            ErrorCode::file_unwritable);
}

// As expect_fragile, on one file that is changed in place.
TEST_F(Codecs, ACutOrFlippedSecretKeyIsAnError) {
  const std::string path = file("client.key");
  save_secret_keys(sample_secret_keys(), path, false);
  const std::string bytes = file_bytes(path);
  {
    std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
    const auto put = [&](std::size_t at, char value) {
      stream.seekp(static_cast<std::streamoff>(at)).put(value).flush();
    };
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      put(at, static_cast<char>(bytes[at] ^ 0x10));
      EXPECT_TRUE(kFileErrors.contains(code_of([&] { load_secret_keys(path); }))) << at;
      put(at, bytes[at]);
    }
  }
  EXPECT_NO_THROW(load_secret_keys(path));
  for (std::size_t size = bytes.size(); size-- > 0;) {
    fs::resize_file(path, size);
    EXPECT_EQ(code_of([&] { load_secret_keys(path); }), ErrorCode::file_truncated) << size;
  }
}

TEST_F(Codecs, KeysWithoutBootstrapHaveEmptySections) {
  SecretKeySet keys = sample_secret_keys();
  keys.key_sets = sample_model(false).client.key_sets;
  save_secret_keys(keys, file("client.key"), true);
  EXPECT_EQ(load_secret_keys(file("client.key")).keys.small().size(), 0u);
  EvaluationKeySet evaluation;
  evaluation.provenance = keys.provenance;
  evaluation.keys.emplace_back().parameters = keys.key_sets[0];
  save_evaluation_keys(evaluation, file("eval.key"));
  EXPECT_EQ(load_evaluation_keys(file("eval.key")), evaluation);
}

// The image of a secret key in memory is wiped before it is freed, after writing and after reading.
TEST_F(Codecs, SecretImagesAreWiped) {
  const SecretKeySet keys = sample_secret_keys();
  const ReleasedSecrets released;
  save_secret_keys(keys, file("client.key"), true);
  EXPECT_EQ(released.blocks(), 1u);  // the key, packed
  load_secret_keys(file("client.key"));
  EXPECT_EQ(released.blocks(), 3u);  // again, and unpacked
  EXPECT_EQ(released.not_zero(), 0u);
}

TEST_F(Codecs, EvaluationKeysComeBackTheSame) {
  const EvaluationKeySet keys = sample_evaluation_keys();
  save_evaluation_keys(keys, file("eval.key"));
  EXPECT_EQ(load_evaluation_keys(file("eval.key")), keys);
  const std::string bytes = to_bytes(keys);
  EXPECT_EQ(bytes, file_bytes(file("eval.key")));
  expect_fragile(bytes, [](const std::string& b) { evaluation_keys_from_bytes(b); });
}

void expect_corrupt(const EvaluationKeySet& keys, const std::string& part) {
  try {
    evaluation_keys_from_bytes(to_bytes(keys));
    FAIL() << "no error: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::file_corrupt) << error.what();
    EXPECT_NE(error.message().find(part), std::string::npos) << error.what();
  }
}

TEST_F(Codecs, KeysOfCircuitBootstrappingComeBackTheSame) {
  const EvaluationKeySet keys = sample_evaluation_keys(true);
  save_evaluation_keys(keys, file("eval.key"));
  EXPECT_EQ(load_evaluation_keys(file("eval.key")), keys);
  const std::string bytes = to_bytes(keys);
  const std::size_t trace = keys.keys[0].trace_bodies.size();  // the end of the file
  EXPECT_EQ(code_of([&] { evaluation_keys_from_bytes(bytes.substr(0, bytes.size() - trace)); }),
            ErrorCode::file_truncated);
  std::string changed = bytes;
  changed.back() ^= 1;
  EXPECT_EQ(code_of([&] { evaluation_keys_from_bytes(changed); }), ErrorCode::file_corrupt);
}

EvaluationKeySet two_sets() {
  EvaluationKeySet keys = sample_evaluation_keys();
  keys.keys.push_back(sample_keys_of(sample_second_parameters(), 0x78));
  return keys;
}

TEST_F(Codecs, KeysOfTwoSetsComeBackTheSame) {
  const EvaluationKeySet keys = two_sets();
  save_evaluation_keys(keys, file("eval.key"));
  EXPECT_EQ(load_evaluation_keys(file("eval.key")), keys);
  EXPECT_EQ(describe_file(file("eval.key")).key_sets, parameters_of(keys.keys));
  const std::string bytes = to_bytes(keys);
  for (std::size_t size : {bytes.size() - 1, bytes.size() / 2, std::size_t{100}}) {
    EXPECT_EQ(code_of([&] { evaluation_keys_from_bytes(bytes.substr(0, size)); }),
              ErrorCode::file_truncated);
  }
  SecretKeySet secret = sample_secret_keys();
  secret.key_sets = parameters_of(keys.keys);
  save_secret_keys(secret, file("client.key"), true);
  EXPECT_EQ(load_secret_keys(file("client.key")).key_sets, secret.key_sets);
}

TEST(EvaluationKeyCodec, KeySetsThatDoNotGoTogetherAreRefused) {
  EvaluationKeySet keys = two_sets();
  keys.keys[1].seed = keys.keys[0].seed;
  expect_corrupt(keys, "two key sets have one seed");
  keys = two_sets();
  keys.keys[1] = keys.keys[0];
  expect_corrupt(keys, "comes twice");
  keys = two_sets();
  keys.keys[1].parameters.glwe_variance = {0x1p-90};
  expect_corrupt(keys, "different big keys");
  keys.keys.clear();
  expect_corrupt(keys, "no key set");
}

TEST(KeySets, AMissingOneIsNamed) {
  const TfheParameters first = sample_parameters(), second = sample_second_parameters();
  EXPECT_NO_THROW(check_key_sets({first}, {second, first}, "the evaluation keys"));
  EXPECT_NO_THROW(check_key_sets({first, second}, {second, first}, "the evaluation keys"));
  try {
    check_key_sets({first, second}, {first}, "the evaluation keys");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::wrong_key);
    EXPECT_NE(error.message().find("have no key set n64-k1-s12-g1-b1x25"), std::string::npos);
    EXPECT_NE(error.message().find("they have n64-k1-s10-g1-b2x20"), std::string::npos);
  }
}

TEST(EvaluationKeyCodec, TraceBodiesOfAnotherSizeAreRefused) {
  for (const bool with_trace : {false, true}) {
    EvaluationKeySet keys = sample_evaluation_keys(with_trace);
    keys.keys[0].trace_bodies.push_back(0);
    expect_corrupt(keys, "trace_bodies");
  }
  EvaluationKeySet keys = sample_evaluation_keys(true);
  keys.keys[0].trace_bodies.clear();
  expect_corrupt(keys, "trace_bodies");
}

// A trace without circuit bootstrapping has no key of the secret's square.
TEST(EvaluationKeyCodec, KeysOfATraceAloneComeBackTheSame) {
  EvaluationKeySet keys = sample_evaluation_keys(true);
  TfheParameters& p = keys.keys[0].parameters;
  p.circuit_bootstrap = {};
  expect_corrupt(keys, "trace_bodies");
  keys.keys[0].trace_bodies.resize(6 * p.trace.level_count * 64 * p.body_bytes());
  EXPECT_EQ(evaluation_keys_from_bytes(to_bytes(keys)), keys);
  p.accumulator_bits = 32;
  p.bootstrap = {15, 2};
  EXPECT_EQ(evaluation_keys_from_bytes(to_bytes(keys)), keys);
  p.glwe_dimension = {2};
  expect_corrupt(keys, "a trace with GLWE dimension 2");
}

TEST(EvaluationKeyCodec, ImpossibleCircuitBootstrappingIsRefused) {
  struct Case {
    const char* part;
    std::function<void(TfheParameters&)> change;
  };
  const Case cases[] = {
      {"'trace' none", [](auto& p) { p.trace = {}; }},
      {"needs a bootstrap", [](auto& p) { p.bootstrap = p.keyswitch = {}; }},
      {"GLWE dimension 2", [](auto& p) { p.glwe_dimension = {2}; }},
      {"accumulators of 32", [](auto& p) { p.accumulator_bits = 32; }},
      {"3 levels of 0",
       [](auto& p) {
         p.circuit_bootstrap = {0, 3};
       }},
      {"1 levels of 32",
       [](auto& p) {
         p.circuit_bootstrap = {32, 1};
       }},
      {"'trace' has 8 levels of 8",
       [](auto& p) {
         p.trace = {8, 8};
       }},
      {"'trace' has 1 levels of 32",
       [](auto& p) {
         p.trace = {32, 1};
       }},
      {"'trace' has 5 levels of 13",
       [](auto& p) {
         p.trace = {13, 5};
       }},
  };
  for (const Case& c : cases) {
    EvaluationKeySet keys = sample_evaluation_keys(true);
    c.change(keys.keys[0].parameters);
    expect_corrupt(keys, c.part);
  }
}

// Files and the engine refuse the same, in the same words.
TEST(EvaluationKeyCodec, GadgetsThatTheEngineRefusesAreRefused) {
  struct Case {
    const char* part;
    Gadget TfheParameters::*field;
    Gadget gadget;
    std::uint32_t accumulator_bits = 64;
  };
  const Case cases[] = {
      {"'bootstrap' has 2 levels of 0 bits", &TfheParameters::bootstrap, {0, 2}},
      {"'bootstrap' has 1 levels of 32 bits", &TfheParameters::bootstrap, {32, 1}},
      {"'bootstrap' has 8 levels of 8 bits", &TfheParameters::bootstrap, {8, 8}},
      {"all together at most 31", &TfheParameters::bootstrap, {16, 2}, 32},
      {"'keyswitch' has 3 levels of 0 bits", &TfheParameters::keyswitch, {0, 3}},
      {"'keyswitch' has 0 levels of 4 bits", &TfheParameters::keyswitch, {4, 0}},
      {"'keyswitch' has 1 levels of 17 bits", &TfheParameters::keyswitch, {17, 1}},
      {"'keyswitch' has 3 levels of 11 bits", &TfheParameters::keyswitch, {11, 3}},
      {"'trace' has 2 levels of 0 bits", &TfheParameters::trace, {0, 2}},
  };
  for (const Case& c : cases) {
    EvaluationKeySet keys = sample_evaluation_keys();
    TfheParameters& p = keys.keys[0].parameters;
    p.*c.field = c.gadget;
    p.accumulator_bits = c.accumulator_bits;
    expect_corrupt(keys, c.part);
    expect_error(ErrorCode::invalid_argument, c.part, [&] { check_parameters(p); });
  }
}

TEST_F(Codecs, ModelsSayWhichInputsAreClear) {
  CompiledModel model = sample_model();
  model.client.inputs[0].is_clear = true;
  const StoredModel stored = model_from_bytes(to_bytes(model));
  EXPECT_TRUE(stored.model.client.inputs[0].is_clear);
  EXPECT_TRUE(client_half_from_bytes(to_bytes(client_half(stored))).spec.inputs[0].is_clear);
  EXPECT_TRUE(server_half_from_bytes(to_bytes(server_half(stored))).spec.inputs[0].is_clear);
  EXPECT_FALSE(model_from_bytes(to_bytes(sample_model())).model.client.inputs[0].is_clear);
}

// The circuit's text does not say it; a plan of when such lookups were bootstrapped loses them.
TEST_F(Codecs, LookupsOfClearValuesAreNoPartOfAPlan) {
  CompiledModel model = sample_model();
  ASSERT_FALSE(model.plan.lookups.empty());
  model.client.inputs[0].is_clear = true;
  const std::string bytes = to_bytes(model);
  const StoredModel stored = model_from_bytes(bytes);
  EXPECT_EQ(stored.hash, hash_of(model));
  const ServerHalf half = server_half_from_bytes(bytes);
  for (const auto& [circuit, plan] : {std::pair(&stored.model.circuit, &stored.model.plan),
                                      std::pair(&half.spec.circuit, &half.spec.plan)}) {
    EXPECT_TRUE(std::get<Input>(circuit->nodes[0].op).is_clear);
    EXPECT_EQ(lookup_count(*circuit), 0);
    EXPECT_TRUE(plan->lookups.empty());
    EXPECT_EQ(plan->lookup_count, 0);
  }
}

TEST_F(Codecs, ReadersTakeNoMoreBytesThanTheyAreTold) {
  const std::string model = to_bytes(sample_model()), keys = to_bytes(sample_evaluation_keys()),
                    inputs = to_bytes(sample_inputs()), outputs = to_bytes(sample_outputs());
  const auto expect_limit = [](const std::string& bytes, const auto& read) {
    EXPECT_NO_THROW(read(bytes, bytes.size()));
    EXPECT_EQ(code_of([&] { read(bytes, bytes.size() - 1); }), ErrorCode::file_too_large);
  };
  expect_limit(model, [](const auto& b, std::uint64_t most) { model_from_bytes(b, most); });
  expect_limit(model, [](const auto& b, std::uint64_t most) { client_half_from_bytes(b, most); });
  expect_limit(model, [](const auto& b, std::uint64_t most) { server_half_from_bytes(b, most); });
  expect_limit(keys, [](const auto& b, std::uint64_t most) {
    evaluation_keys_from_bytes(b, {most, {}});
  });
  expect_limit(inputs,
               [](const auto& b, std::uint64_t most) { encrypted_inputs_from_bytes(b, most); });
  expect_limit(outputs,
               [](const auto& b, std::uint64_t most) { encrypted_outputs_from_bytes(b, most); });
}

TEST_F(Codecs, KeysWithoutTheNeededSetAreRefusedBeforeTheirBodiesAreRead) {
  const EvaluationKeySet keys = sample_evaluation_keys(true);
  const std::string bytes = to_bytes(keys);
  EXPECT_NO_THROW(evaluation_keys_from_bytes(bytes, {.needed = parameters_of(keys.keys)}));
  std::string changed = bytes;
  changed.back() ^= 1;  // reading the bodies would find it
  EXPECT_EQ(code_of([&] {
              evaluation_keys_from_bytes(changed, {.needed = {sample_second_parameters()}});
            }),
            ErrorCode::wrong_key);
}

TEST_F(Codecs, KeysThatOthersMayReadAreRefused) {
  const std::string path = file("client.key");
  save_secret_keys(sample_secret_keys(), path, false);
  for (const auto exposed : {fs::perms::group_read, fs::perms::others_read, fs::perms::group_write,
                             fs::perms::others_exec}) {
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write | exposed);
    EXPECT_EQ(code_of([&] { load_secret_keys(path); }), ErrorCode::key_exposed);
  }
  fs::permissions(path, fs::perms::owner_read);
  EXPECT_NO_THROW(load_secret_keys(path));
}

PassphraseSource says(const char* text) {
  return [text] { return passphrase_of(text); };
}

TEST_F(Codecs, SealedKeysOpenWithTheirPassphraseOnly) {
  const SecretKeySet keys = sample_secret_keys();
  const std::string path = file("client.key");
  save_secret_keys(keys, path, false, as_bytes("open sesame"));
  const SecretKeySet back = load_secret_keys(path, says("open sesame"));
  EXPECT_EQ(back.provenance, keys.provenance);
  EXPECT_TRUE(std::ranges::equal(std::span<const std::uint64_t>(back.keys.big),
                                 std::span<const std::uint64_t>(keys.keys.big)));
  EXPECT_EQ(code_of([&] { load_secret_keys(path, says("open")); }), ErrorCode::wrong_passphrase);
  EXPECT_EQ(code_of([&] { load_secret_keys(path); }), ErrorCode::wrong_passphrase);
  const FileDescription description = describe_file(path);
  EXPECT_EQ(description.properties.at("sealing"), "scrypt-aes256gcm");
  // The bits themselves are not in the file.
  save_secret_keys(keys, file("open.key"), false);
  const std::string open = file_bytes(file("open.key")), sealed = file_bytes(path);
  const std::string bits = open.substr(open.size() - 8);
  EXPECT_EQ(sealed.find(bits), std::string::npos);
  EXPECT_EQ(sealed.find("sesame"), std::string::npos);
  // An open key asks for no passphrase.
  EXPECT_NO_THROW(load_secret_keys(file("open.key"), []() -> Passphrase { throw 1; }));
}

// Whose the key is cannot be changed, nor what scrypt costs beyond its bounds.
TEST_F(Codecs, ForgedSealedKeysAreRefused) {
  const std::string path = file("client.key");
  save_secret_keys(sample_secret_keys(), path, false, as_bytes("open sesame"));
  const auto forge = [&](const std::string& key, const std::string& value) {
    const std::string bytes = file_bytes(path);
    const MemorySource source(bytes, "key");
    const ContainerReader reader(source, {FileKind::secret_key});
    ContainerWriter writer(FileKind::secret_key);
    for (const auto& [name, text] : reader.properties()) writer.set(name, text);
    writer.set(key, value);
    writer.add_text("key_sets", reader.read_text("key_sets", 1 << 20));
    SecretBuffer<std::uint8_t> sealed(reader.raw_size("sealed_big"));
    reader.read("sealed_big", sealed);
    writer.add_secret("sealed_big", std::move(sealed));
    writer.to_file(file("forged.key"));
    return code_of([&] { load_secret_keys(file("forged.key"), says("open sesame")); });
  };
  EXPECT_EQ(forge("name", "nothing that matters"), static_cast<ErrorCode>(0));
  EXPECT_EQ(forge("key_id", std::string(32, '0')), ErrorCode::wrong_passphrase);
  EXPECT_EQ(forge("scrypt_n_log2", "21"), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("scrypt_r", "0"), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("scrypt_p", "1000000"), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("sealing", "rot13"), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("salt", "00"), ErrorCode::file_corrupt);
}

TEST_F(Codecs, AKeyPairIsWrittenWholeOrNotAtAll) {
  const SecretKeySet secret = sample_secret_keys();
  const EvaluationKeySet evaluation = sample_evaluation_keys();
  const auto save = [&](const std::string& secret_name, const std::string& evaluation_name) {
    return code_of([&] {
      save_key_pair(secret, file(secret_name), false, evaluation, file(evaluation_name));
    });
  };
  EXPECT_EQ(save("no/folder.key", "eval.key"), ErrorCode::file_unwritable);
  EXPECT_EQ(save("client.key", "no/folder.key"), ErrorCode::file_unwritable);
  EXPECT_TRUE(fs::is_empty(file("")));
  EXPECT_EQ(save("client.key", "eval.key"), static_cast<ErrorCode>(0));
  EXPECT_EQ(load_secret_keys(file("client.key")).provenance, secret.provenance);
  EXPECT_EQ(load_evaluation_keys(file("eval.key")), evaluation);
  EXPECT_EQ(save("client.key", "other.key"), ErrorCode::file_unwritable);
  EXPECT_FALSE(fs::exists(file("other.key")));
}

TEST_F(Codecs, OneKindIsNotTakenForAnother) {
  save_model(sample_model(), file("m.tml"));
  save_secret_keys(sample_secret_keys(), file("client.key"), true);
  save_evaluation_keys(sample_evaluation_keys(), file("eval.key"));
  save_encrypted_inputs(sample_inputs(), file("x.ct"));
  save_encrypted_outputs(sample_outputs(), file("y.ct"));
  const std::map<std::string, std::function<void(const std::string&)>> readers{
      {"m.tml", [](const std::string& path) { load_model(path); }},
      {"client.key", [](const std::string& path) { load_secret_keys(path); }},
      {"eval.key", [](const std::string& path) { load_evaluation_keys(path); }},
      {"x.ct", [](const std::string& path) { load_encrypted_inputs(path); }},
      {"y.ct", [](const std::string& path) { load_encrypted_outputs(path); }}};
  for (const auto& [reader_name, read] : readers) {
    for (const auto& [name, unused] : readers) {
      const ErrorCode expected =
          name == reader_name ? static_cast<ErrorCode>(0) : ErrorCode::file_foreign;
      EXPECT_EQ(code_of([&] { read(file(name)); }), expected) << name << " read as " << reader_name;
    }
    EXPECT_EQ(code_of([&] { read(file("absent")); }), ErrorCode::file_unreadable);
  }
}

TEST_F(Codecs, FilesDescribeThemselves) {
  save_secret_keys(sample_secret_keys(), file("client.key"), true);
  const FileDescription keys = describe_file(file("client.key"));
  EXPECT_EQ(keys.kind, FileKind::secret_key);
  EXPECT_EQ(keys.properties.at("key_id"), to_hex(sample_provenance().key));
  EXPECT_EQ(keys.properties.at("p_error"), "2.938735877055719e-39");
  EXPECT_EQ(keys.key_sets, std::vector{sample_parameters()});
  EXPECT_EQ(keys.file_bytes, fs::file_size(file("client.key")));
  save_encrypted_inputs(sample_inputs(), file("x.ct"));
  const FileDescription inputs = describe_file(file("x.ct"));
  ASSERT_EQ(inputs.tensors.size(), 2u);
  EXPECT_EQ(inputs.tensors[1].shape, (Shape{2, 2}));
  EXPECT_EQ(inputs.properties.at("content"), "encrypted inputs");
  std::string bytes = file_bytes(file("x.ct"));
  bytes.back() ^= 1;  // the last section, which a description does not need
  std::ofstream(file("x.ct"), std::ios::binary) << bytes;
  EXPECT_EQ(code_of([&] { describe_file(file("x.ct")); }), ErrorCode::file_corrupt);
}

TEST(Provenance, MismatchesNameBothIds) {
  ModelHash a, b;
  b.bytes.fill(0xcd);
  EXPECT_NO_THROW(check_model(a, a, "the ciphertext"));
  try {
    check_model(a, b, "the ciphertext");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::wrong_model);
    EXPECT_NE(error.message().find("cdcdcdcdcdcd"), std::string::npos);
    EXPECT_NE(error.message().find("000000000000"), std::string::npos);
  }
  KeyId key, other;
  other.bytes.fill(0xef);
  EXPECT_NO_THROW(check_key(key, key, "the ciphertext"));
  EXPECT_EQ(code_of([&] { check_key(key, other, "the ciphertext"); }), ErrorCode::wrong_key);
}

}  // namespace
}  // namespace torusml
