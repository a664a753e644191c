#include "server/model_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "server/log.h"
#include "server/testing/running_server.h"

namespace torusml {
namespace {

// Whoever finds a version finds all that were there before it.
TEST(ModelStore, VersionsAppearInTheirOrder) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "net");
  for (const char* version : {"9", "10", "b", "2"})
    save_model(shared_model().model, folder / ("net/" + std::string(version) + ".tml"));
  std::vector<std::string> appeared;
  Log log([&](const std::string& line) {
    const auto event = nlohmann::json::parse(line);
    if (event["event"] == "model") appeared.push_back(event["version"]);
  });
  const ModelStore store(folder.path(), log);
  EXPECT_EQ(appeared, (std::vector<std::string>{"2", "9", "10", "b"}));
}

}  // namespace
}  // namespace torusml
