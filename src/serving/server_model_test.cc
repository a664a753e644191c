#include "serving/server_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "artifact/codecs.h"
#include "artifact/sample_model.h"
#include "client/model_client.h"
#include "runtime/executors.h"
#include "runtime/memory.h"
#include "runtime/run_state.h"
#include "serving/join_outputs.h"
#include "tfhe/memory_use.h"
#include "torusml/error.h"

namespace torusml {
namespace {

StoredModel make_model() {
  StoredModel stored{runnable_sample_model(), {}, "test"};
  stored.hash.bytes.fill(7);
  return stored;
}

// The same model with a trace, and its results packed.
StoredModel make_packed_model() {
  StoredModel stored = make_model();
  Plan& plan = stored.model.plan;
  plan.key_sets[0].parameters.trace = {7, 7};
  for (auto& [node, output] : plan.outputs) {
    output.packed = true;
    output.wire_bits = 20;
  }
  stored.model.client.key_sets = parameters_of(plan.key_sets);
  return stored;
}

void expect_same_words(const EncryptedOutputs& a, const EncryptedOutputs& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (std::size_t o = 0; o < a.tensors.size(); ++o) {
    const EncryptedOutput &x = a.tensors[o], &y = b.tensors[o];
    ASSERT_EQ(x.packed.has_value(), y.packed.has_value());
    EXPECT_TRUE(std::ranges::equal(x.ciphertexts.words, y.ciphertexts.words));
    if (x.packed) {
      EXPECT_TRUE(std::ranges::equal(x.packed->words, y.packed->words));
    }
  }
}

class ServerModelTest : public testing::Test {
 protected:
  explicit ServerModelTest(StoredModel stored = make_model()) : stored_(std::move(stored)) {}

  static Tensor<std::int64_t> integers(std::int64_t batch) {
    Tensor<std::int64_t> x{{batch, 2}, {}};
    for (std::int64_t i = 0; i < 2 * batch; ++i) x.data.push_back(i % 8 - 3);
    return x;
  }

  EncryptedInputs encrypt(std::int64_t batch) {
    return client_.encrypt(secret_, {integers(batch)});
  }

  std::string refusal(const std::function<void()>& action, ErrorCode code) {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  const StoredModel stored_;
  const ModelClient client_{stored_.model.client, stored_.hash};
  const SecretKeySet secret_ = client_.make_secret_keys();
  const EvaluationKeySet evaluation_ = client_.make_evaluation_keys(secret_, {}, 1);
  ServerModel server_{server_half(stored_)};
};

TEST_F(ServerModelTest, LimitsChangeNoResult) {
  server_.load_keys(evaluation_, {.threads = 1});
  const EncryptedInputs x = encrypt(5);
  const EncryptedOutputs expected = server_.run(x);
  EXPECT_EQ(expected.tensors[0].shape, (Shape{5, 3}));
  const std::uint64_t enough =
      estimate_memory(stored_.model.circuit, stored_.model.plan, {5, 1, 1}).total();
  for (const Limits& limits : {Limits{1, 0}, Limits{2, 0}, Limits{1, enough}}) {
    const EncryptedOutputs y = server_.run(x, {}, limits);
    expect_same_words(y, expected);
  }
}

TEST_F(ServerModelTest, WhatExceedsTheLimitIsRefused) {
  const TfheParameters& parameters = stored_.model.plan.key_sets[0].parameters;
  const std::uint64_t keys = seeded_key_bytes(parameters) + prepared_key_bytes(parameters);
  const auto code = ErrorCode::memory_limit_exceeded;
  refusal([&] { server_.load_keys(evaluation_, {0, keys - 1}); }, code);
  EXPECT_FALSE(server_.has_keys());
  server_.load_keys(evaluation_, {0, keys});
  // Beside the earlier keys there is no room; they stay.
  refusal([&] { server_.load_keys(evaluation_, {0, keys}); }, code);
  EXPECT_TRUE(server_.has_keys());
  const std::string text = refusal([&] { server_.run(encrypt(5), {}, {1, 1000}); }, code);
  EXPECT_NE(text.find("the limit is 1.00 kB (layer 'relu1')"), std::string::npos) << text;
}

// Keys of more key sets serve too, and only those of the model are prepared.
TEST_F(ServerModelTest, KeysMustHaveTheModelsKeySets) {
  ClientSpec spec = stored_.model.client;
  spec.key_sets[0].small_dimension = {12};
  const ModelClient other(spec, stored_.hash);
  const SecretKeySet secret = other.make_secret_keys();
  const std::string text =
      refusal([&] { server_.load_keys(other.make_evaluation_keys(secret)); }, ErrorCode::wrong_key);
  EXPECT_NE(text.find("have no key set n256-k1-s10"), std::string::npos) << text;
  spec.key_sets.push_back(stored_.model.client.key_sets[0]);
  const ModelClient both(spec, stored_.hash);
  const SecretKeySet shared = both.make_secret_keys();
  server_.load_keys(evaluation_);
  const std::size_t bytes = server_.key_bytes();
  server_.load_keys(both.make_evaluation_keys(shared));
  EXPECT_EQ(server_.key_bytes(), bytes);
  const EncryptedInputs x = client_.encrypt(shared, {{{1, 2}, {-3, 4}}});
  EXPECT_EQ(client_.decrypt(shared, server_.run(x))[0].data.size(), 3u);
}

TEST_F(ServerModelTest, MappedKeysChangeNoResult) {
  namespace fs = std::filesystem;
  const fs::path folder =
      fs::temp_directory_path() / ("torusml_server_keys_" + std::to_string(getpid()));
  server_.load_keys(evaluation_);
  EXPECT_FALSE(server_.keys_are_mapped());
  const EncryptedInputs x = encrypt(3);
  const EncryptedOutputs expected = server_.run(x);
  for (int start = 0; start < 2; ++start) {
    ServerModel server{server_half(stored_)};
    server.load_keys(evaluation_, {.threads = 1}, folder.string());
    EXPECT_TRUE(server.keys_are_mapped());
    EXPECT_EQ(server.key_warning(), "");
    EXPECT_EQ(server.key_bytes(), server_.key_bytes());
    const EncryptedOutputs y = server.run(x);
    expect_same_words(y, expected);
  }
  fs::remove_all(folder);
  server_.load_keys(evaluation_, {}, (folder / "below").string());
  EXPECT_FALSE(server_.keys_are_mapped());
  EXPECT_NE(server_.key_warning(), "");
  expect_same_words(server_.run(x), expected);
  server_.load_keys(evaluation_);
  EXPECT_EQ(server_.key_warning(), "");
}

TEST_F(ServerModelTest, EachKeySetHasItsFile) {
  namespace fs = std::filesystem;
  StoredModel stored = stored_;
  TfheParameters second = stored.model.client.key_sets[0];
  second.small_dimension = {12};
  stored.model.plan.key_sets.push_back(make_key_set(second));
  stored.model.client.key_sets.push_back(second);
  const ModelClient client(stored.model.client, stored.hash);
  const EvaluationKeySet keys = client.make_evaluation_keys(client.make_secret_keys());
  const fs::path folder =
      fs::temp_directory_path() / ("torusml_two_key_sets_" + std::to_string(getpid()));
  ServerModel server{server_half(stored)};
  server.load_keys(keys, {}, folder.string());
  EXPECT_TRUE(server.keys_are_mapped());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 2);
  fs::remove_all(folder);
}

TEST_F(ServerModelTest, RequestsTogetherGiveTheResultsOfEach) {
  server_.load_keys(evaluation_);
  const ServerHalf half = server_half(stored_);
  const ServerKeys keys = prepare_keys(evaluation_, needed_key_sets(half), {});
  const std::vector<EncryptedInputs> requests = {encrypt(3), encrypt(1), encrypt(4)};
  std::size_t lookups = 0;
  const std::vector<EncryptedOutputs> together =
      run_model(half, keys, {&requests[0], &requests[1], &requests[2]},
                [&](std::size_t done, std::size_t) { lookups = done; });
  ASSERT_EQ(together.size(), requests.size());
  EXPECT_EQ(lookups, 8u * 3);
  for (std::size_t r = 0; r < requests.size(); ++r) {
    const EncryptedOutputs alone = server_.run(requests[r]);
    EXPECT_EQ(together[r].provenance, alone.provenance);
    EXPECT_EQ(together[r].tensors[0].shape, alone.tensors[0].shape);
    expect_same_words(together[r], alone);
  }
}

TEST_F(ServerModelTest, SamplesOfARequestRunAloneAndJoinAgain) {
  server_.load_keys(evaluation_);
  const EncryptedInputs x = encrypt(7);
  const EncryptedOutputs expected = server_.run(x);
  const EncryptedOutputs first = server_.run_samples(x, {0, 3}),
                         second = server_.run_samples(x, {3, 1}),
                         third = server_.run_samples(x, {4, 3});
  EXPECT_EQ(second.tensors[0].shape, (Shape{1, 3}));
  const EncryptedOutputs joined = join_outputs({&first, &second, &third});
  EXPECT_EQ(joined.provenance, expected.provenance);
  EXPECT_EQ(joined.tensors[0].shape, expected.tensors[0].shape);
  EXPECT_TRUE(std::ranges::equal(joined.tensors[0].ciphertexts.words,
                                 expected.tensors[0].ciphertexts.words));
}

TEST_F(ServerModelTest, SamplesThatARequestHasNotAreRefused) {
  const EncryptedInputs x = encrypt(4);
  const auto code = ErrorCode::wrong_shape;
  refusal([&] { server_.run_samples(x, {0, 1}); }, ErrorCode::wrong_key);
  server_.load_keys(evaluation_);
  const std::string text = refusal([&] { server_.run_samples(x, {3, 2}); }, code);
  EXPECT_NE(text.find("2 samples from sample 3 on are asked for, the encrypted input has 4"),
            std::string::npos)
      << text;
  refusal([&] { server_.run_samples(x, {1, 0}); }, code);
  refusal([&] { server_.run_samples(x, {5, 1}); }, code);
  refusal([&] { server_.run_samples(x, {1, ~std::size_t{0}}); }, code);
  EncryptedInputs other = x;
  other.provenance.key.bytes.fill(1);
  refusal([&] { server_.run_samples(other, {0, 1}); }, ErrorCode::wrong_key);
}

TEST_F(ServerModelTest, WhatProgressThrowsEndsTheRun) {
  server_.load_keys(evaluation_);
  const EncryptedInputs x = encrypt(200);
  for (const int threads : {1, 2}) {
    std::size_t calls = 0;
    refusal(
        [&] {
          server_.run(x,
                      [&](std::size_t done, std::size_t total) {
                        ++calls;
                        EXPECT_LT(done, total);
                        throw Error(ErrorCode::cancelled, "enough");
                      },
                      {.threads = threads});
        },
        ErrorCode::cancelled);
    EXPECT_GE(calls, 1u);
    EXPECT_LE(calls, 2u);  // of lookups that were under way
  }
  EXPECT_EQ(server_.run(encrypt(2)).tensors[0].shape, (Shape{2, 3}));
}

TEST_F(ServerModelTest, AStoreReadsEachFileOnceAndMakesRoom) {
  namespace fs = std::filesystem;
  const fs::path folder =
      fs::temp_directory_path() / ("torusml_key_store_" + std::to_string(getpid()));
  fs::create_directory(folder);
  const std::string first = (folder / "first.key"), second = (folder / "second.key");
  save_evaluation_keys(evaluation_, first);
  save_evaluation_keys(client_.make_evaluation_keys(client_.make_secret_keys(), {}, 1), second);
  const std::vector<TfheParameters> needed = needed_key_sets(server_half(stored_));
  const std::size_t one = prepare_keys(evaluation_, needed, {}).bytes();
  PreparedKeyStore store(one, "");
  ServerKeys keys = store.get("first", first, needed, {});
  fs::rename(first, folder / "gone.key");
  EXPECT_EQ(store.get("first", first, needed, {}).sets[0], keys.sets[0]);
  // Keys in use stay though the budget is for one.
  store.get("second", second, needed, {});
  EXPECT_EQ(store.bytes(), 2 * one);
  EXPECT_EQ(store.get("first", first, needed, {}).sets[0], keys.sets[0]);
  EXPECT_EQ(store.bytes(), one);
  keys = {};
  store.get("second", second, needed, {});
  EXPECT_EQ(store.bytes(), one);
  refusal([&] { store.get("first", first, needed, {}); }, ErrorCode::file_unreadable);
  store.forget("second");
  EXPECT_EQ(store.bytes(), 0u);
  fs::remove_all(folder);
}

TEST_F(ServerModelTest, WrongUseIsRefused) {
  const EncryptedInputs x = encrypt(2);
  refusal([&] { server_.run(x); }, ErrorCode::wrong_key);
  refusal([&] { server_.load_keys(evaluation_, {.threads = -1}); }, ErrorCode::invalid_argument);
  server_.load_keys(evaluation_);
  refusal([&] { server_.run(x, {}, {.threads = -1}); }, ErrorCode::invalid_argument);
  EncryptedInputs empty = x;
  empty.tensors[0].shape[0] = 0;
  empty.tensors[0].ciphertexts.bodies.clear();
  refusal([&] { server_.run(empty, {}, {0, 1 << 30}); }, ErrorCode::wrong_shape);
  EncryptedInputs none = x;
  none.tensors.clear();
  refusal([&] { server_.run(none); }, ErrorCode::wrong_shape);
}

class PackedResultsTest : public ServerModelTest {
 protected:
  PackedResultsTest() : ServerModelTest(make_packed_model()) { server_.load_keys(evaluation_); }
};

// 300 results of the sample model's 256 a ciphertext.
TEST_F(PackedResultsTest, AreWhatTheCircuitGives) {
  for (const std::int64_t batch : {1, 5, 100}) {
    const EncryptedOutputs y = server_.run(encrypt(batch));
    const EncryptedOutput& tensor = y.tensors[0];
    ASSERT_TRUE(tensor.packed);
    EXPECT_EQ(tensor.shape, (Shape{batch, 3}));
    EXPECT_EQ(tensor.ciphertexts.count, 0u);
    EXPECT_EQ(tensor.packed->ciphertexts(), batch == 100 ? 2u : 1u);
    const EncryptedOutputs sent = encrypted_outputs_from_bytes(to_bytes(y));
    EXPECT_EQ(client_.decrypt(secret_, sent), run_clear(stored_.model.circuit, {integers(batch)}));
  }
}

TEST_F(PackedResultsTest, RequestsShareNoCiphertext) {
  const ServerHalf half = server_half(stored_);
  const ServerKeys keys = prepare_keys(evaluation_, needed_key_sets(half), {});
  const std::vector<EncryptedInputs> requests = {encrypt(3), encrypt(1)};
  const std::vector<EncryptedOutputs> together =
      run_model(half, keys, {&requests[0], &requests[1]});
  for (std::size_t r = 0; r < requests.size(); ++r) {
    const PackedResults& packed = *together[r].tensors[0].packed;
    EXPECT_EQ(packed.count, r == 0 ? 9u : 3u);
    EXPECT_EQ(packed.words.size(), 256 + packed.count);
    expect_same_words(together[r], server_.run(requests[r]));
  }
}

// So that they can be joined.
TEST_F(PackedResultsTest, PartsOfARequestAreNotPacked) {
  const EncryptedInputs x = encrypt(5);
  const EncryptedOutputs whole = server_.run(x), first = server_.run_samples(x, {0, 2}),
                         rest = server_.run_samples(x, {2, 3});
  EXPECT_TRUE(whole.tensors[0].packed);
  const EncryptedOutputs joined = join_outputs({&first, &rest});
  EXPECT_FALSE(joined.tensors[0].packed);
  EXPECT_EQ(client_.decrypt(secret_, joined), client_.decrypt(secret_, whole));
  const std::size_t unused = 64 - static_cast<std::size_t>(joined.tensors[0].wire_bits);
  for (const Torus word : joined.tensors[0].ciphertexts.words)
    ASSERT_EQ(word & ((Torus{1} << unused) - 1), 0u) << "rounded to what travels";
}

TEST_F(PackedResultsTest, LimitsChangeNoResult) {
  const EncryptedInputs x = encrypt(20);
  const EncryptedOutputs expected = server_.run(x, {}, {.threads = 1});
  expect_same_words(server_.run(x, {}, {.threads = 2}), expected);
}

TEST_F(PackedResultsTest, KeysWithoutATraceAreRefused) {
  const StoredModel other = make_model();
  const ModelClient client(other.model.client, stored_.hash);
  const SecretKeySet secret = client.make_secret_keys();
  const std::string text = refusal([&] { server_.load_keys(client.make_evaluation_keys(secret)); },
                                   ErrorCode::wrong_key);
  EXPECT_NE(text.find("-r7x7"), std::string::npos) << text;
}

// The client sends integers, and the results are those of encrypted inputs.
TEST_F(ServerModelTest, ClearInputsGiveTheSameResults) {
  StoredModel stored = stored_;
  stored.model.client.inputs[0].is_clear = true;
  mark_clear(stored.model.circuit, {true});
  const ModelClient client(stored.model.client, stored.hash);
  ServerModel server(server_half(stored));
  server.load_keys(evaluation_);
  server_.load_keys(evaluation_);
  const Tensor<std::int64_t> x{{2, 2}, {-3, 0, 4, 1}};
  const EncryptedInputs clear = client.encrypt(secret_, {x}),
                        encrypted = client_.encrypt(secret_, {x});
  EXPECT_EQ(clear.tensors[0].clear, x.data);
  EXPECT_TRUE(clear.tensors[0].ciphertexts.bodies.empty());
  EXPECT_EQ(client.decrypt(secret_, server.run(clear)),
            client_.decrypt(secret_, server_.run(encrypted)));
  const std::vector<EncryptedOutputs> both =
      run_model(server.model(), prepare_keys(evaluation_, server.needed_key_sets(), {}, "", 0),
                {&clear, &clear});
  EXPECT_EQ(client.decrypt(secret_, both[1]), client.decrypt(secret_, server.run(clear)));

  const std::string text = refusal([&] { server.run(encrypted); }, ErrorCode::invalid_argument);
  EXPECT_NE(text.find("was given encrypted, the model takes it in the clear"), std::string::npos);
  refusal([&] { server_.run(clear); }, ErrorCode::invalid_argument);
  EncryptedInputs wide = clear;
  wide.tensors[0].clear->back() = 1000;
  EXPECT_NE(refusal([&] { server.run(wide); }, ErrorCode::invalid_argument)
                .find("element 1 of sample 1 of clear input 'x \"1\"' is 1000"),
            std::string::npos);
  wide.tensors[0].clear->pop_back();
  refusal([&] { server.run(wide); }, ErrorCode::wrong_shape);
}

// Runs that are stopped once in each place, and go on in another process.
class CheckpointTest : public ServerModelTest {
 protected:
  explicit CheckpointTest(StoredModel stored = make_model()) : ServerModelTest(std::move(stored)) {}

  void SetUp() override {
    server_.load_keys(evaluation_);
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Stops a run when so many lookups are done; false if it ended before.
  bool run_until(std::size_t lookups, const EncryptedInputs& x, const Limits& limits = {}) {
    struct Stop {};
    try {
      server_.run(
          x,
          [&](std::size_t done, std::size_t) {
            if (done >= lookups) throw Stop{};
          },
          limits, checkpoint_);
    } catch (const Stop&) {
      return false;
    }
    return true;
  }

  void expect_runs_go_on() {
    const EncryptedInputs x = encrypt(5);
    const std::uint64_t one_at_once =
        estimate_memory(stored_.model.circuit, stored_.model.plan, {5, 1, 1}).total();
    for (const Limits& limits : {Limits{1, 0}, Limits{1, one_at_once}}) {
      const EncryptedOutputs expected = server_.run(x, {}, limits);
      for (std::size_t lookups = 1; lookups <= 15; ++lookups) {
        ASSERT_FALSE(run_until(lookups, x, limits));
        ASSERT_TRUE(std::filesystem::exists(checkpoint_.file));
        std::size_t first = 0, last = 0;
        const EncryptedOutputs y = server_.run(
            x,
            [&](std::size_t done, std::size_t) {
              if (first == 0) first = done;
              last = done;
            },
            {}, checkpoint_);
        expect_same_words(y, expected);
        EXPECT_EQ(last, 15u);
        const bool had_a_part = limits.memory_limit_bytes != 0 && lookups > 3;
        EXPECT_GE(first, had_a_part ? 3u : 1u) << "it begins anew";
        EXPECT_FALSE(std::filesystem::exists(checkpoint_.file)) << "a run that ended removes it";
      }
    }
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("torusml_checkpoints_" + std::to_string(getpid()));
  const Checkpoint checkpoint_{.file = folder_ / "x.ckpt", .seconds = 0};
};

TEST_F(CheckpointTest, RunsGoOnToTheSameBits) { expect_runs_go_on(); }

class PackedCheckpointTest : public CheckpointTest {
 protected:
  PackedCheckpointTest() : CheckpointTest(make_packed_model()) {}
};

TEST_F(PackedCheckpointTest, RunsGoOnToTheSameBits) { expect_runs_go_on(); }

TEST_F(CheckpointTest, OfAnotherRunIsRefused) {
  const EncryptedInputs x = encrypt(2);
  run_until(1, x);
  EncryptedInputs other = encrypt(2);
  std::string text =
      refusal([&] { server_.run(other, {}, {}, checkpoint_); }, ErrorCode::invalid_argument);
  EXPECT_NE(text.find("other inputs"), std::string::npos) << text;

  StoredModel model = make_model();
  model.hash.bytes.fill(8);
  ServerModel other_model(server_half(model));
  other_model.load_keys(evaluation_);
  other = x;
  other.provenance.model = model.hash;
  refusal([&] { other_model.run(other, {}, {}, checkpoint_); }, ErrorCode::wrong_model);

  const SecretKeySet secret = client_.make_secret_keys();
  server_.load_keys(client_.make_evaluation_keys(secret, {}, 1));
  other.provenance = secret.provenance;
  refusal([&] { server_.run(other, {}, {}, checkpoint_); }, ErrorCode::wrong_key);
  EXPECT_TRUE(std::filesystem::exists(checkpoint_.file));
}

TEST_F(CheckpointTest, ThatIsCutOrChangedIsRefused) {
  const EncryptedInputs x = encrypt(1);
  run_until(1, x);
  std::string bytes;
  {
    const FileSource source(checkpoint_.file);
    bytes.resize(source.size());
    source.read(0, {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  }
  const auto code_with = [&](const std::string& content) {
    OutputFile file(checkpoint_.file, {});
    file.write(std::string_view(content));
    file.commit();
    try {
      server_.run(x, {}, {}, checkpoint_);
    } catch (const Error& error) {
      return error.code();
    }
    return static_cast<ErrorCode>(0);
  };
  EXPECT_EQ(code_with(bytes.substr(0, bytes.size() - 1)), ErrorCode::file_truncated);
  EXPECT_EQ(code_with("what is this, a checkpoint?"), ErrorCode::file_foreign);
  std::string changed = bytes;
  changed[bytes.size() - 9] ^= 1;
  EXPECT_EQ(code_with(changed), ErrorCode::file_corrupt);
  EXPECT_EQ(code_with(bytes), static_cast<ErrorCode>(0));
}

// A state that is whole but of another circuit.
TEST_F(CheckpointTest, MustFitTheCircuit) {
  const Circuit& circuit = stored_.model.circuit;
  const LweDimension dimension = stored_.model.plan.big_dimension();
  RunState state{{0, 1, 1}, {}, {}};
  state.values.emplace(0, LweBatch(dimension, 2));
  state.outputs.emplace_back(dimension, 3);
  check_state(state, circuit, dimension, 1, "x.ckpt");
  const auto refused = [&](const std::function<void(RunState&)>& change) {
    RunState other = state;
    change(other);
    refusal([&] { check_state(other, circuit, dimension, 1, "x.ckpt"); }, ErrorCode::file_corrupt);
  };
  refused([](RunState& s) { s.position.next_node = 99; });
  refused([](RunState& s) { s.position.next_node = 2; });
  refused([](RunState& s) { s.position.samples = 2; });
  refused([](RunState& s) { s.position.samples = 0; });
  refused([](RunState& s) { s.position.first_sample = 1; });
  refused([](RunState& s) { s.outputs.clear(); });
  refused([&](RunState& s) { s.outputs[0] = LweBatch(dimension, 2); });
  refused([&](RunState& s) { s.values[0] = LweBatch(dimension, 3); });
}

}  // namespace
}  // namespace torusml
