// The models that a server has, followed while files come, change and go.
//
//   ModelStore store("models", log);
//   store.find("net", "")->half;   // the latest version
//   store.poll();                  // every second or two
//
// The place is one file, or a folder of NAME.tms and NAME.tml (version 1) and of folders NAME with
// VERSION.tms and VERSION.tml. Beside a server's half X.tms lies the client's half X.tmc, if
// clients are to get it here; a whole model X.tml has both. Names and versions are letters, digits,
// '-', '_' and '.', 64 at most, not '.' first. A file that is wrong is reported and what was there
// before stays; write a new file under another name and rename it. Thread rule: concurrent; poll is
// called by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "artifact/codecs.h"
#include "server/log.h"

namespace torusml {

struct ServedModel {
  std::string name, version;
  ServerHalf half;
  std::string client;  // the client's half as a file; empty: none
  std::uint64_t sample_bytes =
      0;  // of one sample's inputs on the wire, without what surrounds them
  std::uint64_t sample_lookups = 0;
};
using ModelPointer = std::shared_ptr<const ServedModel>;

class ModelStore {
 public:
  // Errors: file_unreadable, when the place is not there; all errors of reading when it is one
  // file.
  ModelStore(std::string place, Log& log);

  // version empty: the latest; nullptr: there is none.
  ModelPointer find(const std::string& name, const std::string& version) const;
  std::vector<ModelPointer> all() const;  // by name, the latest version of each last
  // Looks at the files. Never throws.
  void poll() noexcept;

 private:
  using Name = std::pair<std::string, std::string>;  // and version
  // Numbers in their order, then other names.
  struct VersionOrder {
    bool operator()(const std::string& a, const std::string& b) const;
  };
  struct NameOrder {
    bool operator()(const Name& a, const Name& b) const;
  };
  struct Files {
    std::string model, client;  // paths; no client: empty
    std::string state;          // differs when a file was changed
  };
  struct Entry {
    ModelPointer model;
    std::string state;  // of the files when they were read, for better or worse
  };
  // Versions are read, and appear, in their order: whoever finds one finds those before it.
  using Found = std::map<Name, Files, NameOrder>;

  Found list() const;
  void update(const Found& found, bool must_succeed);

  const std::string place_;
  Log& log_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, Entry, VersionOrder>> models_;
};

}  // namespace torusml
