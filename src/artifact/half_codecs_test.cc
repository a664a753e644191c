#include <gtest/gtest.h>

#include <functional>

#include "artifact/codecs.h"
#include "artifact/container.h"
#include "artifact/sample_model.h"
#include "base/testing/errors.h"
#include "circuit/text.h"
#include "torusml/error.h"

namespace torusml {
namespace {

StoredModel stored_model(bool with_lookup = true) {
  StoredModel stored{sample_model(with_lookup), {}, "torusml"};
  stored.hash = hash_of(stored.model);
  return stored;
}

TEST(Halves, ComeBackTheSame) {
  for (const bool with_lookup : {true, false}) {
    const StoredModel model = stored_model(with_lookup);
    const ClientHalf client = client_half_from_bytes(to_bytes(client_half(model)));
    EXPECT_EQ(client.hash, model.hash);
    EXPECT_EQ(to_bytes(client), to_bytes(client_half(model)));
    EXPECT_EQ(client.spec.inputs[0].quantizer, model.model.client.inputs[0].quantizer);
    EXPECT_EQ(client.spec.key_sets, model.model.client.key_sets);

    const ServerHalf server = server_half_from_bytes(to_bytes(server_half(model)));
    EXPECT_EQ(server.hash, model.hash);
    EXPECT_EQ(to_bytes(server), to_bytes(server_half(model)));
    EXPECT_EQ(server.spec.circuit, model.model.circuit);
    EXPECT_EQ(print(server.spec.plan, server.spec.circuit),
              print(model.model.plan, model.model.circuit));
    EXPECT_EQ(server.spec.inputs, (std::vector<TensorName>{{"x \"1\"", {2}}}));
    EXPECT_EQ(server.spec.outputs, (std::vector<TensorName>{{"y", {3}}}));
  }
}

TEST(Halves, AreReadOfWholeModelsToo) {
  const StoredModel model = stored_model();
  const std::string bytes = to_bytes(model.model);
  EXPECT_EQ(to_bytes(client_half_from_bytes(bytes)), to_bytes(client_half(model)));
  EXPECT_EQ(to_bytes(server_half_from_bytes(bytes)), to_bytes(server_half(model)));
}

TEST(Halves, OneIsNotTakenForTheOther) {
  const StoredModel model = stored_model();
  const std::string client = to_bytes(client_half(model)), server = to_bytes(server_half(model));
  EXPECT_EQ(code_of([&] { client_half_from_bytes(server); }), ErrorCode::file_foreign);
  EXPECT_EQ(code_of([&] { server_half_from_bytes(client); }), ErrorCode::file_foreign);
  EXPECT_EQ(code_of([&] { model_from_bytes(client); }), ErrorCode::file_foreign);
  EXPECT_EQ(code_of([&] { model_from_bytes(server); }), ErrorCode::file_foreign);
  try {
    client_half_from_bytes(server);
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("kind 'client's half' or 'model' is expected"),
              std::string::npos)
        << error.what();
  }
}

TEST(Halves, ACutOrAFlippedByteAnywhereIsAnError) {
  const StoredModel model = stored_model();
  const auto expect_fragile = [](const std::string& bytes, const auto& read) {
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      EXPECT_EQ(code_of([&] { read(bytes.substr(0, at)); }), ErrorCode::file_truncated) << at;
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ 0x10);
      EXPECT_NE(code_of([&] { read(changed); }), static_cast<ErrorCode>(0)) << at;
    }
  };
  expect_fragile(to_bytes(client_half(model)), [](const auto& b) { client_half_from_bytes(b); });
  expect_fragile(to_bytes(server_half(model)), [](const auto& b) { server_half_from_bytes(b); });
}

// A server's half whose tensors are not the circuit's, or with one section more.
TEST(Halves, ForgedServersHalvesAreRefused) {
  const std::string bytes = to_bytes(server_half(stored_model()));
  const auto forge = [&](const std::string& from, const std::string& to, bool with_ranges) {
    const MemorySource source(bytes, "server");
    const ContainerReader reader(source, {FileKind::server_half});
    ContainerWriter writer(FileKind::server_half);
    for (const auto& [key, value] : reader.properties()) writer.set(key, value);
    for (const SectionInfo& section : reader.sections()) {
      std::string text = reader.read_text(section.name, 1 << 20);
      if (section.name == "server" && !from.empty()) text.replace(text.find(from), from.size(), to);
      writer.add_text(section.name, text);
    }
    if (with_ranges) writer.add_text("ranges", "{}");
    return code_of([&] { server_half_from_bytes(writer.to_bytes()); });
  };
  EXPECT_EQ(forge("", "", false), static_cast<ErrorCode>(0));
  EXPECT_EQ(forge("", "", true), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("\"shape\":[3]", "\"shape\":[4]", false), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("\"name\":\"y\"", "\"name\":\"z\"", false), ErrorCode::file_corrupt);
  EXPECT_EQ(forge("\"inputs\":[", "\"inputs\":[{\"name\":\"z\",\"shape\":[1]},", false),
            ErrorCode::file_corrupt);
}

TEST(Versions, ANewerOneIsToldToBeNewer) {
  std::string bytes = to_bytes(client_half(stored_model()));
  for (const std::uint32_t version : {kOldestFormatVersion - 1, kFormatVersion + 1}) {
    bytes[8] = static_cast<char>(version);
    try {
      client_half_from_bytes(bytes);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::file_version);
      EXPECT_EQ(error.hint().find("newer TorusML") != std::string::npos, version > kFormatVersion)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace torusml
