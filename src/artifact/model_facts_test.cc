// Headers of models and of their halves that say something else than the sections.
#include "artifact/model_facts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "artifact/codecs.h"
#include "artifact/describe.h"
#include "artifact/sample_model.h"
#include "artifact/testing/codecs.h"

namespace torusml {
namespace {

struct ModelFile {
  FileKind kind;
  std::string bytes;
  void (*read)(const std::string& path);
};

std::vector<ModelFile> model_files() {
  const StoredModel stored{sample_model(), hash_of(sample_model()), "torusml"};
  return {{FileKind::model, to_bytes(stored.model), [](const std::string& p) { load_model(p); }},
          {FileKind::client_half, to_bytes(client_half(stored)),
           [](const std::string& p) { load_client_half(p); }},
          {FileKind::server_half, to_bytes(server_half(stored)),
           [](const std::string& p) { load_server_half(p); }}};
}

// The same file with another value of one property.
ContainerWriter with_property(const ContainerReader& reader, const std::string& key,
                              const std::string& value) {
  ContainerWriter writer(reader.kind());
  for (const auto& [own, text] : reader.properties()) writer.set(own, text);
  writer.set(key, value);
  for (const SectionInfo& section : reader.sections())
    writer.add_text(section.name, reader.read_text(section.name, 1 << 20));
  return writer;
}

TEST_F(Codecs, HeadersOfModelsMustSayWhatTheirSectionsSay) {
  const std::map<std::string, std::string> others{{"name", "other"},
                                                  {"precision", "tolerant"},
                                                  {"profile", "shared_results"},
                                                  {"p_error", "2.938735877055719e-39"},
                                                  {"security_bits", "132"}};
  const std::string path = file("forged");
  for (const ModelFile& model : model_files()) {
    const MemorySource source(model.bytes, "sample");
    const ContainerReader reader(source, {model.kind});
    for (const auto& [key, other] : others) {
      with_property(reader, key, reader.property(key)).to_file(path);
      EXPECT_NO_THROW(model.read(path));
      EXPECT_NO_THROW(describe_file(path));
      with_property(reader, key, other).to_file(path);
      const std::string part = fmt::format("property '{}' is {}, the model's sections say {}", key,
                                           other, reader.property(key));
      expect_error(ErrorCode::file_corrupt, part, [&] { model.read(path); });
      expect_error(ErrorCode::file_corrupt, part, [&] { describe_file(path); });
    }
  }
}

}  // namespace
}  // namespace torusml
