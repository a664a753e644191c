// What the client gives back to the allocator holds no bit of a key, no passphrase and no
// plaintext, whether a call succeeds or fails.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <random>

#include "artifact/sample_model.h"
#include "base/testing/temporary_folder.h"
#include "base/wiped.h"
#include "client/key_generation.h"
#include "client/model_client.h"
#include "freed_memory.h"
#include "random/test_seed.h"
#include "torusml/client.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr const char* kPassphrase = "a passphrase that is long enough";

// Its outputs are its inputs.
ClientHalf echo_half() {
  ClientSpec spec = runnable_sample_model().client;
  const InputSpec& input = spec.inputs[0];
  spec.outputs = {{"y", input.shape, {0.1}, {0}, input.interval, input.torus_scale, input.center}};
  return {spec, {}, "test"};
}

EncryptedOutputs echo(const EncryptedInputs& inputs) {
  EncryptedOutputs outputs{inputs.provenance, {}};
  for (const EncryptedInput& tensor : inputs.tensors)
    outputs.tensors.push_back({"y", tensor.shape, 64, expand(tensor.ciphertexts)});
  return outputs;
}

const PassphraseSource kRight = [] { return passphrase_of(kPassphrase); };
const PassphraseSource kWrong = [] { return passphrase_of("another"); };

// Floats that are told apart from anything else, and the integers that they are quantized to.
struct Plaintext {
  Tensor<double> floats{{32, 2}, {}}, decrypted{{32, 2}, {}};
  Tensor<std::int64_t> integers{{32, 2}, {}};
  std::vector<Torus> phases;

  Plaintext() {
    const ClientHalf half = echo_half();
    const InputSpec& input = half.spec.inputs[0];
    std::mt19937_64 random(3);
    for (int i = 0; i < 64; ++i) {
      const auto integer = static_cast<std::int64_t>(random() % 8) - 3;
      integers.data.push_back(integer);
      floats.data.push_back(0.1 * static_cast<double>(integer) +
                            1e-12 * static_cast<double>(random() % 1000000));
      decrypted.data.push_back(0.1 * static_cast<double>(integer));
      phases.push_back(encode(integer, input.torus_scale, input.center));
    }
  }
  void forbid(FreedMemory& watch) const {
    watch.forbid("floats", bytes_of(floats.data), 32);
    watch.forbid("integers", bytes_of(integers.data), 128);
    watch.forbid("phases", bytes_of(phases), 128);
    watch.forbid("results", bytes_of(decrypted.data), 128);
  }
};

class Wiping : public testing::Test {
 protected:
  Wiping() : half_(echo_half()), client_(half_), keys_(client_.make_secret_keys()) {}

  std::string file(const std::string& name) const { return folder_ / name; }
  // Calls and forgets the result while freed memory is watched for the key and the passphrase;
  // says what was found, and the code of the error.
  template <class Call>
  std::string found_in(const Call& call, ErrorCode expected = ErrorCode{}) {
    FreedMemory watch;
    watch.forbid_key(keys_.keys.big);
    watch.forbid("passphrase", as_bytes(kPassphrase));
    plaintext_.forbid(watch);
    ErrorCode code{};
    try {
      call();
    } catch (const Error& error) {
      code = error.code();
    }
    EXPECT_EQ(code, expected);
    EXPECT_GT(watch.blocks_seen(), 0u);
    return watch.found();
  }

  TemporaryFolder folder_;
  ClientHalf half_;
  ModelClient client_;
  SecretKeySet keys_;
  Plaintext plaintext_;
};

// The hook itself: plain containers are found, wiped ones are not.
TEST_F(Wiping, TheHookSeesWhatIsNotWiped) {
  const auto& big = keys_.keys.big;
  EXPECT_EQ(found_in([&] { std::vector<std::uint64_t>(big.begin(), big.end()); }), "key words");
  EXPECT_EQ(found_in([&] { std::vector<std::uint8_t>(big.begin(), big.end()); }), "key bytes");
  EXPECT_EQ(found_in([&] { std::vector<double>(big.begin(), big.end()); }), "key as doubles");
  EXPECT_EQ(found_in([&] { std::string(kPassphrase) + " and more"; }), "passphrase");
  EXPECT_EQ(found_in([&] { std::vector<double>(plaintext_.floats.data); }), "floats");
  EXPECT_EQ(found_in([&] {
              std::vector<Torus> grown;
              for (const Torus phase : plaintext_.phases) grown.push_back(phase);
              wipe_elements(grown);
            }),
            "phases");
  EXPECT_EQ(found_in([&] {
              void* block = malloc(big.size() * 8);
              memcpy(block, big.data(), big.size() * 8);
              block = realloc(block, 1 << 20);
              wipe(block, 1 << 20);
              free(block);
            }),
            "key words");
  // Only what a block's owner wrote counts: an allocation finds no rest of the one before.
  found_in([&] { std::vector<double>(plaintext_.floats.data); });
  EXPECT_EQ(found_in([&] {
              void* volatile block = malloc(plaintext_.floats.data.size() * sizeof(double));
              free(block);
            }),
            "");
  EXPECT_EQ(found_in([&] { const Wiped copy{plaintext_.floats}; }), "");
  EXPECT_EQ(found_in([&] { passphrase_of(kPassphrase); }), "");
}

// With a known seed, so that the key is known before it is made.
TEST_F(Wiping, MakingKeys) {
  const auto make = [&] {
    auto random = TestSeed::make(5);
    SecretKeySet set{keys_.provenance, half_.spec.key_sets, {}};
    set.keys = SecretKeys::generate(set.key_sets.front(), random);
    return set;
  };
  keys_ = make();
  EXPECT_EQ(found_in([&] { make_evaluation_keys(make(), half_.spec.key_sets); }), "");
}

TEST_F(Wiping, OpenKeysInFiles) {
  EXPECT_EQ(found_in([&] { save_secret_keys(keys_, file("client.key"), false); }), "");
  EXPECT_EQ(found_in([&] { load_secret_keys(file("client.key")); }), "");
  EXPECT_EQ(found_in([&] { save_secret_keys(keys_, file("client.key"), false); },
                     ErrorCode::file_unwritable),
            "");
}

TEST_F(Wiping, SealedKeysInFiles) {
  EXPECT_EQ(
      found_in([&] { save_secret_keys(keys_, file("client.key"), false, as_bytes(kPassphrase)); }),
      "");
  EXPECT_EQ(found_in([&] { load_secret_keys(file("client.key"), kRight); }), "");
}

TEST_F(Wiping, KeysThatCannotBeRead) {
  const std::string open = file("open.key"), sealed = file("sealed.key");
  save_secret_keys(keys_, open, false);
  save_secret_keys(keys_, sealed, false, as_bytes(kPassphrase));
  const auto with_right = [&](const std::string& path) {
    return [path] { load_secret_keys(path, kRight); };
  };
  EXPECT_EQ(found_in([&] { load_secret_keys(sealed, kWrong); }, ErrorCode::wrong_passphrase), "");
  EXPECT_EQ(found_in([&] { load_secret_keys(sealed); }, ErrorCode::wrong_passphrase), "");
  for (const std::string& path : {open, sealed}) {
    const auto size = std::filesystem::file_size(path);
    {  // the last byte is of the key, or of its tag
      std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
      stream.seekg(-1, std::ios::end);
      const int last = stream.get();
      stream.seekp(-1, std::ios::end).put(static_cast<char>(last ^ 1));
    }
    EXPECT_EQ(found_in(with_right(path), ErrorCode::file_corrupt), "") << path;
    std::filesystem::resize_file(path, size - 1);
    EXPECT_EQ(found_in(with_right(path), ErrorCode::file_truncated), "") << path;
  }
  save_secret_keys(keys_, file("exposed.key"), false);
  chmod(file("exposed.key").c_str(), 0644);
  EXPECT_EQ(found_in(with_right(file("exposed.key")), ErrorCode::key_exposed), "");
}

TEST_F(Wiping, EncryptionAndDecryption) {
  EncryptedInputs inputs;
  const std::vector<Tensor<double>> floats{plaintext_.floats};
  EXPECT_EQ(found_in([&] { inputs = client_.encrypt(keys_, client_.quantize(floats).integers); }),
            "");
  const EncryptedOutputs outputs = echo(inputs);
  EXPECT_EQ(found_in([&] {
              const Wiped integers{client_.decrypt(keys_, outputs)};
              const Wiped results{client_.dequantize(integers.value)};
              EXPECT_EQ(integers.value[0], plaintext_.integers);
              EXPECT_EQ(results.value[0], plaintext_.decrypted);
            }),
            "");
}

TEST_F(Wiping, RefusedEncryptionAndDecryption) {
  std::vector<Tensor<std::int64_t>> integers{plaintext_.integers};
  integers[0].data.back() = 5;
  EXPECT_EQ(found_in([&] { client_.encrypt(keys_, integers); }, ErrorCode::invalid_argument), "");
  std::vector<Tensor<double>> floats{plaintext_.floats};
  floats[0].data.back() = INFINITY;
  EXPECT_EQ(found_in([&] { client_.quantize(floats); }, ErrorCode::non_finite_value), "");
  const SecretKeySet others = client_.make_secret_keys();
  const EncryptedOutputs outputs = echo(client_.encrypt(keys_, {plaintext_.integers}));
  EXPECT_EQ(found_in([&] { client_.decrypt(others, outputs); }, ErrorCode::wrong_key), "");
}

// What was right is wiped, too.
TEST_F(Wiping, ResultsOfWhichOneIsRefused) {
  half_.spec.outputs.push_back(half_.spec.outputs[0]);
  half_.spec.outputs[1].name = "z";
  const ModelClient client(half_);
  EncryptedOutputs outputs = echo(client.encrypt(keys_, {plaintext_.integers}));
  outputs.tensors.push_back(outputs.tensors[0]);
  outputs.tensors[1].name = "z";
  std::vector<Tensor<std::int64_t>> integers(2, plaintext_.integers);
  const auto dequantize = [&] { Wiped{client.dequantize(integers)}; };
  const auto decrypt = [&] { Wiped{client.decrypt(keys_, outputs)}; };
  EXPECT_EQ(found_in(decrypt), "");
  EXPECT_EQ(found_in(dequantize), "");
  outputs.tensors[1].shape = integers[1].shape = {64, 1};
  EXPECT_EQ(found_in(decrypt, ErrorCode::wrong_shape), "");
  EXPECT_EQ(found_in(dequantize, ErrorCode::wrong_shape), "");
}

// The public interface, whose integers nobody sees.
TEST_F(Wiping, ThePublicClient) {
  save_client_half(half_, file("net.tmc"));
  save_secret_keys(keys_, file("client.key"), false, as_bytes(kPassphrase));
  const std::vector<Tensor<double>> floats{plaintext_.floats};
  EXPECT_EQ(found_in([&] {
              Client client = Client::load(file("net.tmc"));
              client.load_secret_key(file("client.key"), kPassphrase);
              const std::string sent = client.encrypt(floats);
              const std::string received = to_bytes(echo(encrypted_inputs_from_bytes(sent)));
              const Wiped results{client.decrypt(received)};
              EXPECT_EQ(results.value[0], plaintext_.decrypted);
            }),
            "");
}

}  // namespace
}  // namespace torusml
