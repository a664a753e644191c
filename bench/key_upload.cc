// Uploads of evaluation keys into a registry beside a plain copy of the same bytes.
//
//   key_upload [FOLDER] [MB] [ROUNDS]
//
// On the disk of FOLDER (the current one), in turn: the copy writes pieces of 256 KiB to a new file
// and syncs it; the upload takes the same pieces, hashes them, syncs, checks and records the key.
// Also the first use after a start, which hashes the file. Checked: every key that was uploaded is
// the one that was sent. Prints a JSON line.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "arguments.h"
#include "artifact/container.h"
#include "benchmark/machine.h"
#include "benchmark/spread.h"
#include "registry/registry.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const std::uint8_t>;

constexpr const char* kUsage = "key_upload [FOLDER] [MB] [ROUNDS]";
constexpr std::size_t kPiece = std::size_t{256} << 10;

// MB/s of so many bytes, by round.
struct Rates {
  std::vector<double> wall, cpu;

  void add(std::size_t bytes, const std::function<void()>& action) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    action();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    const double cpu_time = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    wall.push_back(static_cast<double>(bytes) / 1e6 / time.count());
    cpu.push_back(static_cast<double>(bytes) / 1e6 / cpu_time);
  }

  nlohmann::json json() const {
    const Spread spread = spread_of(wall);
    return {{"median", spread.median},
            {"least", spread.least},
            {"most", spread.most},
            {"cpu_median", spread_of(cpu).median}};
  }
};

std::string make_key(std::size_t bytes) {
  std::vector<std::uint64_t> words(bytes / 8);
  std::mt19937_64 random(1);
  std::ranges::generate(words, random);
  ContainerWriter writer(FileKind::evaluation_keys);
  writer.add_view("body", {reinterpret_cast<const std::uint8_t*>(words.data()), 8 * words.size()});
  return writer.to_bytes();
}

void for_pieces(Bytes bytes, const std::function<void(Bytes)>& sink) {
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kPiece)))
    sink(bytes.first(std::min(bytes.size(), kPiece)));
}

void check(bool is_right, const std::string& what) {
  if (is_right) return;
  throw Error(ErrorCode::file_unwritable, what, std::generic_category().message(errno));
}

void copy(Bytes bytes, const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  check(file >= 0, path);
  for_pieces(bytes, [&](Bytes piece) {
    check(write(file, piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()), path);
  });
  check(fsync(file) == 0, path);
  close(file);
}

void measure(const std::string& parent, std::size_t megabytes, int rounds) {
  const std::string key = make_key(megabytes * 1'000'000);
  const Bytes bytes = as_bytes(key);
  const std::string id = to_hex(sha256(bytes));
  std::string folder = parent + "/key_upload_XXXXXX";
  check(mkdtemp(folder.data()) != nullptr, folder);
  Rates copies, uploads, uses, hashes;
  for (int round = 0; round < rounds; ++round) {
    copies.add(key.size(), [&] { copy(bytes, folder + "/copy"); });
    fs::remove(folder + "/copy");
    std::optional<Registry> registry(std::in_place, folder + "/data", RegistryLimits{});
    uploads.add(key.size(), [&] {
      KeyUpload upload = registry->open_upload("bench", id, key.size(), 0);
      for_pieces(bytes, [&](Bytes piece) { upload.write(piece); });
      upload.finish();
    });
    hashes.add(key.size(), [&] { sha256(bytes); });
    registry.emplace(folder + "/data", RegistryLimits{});
    uses.add(key.size(), [&] { registry->use_key("bench", id); });
    registry->delete_key("bench", id);
  }
  fs::remove_all(folder);
  const Machine machine = describe_machine();
  const nlohmann::json line{
      {"benchmark", "key_upload"},
      {"key_bytes", key.size()},
      {"rounds", rounds},
      {"copy_mb_per_s", copies.json()},
      {"upload_mb_per_s", uploads.json()},
      {"upload_share_of_copy", spread_of(uploads.wall).median / spread_of(copies.wall).median},
      {"first_use_mb_per_s", uses.json()},
      {"sha256_mb_per_s", hashes.json()},
      {"cpu", machine.cpu},
      {"version", machine.version},
      {"commit", machine.commit}};
  fmt::print("{}\n", line.dump());
}

}  // namespace
}  // namespace torusml

int main(int count, char** arguments) {
  try {
    const int megabytes = torusml::argument(count, arguments, 2, 128, torusml::kUsage);
    const int rounds = torusml::argument(count, arguments, 3, 5, torusml::kUsage);
    torusml::measure(count > 1 ? arguments[1] : ".", static_cast<std::size_t>(megabytes), rounds);
  } catch (const torusml::Error& error) {
    fmt::print(stderr, "key_upload: {}\n", error.what());
    return 1;
  }
}
