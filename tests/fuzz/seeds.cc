#include "seeds.h"

#include "artifact/checkpoint_file.h"
#include "artifact/cost_table_file.h"
#include "artifact/prepared_keys_file.h"
#include "artifact/sample_model.h"
#include "base/testing/file_bytes.h"
#include "base/testing/temporary_folder.h"
#include "cli/npy.h"
#include "http_harness.h"
#include "parameters/shipped_cost_table.h"

namespace torusml::fuzz {
namespace {

TfheParameters small_parameters() {
  TfheParameters p = sample_parameters();
  p.small_dimension = {2};
  p.bootstrap = {20, 1};
  p.keyswitch = {4, 1};
  return p;
}

SecretKeySet seed_secret_keys() {
  SecretKeySet set = sample_secret_keys();
  set.key_sets = {small_parameters()};
  set.keys.parameters = small_parameters();
  set.keys.big = SecretBuffer<std::uint64_t>(64);
  set.keys.big[3] = 1;
  return set;
}

// What `write` makes of a path.
template <class Write>
std::string written(const Write& write) {
  const TemporaryFolder folder;
  write(folder / "seed");
  return file_bytes(folder / "seed");
}

EncryptedOutputs seed_outputs(int wire_bits) {
  EncryptedOutputs outputs{sample_provenance(), {{"y", {2, 3}, wire_bits, LweBatch({4}, 6)}}};
  for (std::size_t i = 0; i < 30; ++i)
    outputs.tensors[0].ciphertexts.words[i] = i << (64 - wire_bits);
  return outputs;
}

// Before the second of three nodes.
void write_checkpoint(const std::string& path) {
  LweBatch value({64}, 4), output({64}, 6);
  for (std::size_t i = 0; i < value.words.size(); ++i) value.words[i] = i * 0x9e3779b97f4a7c15;
  save_checkpoint({{0, 2, 1}, {{0, &value}}, {output}}, sample_provenance(), Digest{}, path);
}

std::map<std::string, std::string> requests() {
  const StoredModel model = http_model();
  EncryptedInputs inputs{sample_provenance(), {{"x \"1\"", {1, 2}, {{256}, {}, {1, ~Torus{0}}}}}};
  inputs.provenance.model = model.hash;
  const std::string bytes = to_bytes(inputs), key = to_bytes(seed_evaluation_keys());
  const std::string id = to_hex(sha256(as_bytes(key)));
  const auto get = [](const std::string& method, const std::string& target) {
    return method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  };
  return {{"infer", infer_request(infer_json(id, bytes.size()), bytes)},
          {"upload", "PUT /v2/keys/" + id + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
                         std::to_string(key.size()) + "\r\n\r\n" + key},
          {"upload_part", "PUT /v2/keys/" + std::string(64, 'a') +
                              " HTTP/1.1\r\nHost: localhost\r\nContent-Range: bytes "
                              "0-3/1000\r\nContent-Length: 4\r\n\r\nbody"},
          {"head", get("HEAD", "/v2/keys/" + id)},
          {"delete", get("DELETE", "/v2/keys/" + id)},
          {"model", get("GET", "/v2/models/net/versions/1?x=y")},
          {"job", get("GET", "/v2/jobs/0123456789abcdef/result")},
          {"token",
           "GET /v2/models HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer tml_0_0\r\n"
           "Origin: null\r\nTransfer-Encoding: chunked\r\n\r\n"}};
}

// Two ciphertexts.
EncryptedOutputs packed_seed_outputs() {
  EncryptedOutputs outputs{sample_provenance(), {{"y", {2, 3}, 11, {}, PackedResults({4}, 6)}}};
  AlignedBuffer<Torus>& words = outputs.tensors[0].packed->words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = i << 53;
  return outputs;
}

}  // namespace

EvaluationKeySet seed_evaluation_keys() {
  return {sample_provenance(), {sample_keys_of(small_parameters(), 0x77)}};
}

StoredModel http_model() { return model_from_bytes(to_bytes(runnable_sample_model())); }

std::map<std::string, std::string> seeds() {
  std::map<std::string, std::string> all;
  for (const bool with_lookup : {true, false}) {
    const std::string name = with_lookup ? "sample" : "linear";
    const StoredModel stored = model_from_bytes(to_bytes(sample_model(with_lookup)));
    all["container/" + name] = all["model/" + name] = to_bytes(stored.model);
    all["client_half/" + name] = to_bytes(client_half(stored));
    all["server_half/" + name] = to_bytes(server_half(stored));
    all["circuit/" + name] = print(stored.model.circuit);
  }
  all["evaluation_keys/sample"] = to_bytes(seed_evaluation_keys());
  all["encrypted_inputs/sample"] = to_bytes(sample_inputs());
  all["encrypted_outputs/words"] = to_bytes(seed_outputs(64));
  all["encrypted_outputs/short"] = to_bytes(seed_outputs(11));
  all["checkpoint/sample"] = written(write_checkpoint);
  for (const auto& [name, text] : requests()) all["http/" + name] = text;
  all["encrypted_outputs/packed"] = to_bytes(packed_seed_outputs());
  all["secret_key/plain"] =
      written([](const std::string& path) { save_secret_keys(seed_secret_keys(), path, true); });
  all["secret_key/sealed"] = written([](const std::string& path) {
    save_secret_keys(seed_secret_keys(), path, true, passphrase_of(kSeedPassphrase));
  });
  const SeededEvaluationKeys keys = seed_evaluation_keys().keys.front();
  const std::string prepared = written([&](const std::string& path) {
    PreparedKeysFile(keys).save(EvaluationKeys::prepare(keys), path);
  });
  all["prepared_keys/header"] = prepared.substr(0, 312);
  all["prepared_keys/part"] = prepared.substr(0, 312) + prepared.substr(kHugePageBytes, 512);
  all["cost_table/shipped"] = cost_table_text(kShippedCostTable);
  all["npy/doubles"] = written([](const std::string& path) {
    write_npy(path, Tensor<double>{{2, 3}, {1, 2, 3, 4, 5, 6}});
  });
  all["npy/integers"] = written([](const std::string& path) {
    write_npy(path, Tensor<std::int64_t>{{4}, {1, -2, 3, 4}});
  });
  return all;
}

}  // namespace torusml::fuzz
