// Files of the format versions that are read, as they were when each was made, and what the program
// does with them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zstd.h>

#include <cstring>
#include <fstream>

#include "artifact/hash.h"
#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "client/model_client.h"
#include "golden_model.h"
#include "runtime/executors.h"
#include "serving/server_model.h"
#include "tfhe/testing/on_target.h"

namespace torusml::golden {
namespace {

namespace fs = std::filesystem;

std::string folder(std::uint32_t version) {
  return fmt::format("{}/tests/golden/version_{}/", TORUSML_SOURCE_DIR, version);
}

// The zstd that the golden files were compressed with: another one may give other bytes.
constexpr unsigned kGoldenZstd = 10504;

// Version control keeps no mode 0600, which secret keys must have.
class Private {
 public:
  explicit Private(const std::string& path)
      : path_(fs::temp_directory_path() /
              (fs::path(path).filename().string() + std::to_string(getpid()))) {
    fs::copy_file(path, path_, fs::copy_options::overwrite_existing);
    fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);
  }
  ~Private() { fs::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

std::span<const std::uint64_t> bits(const SecretKeySet& keys) { return keys.keys.big; }

std::vector<std::int64_t> expected_outputs() {
  return run_clear(circuit(), {{{4, 2}, kInputs}}).front().data;
}

// The same file, as if it had been written in that version.
std::string as_version(std::string bytes, std::uint32_t version) {
  constexpr std::size_t kVersionAt = 8, kSizeAt = 12, kHashAt = 16, kHeaderAt = 48;
  std::memcpy(&bytes[kVersionAt], &version, sizeof version);
  std::uint32_t header_size = 0;
  std::memcpy(&header_size, &bytes[kSizeAt], sizeof header_size);
  Sha256 hash;
  hash.update(std::string_view(bytes).substr(0, kHashAt));
  hash.update(std::string_view(bytes).substr(kHeaderAt, header_size));
  const Digest digest = hash.finish();
  std::memcpy(&bytes[kHashAt], digest.data(), digest.size());
  return bytes;
}

// By version.
class Golden : public testing::TestWithParam<std::uint32_t> {
 protected:
  std::string path(const std::string& name) const { return folder(GetParam()) + name; }
  // But for the version that stands in them: what is read is written in the newest one.
  void expect_golden(const std::string& bytes, const std::string& name) const {
    const std::string expected = file_bytes(path(name));
    ASSERT_FALSE(expected.empty()) << name;
    if (ZSTD_versionNumber() != kGoldenZstd) return;
    EXPECT_TRUE(as_version(bytes, GetParam()) == expected) << name;
  }
  SecretKeySet stored_secret() const {
    return load_secret_keys(Private(path("secret.key")).path());
  }
  // Rounding of transforms differs between instruction sets, and with it the lowest bits of
  // results: bit for bit under the one that made the files, `check` under all.
  void expect_evaluation(const ServerHalf& half, const EvaluationKeySet& keys,
                         const EncryptedInputs& inputs, const std::string& name,
                         const std::function<void(const EncryptedOutputs&)>& check) const {
    int targets = 0;
    for (const std::string& name_of_target : target_names()) {
      OnTarget target;
      if (!target.use(name_of_target)) continue;
      SCOPED_TRACE(name_of_target);
      ServerModel server(half);
      server.load_keys(keys);
      const EncryptedOutputs outputs = server.run(inputs);
      check(outputs);
      if (name_of_target == "AVX2") expect_golden(to_bytes(outputs), name);
      ++targets;
    }
    EXPECT_GT(targets, 0);
  }
};

TEST_P(Golden, ModelAndHalves) {
  const StoredModel stored = load_model(path("model.tml"));
  expect_golden(to_bytes(stored.model), "model.tml");
  expect_golden(to_bytes(client_half(stored)), "client.tmc");
  expect_golden(to_bytes(server_half(stored)), "server.tms");
  expect_golden(to_bytes(load_client_half(path("client.tmc"))), "client.tmc");
  expect_golden(to_bytes(load_server_half(path("server.tms"))), "server.tms");
  // What was put in; plans depend on formulas of noise that may be refined, so only what does not.
  EXPECT_EQ(stored.model.circuit, circuit());
  EXPECT_EQ(stored.model.client.key_sets, key_sets());
  EXPECT_EQ(parameters_of(stored.model.plan.key_sets), key_sets());
  EXPECT_EQ(stored.model.client.model_name, "golden");
  EXPECT_EQ(stored.model.client.inputs[0].quantizer, model().client.inputs[0].quantizer);
  EXPECT_EQ(stored.model.client.outputs[0].scale, (std::vector<double>{0.1, 1.0 / 3}));
  EXPECT_EQ(stored.model.client.outputs[0].zero_point,
            (std::vector<double>{GetParam() < 6 ? 0 : 0.25, -1}));  // no fractions before
  EXPECT_EQ(stored.model.ranges[1].declared, (Interval{-24, 66}));
  EXPECT_EQ(load_client_half(path("client.tmc")).hash, stored.hash);
  EXPECT_EQ(load_server_half(path("server.tms")).hash, stored.hash);
  EXPECT_EQ(stored.model.plan.lookups.at(4).wide.index_bits, 7u);
}

TEST_P(Golden, SecretKeys) {
  const SecretKeySet plain = stored_secret();
  const Private sealed_file(path("sealed.key"));
  const SecretKeySet sealed =
      load_secret_keys(sealed_file.path(), [] { return passphrase_of(kPassphrase); });
  SecretGenerator random = TestSeed::make(1);
  const SecretKeys made = SecretKeys::generate(key_sets().front(), random);
  EXPECT_TRUE(std::ranges::equal(bits(plain), std::span<const std::uint64_t>(made.big)));
  EXPECT_TRUE(std::ranges::equal(bits(plain), bits(sealed)));
  EXPECT_EQ(plain.provenance, sealed.provenance);
  EXPECT_EQ(plain.key_sets, key_sets());
  EXPECT_EQ(sealed.key_sets, key_sets());
  const Private copy(path("secret.key"));
  save_secret_keys(plain, copy.path(), true);
  expect_golden(file_bytes(copy.path()), "secret.key");
}

TEST_P(Golden, EvaluationKeys) {
  const EvaluationKeySet keys = load_evaluation_keys(path("evaluation.key"));
  expect_golden(to_bytes(keys), "evaluation.key");
  EXPECT_EQ(parameters_of(keys.keys), key_sets());
  EXPECT_EQ(keys.provenance, stored_secret().provenance);
}

TEST_P(Golden, Ciphertexts) {
  const EncryptedInputs inputs = load_encrypted_inputs(path("inputs.ct"));
  const EncryptedOutputs outputs = load_encrypted_outputs(path("outputs.ct"));
  expect_golden(to_bytes(inputs), "inputs.ct");
  expect_golden(to_bytes(outputs), "outputs.ct");
  const SecretKeySet secret = stored_secret();
  const ModelClient client(load_client_half(path("client.tmc")));
  EXPECT_EQ(client.decrypt(secret, outputs)[0].data, expected_outputs());
  const InputSpec& spec = client.spec().inputs[0];
  std::vector<std::int64_t> decrypted;
  for (const Torus phase : decrypt(secret.keys, expand(inputs.tensors[0].ciphertexts)))
    decrypted.push_back(decode(phase, spec.torus_scale, spec.center, spec.interval));
  EXPECT_EQ(decrypted, kInputs);
}

TEST_P(Golden, Evaluation) {
  const ModelClient client(load_client_half(path("client.tmc")));
  const SecretKeySet secret = stored_secret();
  expect_evaluation(
      load_server_half(path("server.tms")), load_evaluation_keys(path("evaluation.key")),
      load_encrypted_inputs(path("inputs.ct")), "outputs.ct", [&](const EncryptedOutputs& outputs) {
        EXPECT_EQ(client.decrypt(secret, outputs)[0].data, expected_outputs());
      });
}

TEST_P(Golden, InputsInTheClear) {
  if (GetParam() < 6) GTEST_SKIP() << "there were none";
  const StoredModel stored = load_model(path("clear.tml"));
  expect_golden(to_bytes(stored.model), "clear.tml");
  EXPECT_EQ(stored.model.circuit, circuit_with_clear_input());
  const ClientHalf half = client_half_from_bytes(to_bytes(client_half(stored)));
  ServerModel server(server_half_from_bytes(to_bytes(server_half(stored))));
  const std::vector<bool> is_clear{false, true};
  for (std::size_t i = 0; i < is_clear.size(); ++i) {
    EXPECT_EQ(half.spec.inputs[i].is_clear, is_clear[i]);
    EXPECT_EQ(server.model().spec.inputs[i].is_clear, is_clear[i]);
  }
  const EncryptedInputs inputs = load_encrypted_inputs(path("clear_inputs.ct"));
  expect_golden(to_bytes(inputs), "clear_inputs.ct");
  EXPECT_EQ(inputs.tensors[1].clear, kClearInputs);
  const EncryptedOutputs outputs = load_encrypted_outputs(path("clear_outputs.ct"));
  expect_golden(to_bytes(outputs), "clear_outputs.ct");
  const std::vector<std::int64_t> expected =
      run_clear(circuit_with_clear_input(), {{{4, 2}, kInputs}, {{4, 1}, kClearInputs}})[0].data;
  EXPECT_NE(expected, expected_outputs()) << "the second input counts";
  const ModelClient client(half);
  EXPECT_EQ(client.decrypt(stored_secret(), outputs)[0].data, expected);
  server.load_keys(load_evaluation_keys(path("evaluation.key")));
  EXPECT_EQ(client.decrypt(stored_secret(), server.run(inputs))[0].data, expected);
}

// Under a key set whose trace serves nothing but packing.
TEST_P(Golden, PackedResults) {
  if (GetParam() < 6) GTEST_SKIP() << "there were none";
  const StoredModel stored = load_model(path("packed.tml"));
  expect_golden(to_bytes(stored.model), "packed.tml");
  EXPECT_EQ(stored.model.circuit, circuit("packed"));
  EXPECT_TRUE(stored.model.plan.outputs.begin()->second.packed);
  const SecretKeySet secret = load_secret_keys(Private(path("packed_secret.key")).path());
  EXPECT_EQ(secret.key_sets, std::vector<TfheParameters>{set_that_packs()});
  const EvaluationKeySet keys = load_evaluation_keys(path("packed_evaluation.key"));
  expect_golden(to_bytes(keys), "packed_evaluation.key");
  EXPECT_EQ(parameters_of(keys.keys), secret.key_sets);
  const EncryptedInputs inputs = load_encrypted_inputs(path("packed_inputs.ct"));
  expect_golden(to_bytes(inputs), "packed_inputs.ct");
  const EncryptedOutputs outputs = load_encrypted_outputs(path("packed_outputs.ct"));
  expect_golden(to_bytes(outputs), "packed_outputs.ct");
  ASSERT_TRUE(outputs.tensors[0].packed);
  EXPECT_EQ(outputs.tensors[0].packed->ciphertexts(), 3u);
  const std::vector<std::int64_t> expected =
      run_clear(circuit("packed"), {{{67, 2}, many_inputs()}})[0].data;
  const ModelClient client(client_half(stored));
  const auto check = [&](const EncryptedOutputs& results) {
    EXPECT_EQ(client.decrypt(secret, results)[0].data, expected);
  };
  check(outputs);
  expect_evaluation(server_half(stored), keys, inputs, "packed_outputs.ct", check);
}

INSTANTIATE_TEST_SUITE_P(Versions, Golden, testing::Range(kOldestFormatVersion, kFormatVersion + 1),
                         [](const auto& info) { return std::to_string(info.param); });

using Reader = std::function<void(const std::string& path)>;

struct Kind {
  const char* file;
  Reader read;
};

std::vector<Kind> kinds() {
  return {{"model.tml", [](const std::string& path) { load_model(path); }},
          {"client.tmc", [](const std::string& path) { load_client_half(path); }},
          {"server.tms", [](const std::string& path) { load_server_half(path); }},
          {"secret.key", [](const std::string& path) { load_secret_keys(path); }},
          {"sealed.key", [](const std::string& path) { load_secret_keys(path); }},
          {"evaluation.key", [](const std::string& path) { load_evaluation_keys(path); }},
          {"inputs.ct", [](const std::string& path) { load_encrypted_inputs(path); }},
          {"outputs.ct", [](const std::string& path) { load_encrypted_outputs(path); }}};
}

TEST(GoldenKinds, OtherVersionsAreRefused) {
  for (const Kind& kind : kinds()) {
    for (const std::uint32_t version :
         {0u, 1u, kOldestFormatVersion - 1, kFormatVersion + 1, 0xffffffffu}) {
      const Private file(folder(kFormatVersion) + kind.file);
      std::fstream(file.path(), std::ios::binary | std::ios::in | std::ios::out)
          .seekp(8)
          .write(reinterpret_cast<const char*>(&version), sizeof version);
      try {
        kind.read(file.path());
        ADD_FAILURE() << kind.file << " of version " << version << " was read";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::file_version) << error.what();
        EXPECT_THAT(error.what(),
                    ::testing::HasSubstr("format version " + std::to_string(version)));
        EXPECT_THAT(error.what(),
                    ::testing::HasSubstr(version > kFormatVersion ? "a newer TorusML wrote it"
                                                                  : "make the file anew"));
      }
    }
  }
}

// Half of a model is read from the whole one as well, and a sealed key in the place of a plain one.
bool is_taken(const std::string& reader, const std::string& file) {
  const auto is_secret = [](const std::string& name) {
    return name == "secret.key" || name == "sealed.key";
  };
  return reader == file || (is_secret(reader) && is_secret(file)) ||
         (file == "model.tml" && (reader == "client.tmc" || reader == "server.tms"));
}

TEST(GoldenKinds, AreNotTakenForEachOther) {
  for (const Kind& reader : kinds()) {
    for (const Kind& file : kinds()) {
      if (is_taken(reader.file, file.file)) continue;
      const Private copy(folder(kFormatVersion) + file.file);
      EXPECT_EQ(code_of([&] { reader.read(copy.path()); }), ErrorCode::file_foreign)
          << reader.file << " reads " << file.file;
    }
  }
}

}  // namespace
}  // namespace torusml::golden
