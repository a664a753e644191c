#include "remote/remote_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "artifact/hash.h"
#include "base/testing/errors.h"
#include "base/testing/temporary_folder.h"
#include "parameters/noise.h"
#include "remote/testing/scripted_server.h"
#include "torusml/error.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

// Two numbers in, the same two out: a model without lookups, whose keys are small.
ClientHalf echo_half() {
  ClientHalf half;
  ClientSpec& spec = half.spec;
  spec.model_name = "echo";
  spec.options.security_bits = 128;
  spec.options.p_error = std::exp2(-40);
  spec.key_sets = {{.glwe_dimension = {1}, .polynomial_size = {1024}}};
  spec.key_sets[0].glwe_variance = minimal_variance(1024, 128);
  spec.inputs = {{.name = "x",
                  .shape = {2},
                  .quantizer = {{.n_bits = 4, .is_signed = true}, {{0.5}, {0}, 8}},
                  .interval = {-8, 7},
                  .torus_scale = 1.0 / 32}};
  spec.outputs = {{.name = "y",
                   .shape = {2},
                   .scale = {0.5},
                   .zero_point = {0},
                   .interval = {-8, 7},
                   .torus_scale = 1.0 / 32}};
  half.hash.bytes.fill(7);
  return half;
}

std::string echo(std::string_view encrypted) {
  const EncryptedInputs inputs = encrypted_inputs_from_bytes(encrypted);
  EncryptedOutputs outputs{inputs.provenance, {}};
  for (const EncryptedInput& tensor : inputs.tensors)
    outputs.tensors.push_back({"y", tensor.shape, 64, expand(tensor.ciphertexts)});
  return to_bytes(outputs);
}

// What docs/server.md describes, for one model and one tenant, with faults on demand.
class FakeServer {
 public:
  FakeServer() : server_([this](Conversation& c) { handle(c); }) {}

  std::string url() const { return server_.url(); }
  void set(const std::function<void()>& change) {
    const std::lock_guard lock(mutex_);
    change();
  }

  std::string half = to_bytes(echo_half());
  std::map<std::string, std::string> keys;     // what was received
  std::map<std::string, std::string> results;  // of jobs
  std::map<std::string, std::string> jobs;     // by idempotency key
  std::string job_state = "done", job_error = "null";
  std::size_t cut_upload_after = SIZE_MAX;  // bytes, once
  int lose_answers = 0;                     // of infer
  int polls_until_done = 0;
  int submissions = 0, inferences = 0, put_requests = 0, deleted_jobs = 0;

 private:
  void handle(Conversation& c) {
    const std::lock_guard lock(mutex_);
    const std::string target = c.target();
    if (target == "/v2/models/echo/client") return c.answer(200, half);
    if (target == "/v2/models/echo/infer") return infer(c);
    if (target.starts_with("/v2/keys/")) return key(c, target.substr(9));
    if (target.starts_with("/v2/jobs/")) return job(c, target.substr(9));
    not_found(c);
  }

  static void not_found(Conversation& c) {
    c.answer(404, R"({"code": "TML-E034 not-found", "message": "nothing there"})");
  }

  void key(Conversation& c, const std::string& id) {
    if (c.method() == "HEAD") {
      if (!keys.contains(id)) return c.answer(404);
      return c.answer(200, "",
                      "Upload-Offset: " + std::to_string(keys[id].size()) +
                          "\r\nUpload-Length: " + std::to_string(total) + "\r\n");
    }
    if (c.method() == "DELETE") return c.answer(keys.erase(id) != 0 ? 204 : 404);
    ++put_requests;
    std::string& stored = keys[id];
    const std::string range = c.header("Content-Range");
    std::size_t first = 0;
    total = std::stoul(c.header("Content-Length"));
    if (!range.empty()) {
      first = std::stoul(range.substr(6));
      total = std::stoul(range.substr(range.find('/') + 1));
    }
    if (first != stored.size()) {
      c.read_body();
      return c.answer(409, "{}", "Upload-Offset: " + std::to_string(stored.size()) + "\r\n");
    }
    stored += c.read_body(std::exchange(cut_upload_after, SIZE_MAX));
    if (stored.size() != first + std::stoul(c.header("Content-Length"))) return c.close();
    if (stored.size() < total)
      return c.answer(202, "{}", "Upload-Offset: " + std::to_string(stored.size()) + "\r\n");
    EXPECT_EQ(to_hex(sha256(as_bytes(stored))), id);
    c.answer(201, "{}");
  }

  void infer(Conversation& c) {
    const std::size_t header = std::stoul(c.header("Inference-Header-Content-Length"));
    const std::string body = c.read_body();
    const nlohmann::json request = nlohmann::json::parse(body.substr(0, header));
    const std::string key = request["parameters"]["key"];
    if (!keys.contains(key) || keys[key].size() != total) return not_found(c);
    const std::string results_now = echo(std::string_view(body).substr(header));
    if (c.header("Prefer") != "respond-async") {
      ++inferences;
      return send_results(c, results_now);
    }
    const std::string name = c.header("Idempotency-Key");
    if (!jobs.contains(name)) {
      ++submissions;
      jobs[name] = "job-" + std::to_string(submissions);
      results[jobs[name]] = results_now;
    }
    if (lose_answers-- > 0) return c.close();
    c.answer(202, "{}", "Location: /v2/jobs/" + jobs[name] + "\r\n");
  }

  void job(Conversation& c, std::string id) {
    const bool wants_result = id.ends_with("/result");
    if (wants_result) id.resize(id.size() - 7);
    if (!results.contains(id)) return not_found(c);
    if (c.method() == "DELETE") {
      ++deleted_jobs;
      results.erase(id);
      return c.answer(204);
    }
    if (wants_result) return send_results(c, results[id]);
    const bool is_running = polls_until_done-- > 0;
    c.answer(200, R"({"id": ")" + id + R"(", "state": ")" + (is_running ? "running" : job_state) +
                      R"(", "done": )" + (is_running ? "3" : "8") + R"(, "total": 8, "error": )" +
                      job_error + "}");
  }

  static void send_results(Conversation& c, const std::string& results_now) {
    const std::string header =
        R"({"outputs": [{"name": "encrypted_outputs", "parameters": {"binary_data_size": )" +
        std::to_string(results_now.size()) + "}}]}";
    c.answer(200, header + results_now,
             "Inference-Header-Content-Length: " + std::to_string(header.size()) + "\r\n");
  }

  std::mutex mutex_;
  std::size_t total = 0;
  ScriptedServer server_;
};

RemoteSettings quick() {
  RemoteSettings settings;
  settings.model = "echo";
  settings.connect_timeout_s = 2;
  settings.idle_timeout_s = 2;
  settings.patience_s = 5;
  return settings;
}

const IntegerTensors kX{{{3, 2}, {-8, -3, 0, 1, 6, 7}}};

TEST(RemoteModel, WhatIsSentComesBack) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  EXPECT_EQ(error_of([&] { model.infer(kX); }).code(), ErrorCode::wrong_key);
  model.generate_keys({}, 0);
  EXPECT_EQ(model.infer(kX), kX);
  EXPECT_EQ(server.put_requests, 1);
  const std::uint64_t key_bytes = model.transfer().key_bytes;
  EXPECT_GT(key_bytes, 0u);
  EXPECT_EQ(model.infer(kX), kX);
  EXPECT_EQ(model.predict(kX), kX);
  EXPECT_EQ(model.result(model.submit(kX)), kX);
  EXPECT_EQ(model.transfer().key_bytes, key_bytes);
  EXPECT_EQ(server.inferences, 2);
  EXPECT_EQ(server.submissions, 2);
  EXPECT_EQ(server.deleted_jobs, 2);
  EXPECT_TRUE(server.results.empty());
}

TEST(RemoteModel, LargeBatchesTravelInParts) {
  FakeServer server;
  RemoteSettings settings = quick();
  settings.max_request_bytes = (64 << 10) + 2 * 16;  // two samples
  RemoteModel model(server.url(), settings);
  model.generate_keys({}, 0);
  EXPECT_EQ(model.samples_per_request(), 2);
  IntegerTensors x{{{13, 2}, {}}};
  for (int i = 0; i < 26; ++i) x[0].data.push_back(i % 16 - 8);
  EXPECT_EQ(model.infer(x), x);
  EXPECT_EQ(server.inferences, 7);
  EXPECT_EQ(model.predict(x), x);
  const std::vector<std::string> ids = model.submit(x);
  EXPECT_EQ(ids.size(), 7u);
  const RemoteProgress progress = model.progress(ids);
  EXPECT_EQ(progress.done, 56u);
  EXPECT_EQ(progress.total, 56u);
  EXPECT_TRUE(progress.finished);
  EXPECT_EQ(model.result(ids), x);
  EXPECT_EQ(error_of([&] { model.result(ids); }).code(), ErrorCode::not_found);
  EXPECT_EQ(error_of([&] { model.infer({{{0, 2}, {}}}); }).code(), ErrorCode::wrong_shape);
}

TEST(RemoteModel, AnUploadContinuesWhereItBroke) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  model.generate_keys({}, 0);
  server.set([&] { server.cut_upload_after = 100; });
  std::size_t sent = 0, total = 0;
  model.upload_keys([&](std::size_t done, std::size_t of) {
    EXPECT_GE(done, sent);
    sent = done;
    total = of;
  });
  EXPECT_EQ(server.put_requests, 2);
  EXPECT_EQ(sent, total);
  EXPECT_GT(total, 100u);
  EXPECT_EQ(server.keys.at(model.key_id()).size(), total);
  EXPECT_EQ(model.transfer().repeats, 0u);
}

TEST(RemoteModel, KeysGoInParts) {
  FakeServer server;
  RemoteSettings settings = quick();
  settings.upload_part_bytes = 300;
  RemoteModel model(server.url(), settings);
  model.generate_keys({}, 0);
  model.upload_keys();
  const std::size_t size = server.keys.at(model.key_id()).size();
  EXPECT_EQ(static_cast<std::size_t>(server.put_requests), (size + 299) / 300);
  EXPECT_GT(server.put_requests, 1);
}

TEST(RemoteModel, EvictedKeysAreUploadedAgain) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  model.generate_keys({}, 0);
  EXPECT_EQ(model.infer(kX), kX);
  server.set([&] { server.keys.clear(); });
  EXPECT_EQ(model.infer(kX), kX);
  EXPECT_EQ(server.put_requests, 2);
  server.set([&] { server.keys.clear(); });
  EXPECT_EQ(model.predict(kX), kX);
  EXPECT_TRUE(model.delete_keys());
  EXPECT_FALSE(model.delete_keys());
  EXPECT_EQ(model.infer(kX), kX);
}

TEST(RemoteModel, ALostAnswerMakesNoSecondJob) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  model.generate_keys({}, 0);
  server.set([&] { server.lose_answers = 2; });
  EXPECT_EQ(model.predict(kX), kX);
  EXPECT_EQ(server.submissions, 1);
  EXPECT_EQ(model.transfer().repeats, 2u);
}

TEST(RemoteModel, ProgressIsReportedWhileTheJobRuns) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  model.generate_keys({}, 0);
  server.set([&] { server.polls_until_done = 8; });
  std::vector<std::pair<std::size_t, std::size_t>> reports;
  EXPECT_EQ(model.predict(kX, [&](std::size_t done,
                                  std::size_t total) { reports.emplace_back(done, total); }),
            kX);
  EXPECT_NE(std::ranges::find(reports, std::pair<std::size_t, std::size_t>(3, 8)), reports.end());
}

TEST(RemoteModel, WhatProgressThrowsCancelsTheJob) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  model.generate_keys({}, 0);
  server.set([&] { server.polls_until_done = 1000; });
  const auto stop = [](std::size_t done, std::size_t) {
    if (done == 3) throw std::runtime_error("stop");
  };
  EXPECT_THROW(model.predict(kX, stop), std::runtime_error);
  EXPECT_EQ(server.deleted_jobs, 1);
}

TEST(RemoteModel, WhatAJobFailedWithIsTold) {
  FakeServer server;
  RemoteModel model(server.url(), quick());
  model.generate_keys({}, 0);
  server.set([&] {
    server.job_state = "failed";
    server.job_error = R"({"code": "TML-E030 memory-limit-exceeded", "message": "too much"})";
  });
  const Error known = error_of([&] { model.predict(kX); });
  EXPECT_EQ(known.code(), ErrorCode::memory_limit_exceeded);
  EXPECT_EQ(known.message(), "too much");
  server.set([&] { server.job_error = "null"; });
  EXPECT_EQ(error_of([&] { model.predict(kX); }).code(), ErrorCode::server_refused);
  server.set([&] { server.job_state = "cancelled"; });
  EXPECT_EQ(error_of([&] { model.predict(kX); }).code(), ErrorCode::cancelled);
}

TEST(RemoteModel, KeysOfFilesAreMadeOnceAndFoundAgain) {
  FakeServer server;
  const TemporaryFolder folder;
  const std::string key = folder / "client.key";
  const PassphraseSource passphrase = [] { return passphrase_of("open"); };
  std::string id;
  {
    RemoteModel model(server.url(), quick());
    model.open_keys(key, passphrase, "", {}, 0);
    EXPECT_EQ(model.infer(kX), kX);
    id = model.key_id();
  }
  EXPECT_TRUE(fs::exists(key + ".eval"));
  EXPECT_EQ(fs::status(key).permissions() & fs::perms::mask, fs::perms(0600));
  RemoteModel model(server.url(), quick());
  EXPECT_EQ(error_of([&] {
              model.open_keys(
                  key, [] { return passphrase_of("shut"); }, "", {}, 0);
            }).code(),
            ErrorCode::wrong_passphrase);
  model.open_keys(key, passphrase, "", {}, 0);
  EXPECT_EQ(model.key_id(), id);
  EXPECT_EQ(model.infer(kX), kX);
  EXPECT_EQ(model.transfer().key_bytes, 0u);
  // Evaluation keys are made anew from the secret key; those of another key are refused.
  fs::remove(key + ".eval");
  model.open_keys(key, passphrase, "", {}, 0);
  EXPECT_NE(model.key_id(), id);
  EXPECT_EQ(model.infer(kX), kX);
  model.open_keys(key + "2", {}, "", {}, 0);
  EXPECT_EQ(error_of([&] { model.open_keys(key, passphrase, key + "2.eval", {}, 0); }).code(),
            ErrorCode::wrong_key);
  fs::permissions(key + "2", fs::perms(0644));
  EXPECT_EQ(error_of([&] { model.open_keys(key + "2", {}, "", {}, 0); }).code(),
            ErrorCode::key_exposed);
}

TEST(RemoteModel, AnotherModelThanExpectedIsRefused) {
  FakeServer server;
  RemoteSettings settings = quick();
  settings.model_hash = to_hex(echo_half().hash);
  EXPECT_NO_THROW(RemoteModel(server.url(), settings));
  settings.model_hash[0] = '1';
  EXPECT_EQ(error_of([&] { RemoteModel(server.url(), settings); }).code(), ErrorCode::wrong_model);
  settings.model = "other";
  EXPECT_EQ(error_of([&] { RemoteModel(server.url(), settings); }).code(), ErrorCode::not_found);
  settings.model = "";
  EXPECT_EQ(error_of([&] { RemoteModel(server.url(), settings); }).code(),
            ErrorCode::invalid_argument);
}

TEST(RemoteModel, InputsGoInTheClearOnlyWhereTheClientNamesThem) {
  FakeServer server;
  ClientHalf half = echo_half();
  half.spec.inputs[0].is_clear = true;
  server.set([&] { server.half = to_bytes(half); });
  RemoteSettings settings = quick();
  settings.clear_inputs = {"y"};
  const Error error = error_of([&] { RemoteModel(server.url(), settings); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_NE(error.message().find("takes input 'x' in the clear"), std::string::npos);
  settings.clear_inputs.push_back("x");
  EXPECT_NO_THROW(RemoteModel(server.url(), settings));
}

TEST(RemoteModel, HalvesWithWeakKeysAreRefused) {
  FakeServer server;
  const auto refused = [&](const std::function<void(ClientSpec&)>& change) {
    ClientHalf half = echo_half();
    change(half.spec);
    server.set([&] { server.half = to_bytes(half); });
    return error_of([&] { RemoteModel(server.url(), quick()); }).code();
  };
  EXPECT_EQ(refused([](ClientSpec& s) { s.key_sets[0].glwe_variance.value /= 2; }),
            ErrorCode::no_parameters);
  EXPECT_EQ(refused([](ClientSpec& s) { s.key_sets[0].polynomial_size.value = 512; }),
            ErrorCode::no_parameters);
  EXPECT_EQ(refused([](ClientSpec& s) { s.options.security_bits = 80; }), ErrorCode::no_parameters);
  EXPECT_EQ(refused([](ClientSpec& s) { s.key_sets[0].polynomial_size.value = 256; }),
            ErrorCode::no_parameters);
  server.set([&] { server.half = "not a half"; });
  EXPECT_EQ(error_of([&] { RemoteModel(server.url(), quick()); }).code(), ErrorCode::file_foreign);
}

TEST(RemoteModel, ResultsOfAnotherKeyAreRefused) {
  FakeServer server;
  RemoteModel mine(server.url(), quick()), other(server.url(), quick());
  mine.generate_keys({}, 0);
  other.generate_keys({}, 0);
  EXPECT_EQ(error_of([&] { mine.result(other.submit(kX)); }).code(), ErrorCode::wrong_key);
}

}  // namespace
}  // namespace torusml
