#include "seeds.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "artifact/cost_table_file.h"
#include "artifact/prepared_keys_file.h"
#include "artifact/sample_model.h"
#include "cli/npy.h"
#include "parameters/shipped_cost_table.h"

namespace torusml::fuzz {
namespace {

namespace fs = std::filesystem;

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

std::string file_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// What `write` makes of a path.
template <class Write>
std::string written(const Write& write) {
  const std::string path = (fs::temp_directory_path() / "torusml_seed").string();
  write(path);
  std::string bytes = file_bytes(path);
  fs::remove(path);
  return bytes;
}

EncryptedOutputs seed_outputs(int wire_bits) {
  EncryptedOutputs outputs{sample_provenance(), {{"y", {2, 3}, wire_bits, LweBatch({4}, 6)}}};
  for (std::size_t i = 0; i < 30; ++i)
    outputs.tensors[0].ciphertexts.words[i] = i << (64 - wire_bits);
  return outputs;
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
