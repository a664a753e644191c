#include "serving/server_keys.h"

#include <algorithm>

#include "artifact/codecs.h"
#include "artifact/prepared_keys_file.h"
#include "base/threads.h"
#include "runtime/memory.h"

namespace torusml {

std::size_t ServerKeys::bytes() const {
  std::size_t bytes = 0;
  for (const auto& set : sets) bytes += set->bytes();
  return bytes;
}

ServerKeys prepare_keys(const EvaluationKeySet& keys, const std::vector<TfheParameters>& needed,
                        const Limits& limits, const std::string& prepared_keys, std::size_t held) {
  check_key_sets(needed, parameters_of(keys.keys), "the evaluation keys");
  check_key_memory(needed, held, limits);
  ServerKeys ready{keys.provenance.key, {}, true, ""};
  with_threads(limits.threads, [&] {
    for (const TfheParameters& p : needed) {
      LoadedKeys set = load_prepared_keys(
          *std::ranges::find(keys.keys, p, &SeededEvaluationKeys::parameters), prepared_keys);
      ready.sets.push_back(std::make_shared<const EvaluationKeys>(std::move(set.keys)));
      ready.are_mapped = ready.are_mapped && set.is_mapped;
      if (ready.warning.empty()) ready.warning = set.warning;
    }
  });
  return ready;
}

// All needed key sets, or false.
bool PreparedKeyStore::find(const std::string& id, const std::vector<TfheParameters>& needed,
                            ServerKeys& found) {
  const std::lock_guard lock(mutex_);
  found = {{}, {}, true, ""};
  for (const TfheParameters& p : needed) {
    const auto entry = std::ranges::find_if(
        entries_, [&](const Entry& e) { return e.id == id && e.keys->parameters() == p; });
    if (entry == entries_.end()) return false;
    found.key = entry->key;
    found.sets.push_back(entry->keys);
    found.are_mapped = found.are_mapped && entry->is_mapped;
    entries_.splice(entries_.begin(), entries_, entry);
  }
  make_room();
  return true;
}

ServerKeys PreparedKeyStore::get(const std::string& id, const std::string& path,
                                 const std::vector<TfheParameters>& needed, const Limits& limits) {
  ServerKeys keys;
  if (find(id, needed, keys)) return keys;
  const std::lock_guard loading(load_mutex_);
  if (find(id, needed, keys)) return keys;  // another thread has just read the file
  keys = prepare_keys(load_evaluation_keys(path, {.needed = needed}), needed, limits,
                      prepared_keys_.empty() ? "" : prepared_keys_ + "/" + id);
  const std::lock_guard lock(mutex_);
  for (const auto& set : keys.sets) {
    std::erase_if(entries_, [&](const Entry& e) {
      return e.id == id && e.keys->parameters() == set->parameters();
    });
    entries_.push_front({id, keys.key, set, keys.are_mapped});
  }
  make_room();
  return keys;
}

void PreparedKeyStore::forget(const std::string& id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.id == id; });
}

std::uint64_t PreparedKeyStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_locked();
}

std::uint64_t PreparedKeyStore::bytes_locked() const {
  std::uint64_t bytes = 0;
  for (const Entry& entry : entries_) bytes += entry.keys->bytes();
  return bytes;
}

void PreparedKeyStore::make_room() {
  std::uint64_t bytes = bytes_locked();
  for (auto entry = entries_.end(); bytes > budget_bytes_ && entry != entries_.begin();) {
    --entry;
    if (entry->keys.use_count() > 1) continue;
    bytes -= entry->keys->bytes();
    entry = entries_.erase(entry);
  }
}

}  // namespace torusml
