// Files of this format version that were written once are read for ever: every section bit for bit,
// and what they compute.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "artifact/codecs.h"
#include "artifact/container.h"
#include "torusml/error.h"
#include "torusml/model.h"

namespace torusml {
namespace {

const std::string kFolder = TORUSML_SOURCE_DIR "/tests/golden/v5/";

nlohmann::json expected() {
  std::ifstream file(kFolder + "expected.json");
  return nlohmann::json::parse(file);
}

std::string content_of(const std::string& name) {
  const FileSource file(kFolder + name);
  std::string bytes(file.size(), '\0');
  file.read(0, {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

// A copy that nobody else may read, as a checkout does not leave secret keys.
std::string private_copy(const std::string& name) {
  const std::string path = testing::TempDir() + "golden_" + name;
  std::filesystem::copy_file(kFolder + name, path,
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::permissions(
      path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  return path;
}

std::vector<std::uint8_t> section(const ContainerReader& reader, const SectionInfo& info) {
  std::vector<std::uint8_t> bytes(info.raw_size);
  reader.read(info.name, bytes);
  return bytes;
}

// Two files have the same kind, properties and sections; producer and compression may differ.
void expect_same_content(std::string_view golden, std::string_view written,
                         const std::string& name) {
  const MemorySource golden_source(golden, name), written_source(written, "written " + name);
  const ContainerReader a(golden_source, {}), b(written_source, {});
  EXPECT_EQ(a.kind(), b.kind()) << name;
  EXPECT_EQ(a.properties(), b.properties()) << name;
  ASSERT_EQ(a.sections().size(), b.sections().size()) << name;
  for (std::size_t s = 0; s < a.sections().size(); ++s) {
    EXPECT_EQ(a.sections()[s].name, b.sections()[s].name) << name;
    EXPECT_EQ(section(a, a.sections()[s]), section(b, b.sections()[s]))
        << name << ", " << a.sections()[s].name;
  }
}

TEST(GoldenFiles, AreReadAndWrittenBitForBit) {
  const auto check = [](const char* name, const std::function<std::string()>& written) {
    expect_same_content(content_of(name), written(), name);
  };
  check("model.tml", [] { return to_bytes(load_model(kFolder + "model.tml").model); });
  check("client.tmc", [] { return to_bytes(load_client_half(kFolder + "client.tmc")); });
  check("server.tms", [] { return to_bytes(load_server_half(kFolder + "server.tms")); });
  check("evaluation.key",
        [] { return to_bytes(load_evaluation_keys(kFolder + "evaluation.key")); });
  check("evaluation_wide.key",
        [] { return to_bytes(load_evaluation_keys(kFolder + "evaluation_wide.key")); });
  check("inputs.ct", [] { return to_bytes(load_encrypted_inputs(kFolder + "inputs.ct")); });
  check("outputs.ct", [] { return to_bytes(load_encrypted_outputs(kFolder + "outputs.ct")); });
  check("secret.key", [] {
    const SecretKeySet keys = load_secret_keys(private_copy("secret.key"));
    const std::string path = testing::TempDir() + "golden_again.key";
    save_secret_keys(keys, path, true);
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  });
}

TEST(GoldenFiles, BelongTogether) {
  const nlohmann::json facts = expected();
  EXPECT_EQ(to_hex(load_model(kFolder + "model.tml").hash), facts["model_hash"]);
  EXPECT_EQ(to_hex(hash_of(load_model(kFolder + "model.tml").model)), facts["model_hash"]);
  EXPECT_EQ(to_hex(load_client_half(kFolder + "client.tmc").hash), facts["model_hash"]);
  EXPECT_EQ(to_hex(load_evaluation_keys(kFolder + "evaluation.key").provenance.key),
            facts["key_id"]);
}

// Of the golden results, and of what the golden keys compute here and now.
TEST(GoldenFiles, DecryptToWhatWasWritten) {
  const nlohmann::json facts = expected();
  const auto floats = facts["floats"].get<std::vector<double>>();
  const auto passphrase = facts["passphrase"].get<std::string>();
  for (const bool is_sealed : {false, true}) {
    Client client = Client::load(kFolder + "client.tmc");
    client.load_secret_key(private_copy(is_sealed ? "sealed.key" : "secret.key"),
                           is_sealed ? passphrase : "");
    EXPECT_EQ(client.decrypt(content_of("outputs.ct"))[0].data, floats);
    for (const char* file : {"server.tms", "model.tml"}) {
      Server server = Server::load(kFolder + file);
      server.load_evaluation_keys(content_of("evaluation.key"));
      EXPECT_EQ(client.decrypt(server.run(content_of("inputs.ct")))[0].data, floats) << file;
    }
  }
}

// Bytes 8 .. 11 are the version; the hash behind them covers it, and is not looked at before.
TEST(GoldenFiles, OtherVersionsAreRefused) {
  for (const int difference : {-1, 1, 100}) {
    std::string bytes = content_of("client.tmc");
    bytes[8] = static_cast<char>(kFormatVersion + difference);
    try {
      client_half_from_bytes(bytes);
      ADD_FAILURE() << difference;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::file_version);
      EXPECT_NE(std::string(error.what()).find(difference > 0 ? "newer" : "anew"),
                std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace torusml
