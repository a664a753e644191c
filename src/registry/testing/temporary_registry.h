// Keys of any size, a clock to set. Tests only.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "artifact/container.h"
#include "base/testing/temporary_folder.h"
#include "registry/registry.h"

namespace torusml {

struct TestKey {
  std::string bytes, id;
};

// A container of this kind with a section of so many bytes.
inline TestKey make_key(std::uint32_t seed, std::size_t size = 50'000,
                        FileKind kind = FileKind::evaluation_keys) {
  std::vector<std::uint8_t> body(size);
  std::mt19937 random(seed);
  for (std::uint8_t& byte : body) byte = static_cast<std::uint8_t>(random());
  ContainerWriter writer(kind);
  writer.add_view("body", body);
  TestKey key{.bytes = writer.to_bytes()};
  key.id = to_hex(sha256(as_bytes(key.bytes)));
  return key;
}

inline KeyRecord upload(Registry& registry, const std::string& tenant, const TestKey& key,
                        std::size_t from = 0, std::size_t to = std::string::npos) {
  KeyUpload upload = registry.open_upload(tenant, key.id, key.bytes.size(), from);
  std::string_view rest = std::string_view(key.bytes).substr(from, to - from);
  for (; !rest.empty(); rest.remove_prefix(std::min<std::size_t>(rest.size(), 16384)))
    upload.write(as_bytes(rest.substr(0, 16384)));
  return upload.finish();
}

// Seconds since 1970, as a registry sees them.
class TestClock {
 public:
  WallClock clock() const {
    return [now = now_] { return std::chrono::system_clock::time_point(Seconds(*now)); };
  }
  void add(std::int64_t seconds) { *now_ += seconds; }
  std::int64_t now() const { return *now_; }

 private:
  std::shared_ptr<std::atomic<std::int64_t>> now_ =
      std::make_shared<std::atomic<std::int64_t>>(1'800'000'000);
};

// Names of all files below a folder of the registry.
inline std::set<std::string> files_below(const std::string& folder) {
  std::set<std::string> files;
  if (!std::filesystem::exists(folder)) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_directory())
      files.insert(std::filesystem::relative(entry.path(), folder).string());
  }
  return files;
}

}  // namespace torusml
