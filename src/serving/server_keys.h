// Evaluation keys, ready to compute with. They belong to a client, not to a model: models whose key
// sets agree share them.
//
//   ServerKeys keys = prepare_keys(load_evaluation_keys("eval.key"), needed_key_sets(model), {});
//
//   PreparedKeyStore store(4'000'000'000, "/var/lib/torusml/prepared");   // a folder of folders
//   ServerKeys keys = store.get(id, "eval.key", needed_key_sets(model), {});   // once from the
//   file
//
// Cost: expanding and transforming the keys (under a second at 4 bits), or mapping their file.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "artifact/keys_and_ciphertexts.h"
#include "tfhe/bootstrap.h"
#include "torusml/limits.h"

namespace torusml {

struct ServerKeys {
  KeyId key;
  std::vector<std::shared_ptr<const EvaluationKeys>> sets;  // by key set of the model
  bool are_mapped = false;                                  // all of them
  std::string warning;                                      // the first of a key set

  std::size_t bytes() const;
};

// held: bytes of keys that are in memory already. prepared_keys: the folder of load_prepared_keys;
// empty: none. Errors: wrong_key when a needed key set is missing; memory_limit_exceeded,
// invalid_argument (limits).
ServerKeys prepare_keys(const EvaluationKeySet& keys, const std::vector<TfheParameters>& needed,
                        const Limits& limits, const std::string& prepared_keys = "",
                        std::size_t held = 0);

// Keys of many clients. Those in use stay; others, the least recently used first, make room when
// all together exceed the budget. Thread rule: concurrent; files are read one at a time.
class PreparedKeyStore {
 public:
  // prepared_keys: a folder that has one of load_prepared_keys for each id; empty: none.
  PreparedKeyStore(std::uint64_t budget_bytes, std::string prepared_keys)
      : budget_bytes_(budget_bytes), prepared_keys_(std::move(prepared_keys)) {}

  // id: of the file at this path, whatever its path is next time. Errors as for prepare_keys and
  // load_evaluation_keys.
  ServerKeys get(const std::string& id, const std::string& path,
                 const std::vector<TfheParameters>& needed, const Limits& limits);
  void forget(const std::string& id);
  std::uint64_t bytes() const;

 private:
  struct Entry {
    std::string id;
    KeyId key;
    std::shared_ptr<const EvaluationKeys> keys;
    bool is_mapped = false;
  };
  bool find(const std::string& id, const std::vector<TfheParameters>& needed, ServerKeys& found);
  std::uint64_t bytes_locked() const;
  void make_room();

  const std::uint64_t budget_bytes_;
  const std::string prepared_keys_;
  std::mutex load_mutex_;     // held while a file is read
  mutable std::mutex mutex_;  // of what follows; taken after the other
  std::list<Entry> entries_;  // by key set of a file, the last used first
};

}  // namespace torusml
