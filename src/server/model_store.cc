#include "server/model_store.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "circuit/circuit.h"
#include "torusml/error.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostModelBytes = std::uint64_t{4} << 30;

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 64 && text[0] != '.' &&
         std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

bool is_model(const fs::path& path) {
  return path.extension() == ".tms" || path.extension() == ".tml";
}

// Of a file as it is now; "-" when there is none.
std::string state_of(const std::string& path) {
  struct stat facts {};
  if (path.empty() || stat(path.c_str(), &facts) != 0) return "-";
  return fmt::format("{}:{}:{}.{}", facts.st_ino, facts.st_size, facts.st_mtim.tv_sec,
                     facts.st_mtim.tv_nsec);
}

std::uint64_t bytes_of(const ServerSpec& spec) {
  std::uint64_t bytes = 0;
  for (const TensorName& input : spec.inputs)
    bytes += static_cast<std::uint64_t>(number_of_elements(input.shape)) * sizeof(Torus);
  return bytes;
}

void check_client(const ServerHalf& server, const ClientHalf& client, const std::string& path) {
  if (client.hash == server.hash) return;
  throw Error(ErrorCode::wrong_model,
              fmt::format("it belongs to model {}, the server's half beside it to {}",
                          short_hex(client.hash), short_hex(server.hash)),
              fmt::format("file '{}'", path), "both halves of one export");
}

ModelPointer load(const std::string& name, const std::string& version, const std::string& path,
                  const std::string& client_path) {
  auto model = std::make_shared<ServedModel>();
  model->name = name;
  model->version = version;
  if (fs::path(path).extension() == ".tml") {
    const StoredModel whole = load_model(path, kMostModelBytes);
    model->half = server_half(whole);
    model->client = to_bytes(client_half(whole));
  } else {
    model->half = load_server_half(path, kMostModelBytes);
    if (!client_path.empty()) {
      const ClientHalf client = load_client_half(client_path, kMostModelBytes);
      check_client(model->half, client, client_path);
      model->client = to_bytes(client);
    }
  }
  model->sample_bytes = bytes_of(model->half.spec);
  model->sample_lookups = static_cast<std::uint64_t>(lookup_count(model->half.spec.circuit));
  return model;
}

}  // namespace

bool ModelStore::VersionOrder::operator()(const std::string& a, const std::string& b) const {
  const auto order = [](const std::string& text) {
    const bool is_number = std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
    const std::size_t zeros = is_number ? std::min(text.find_first_not_of('0'), text.size()) : 0;
    return std::tuple(!is_number, is_number ? text.size() - zeros : 0, text.substr(zeros), text);
  };
  return order(a) < order(b);
}

bool ModelStore::NameOrder::operator()(const Name& a, const Name& b) const {
  return a.first != b.first ? a.first < b.first : VersionOrder{}(a.second, b.second);
}

ModelStore::ModelStore(std::string place, Log& log) : place_(std::move(place)), log_(log) {
  if (!fs::exists(place_))
    throw Error(ErrorCode::file_unreadable, "there is no such file or folder",
                fmt::format("--model '{}'", place_));
  update(list(), !fs::is_directory(place_));
}

ModelStore::Found ModelStore::list() const {
  Found found;
  const auto add = [&](const std::string& name, const std::string& version, const fs::path& path) {
    if (!is_model(path) || !is_name(name) || !is_name(version)) return;
    Files files{path.string(), "", ""};
    const fs::path client = fs::path(path).replace_extension(".tmc");
    if (path.extension() == ".tms" && fs::exists(client)) files.client = client.string();
    files.state = state_of(files.model) + " " + state_of(files.client);
    // A whole model goes before halves of the same name.
    Files& place = found[{name, version}];
    if (place.model.empty() || path.extension() == ".tml") place = std::move(files);
  };
  if (!fs::is_directory(place_)) {
    if (fs::exists(place_)) add(fs::path(place_).stem().string(), "1", place_);
    return found;
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(place_)) {
    if (!entry.is_directory()) {
      add(entry.path().stem().string(), "1", entry.path());
      continue;
    }
    for (const fs::directory_entry& version : fs::directory_iterator(entry.path()))
      add(entry.path().filename().string(), version.path().stem().string(), version.path());
  }
  return found;
}

void ModelStore::update(const Found& found, bool must_succeed) {
  if (must_succeed && found.empty()) {
    throw Error(ErrorCode::file_foreign, "a model's name ends in .tms or .tml",
                fmt::format("--model '{}'", place_));
  }
  for (const auto& [name, files] : found) {
    {
      const std::lock_guard lock(mutex_);
      const auto& versions = models_[name.first];
      const auto entry = versions.find(name.second);
      if (entry != versions.end() && entry->second.state == files.state) continue;
    }
    ModelPointer model;
    try {
      model = load(name.first, name.second, files.model, files.client);
      log_.write(
          "info", "model",
          {{"model", name.first}, {"version", name.second}, {"hash", short_hex(model->half.hash)}});
    } catch (const std::exception& error) {
      if (must_succeed) throw;
      log_.write("error", "model",
                 {{"model", name.first}, {"version", name.second}, {"error", error.what()}});
    }
    const std::lock_guard lock(mutex_);
    Entry& entry = models_[name.first][name.second];
    if (model) entry.model = std::move(model);
    entry.state = files.state;
  }
  const std::lock_guard lock(mutex_);
  for (auto& [name, versions] : models_) {
    std::erase_if(versions, [&](const auto& version) {
      const bool is_gone = !found.contains({name, version.first});
      if (is_gone && version.second.model)
        log_.write("info", "model_gone", {{"model", name}, {"version", version.first}});
      return is_gone;
    });
  }
  std::erase_if(models_, [](const auto& model) { return model.second.empty(); });
}

void ModelStore::poll() noexcept {
  try {
    update(list(), false);
  } catch (const std::exception& error) {
    log_.write("error", "models", {{"error", error.what()}});
  }
}

ModelPointer ModelStore::find(const std::string& name, const std::string& version) const {
  const std::lock_guard lock(mutex_);
  const auto versions = models_.find(name);
  if (versions == models_.end()) return nullptr;
  if (version.empty()) {
    for (auto entry = versions->second.rbegin(); entry != versions->second.rend(); ++entry) {
      if (entry->second.model) return entry->second.model;
    }
    return nullptr;
  }
  const auto entry = versions->second.find(version);
  return entry == versions->second.end() ? nullptr : entry->second.model;
}

std::vector<ModelPointer> ModelStore::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelPointer> models;
  for (const auto& [name, versions] : models_) {
    for (const auto& [version, entry] : versions) {
      if (entry.model) models.push_back(entry.model);
    }
  }
  return models;
}

}  // namespace torusml
