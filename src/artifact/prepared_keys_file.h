// Prepared evaluation keys in files that are mapped: no preparation, and one physical copy for all
// processes. docs/formats.md has the byte layout, docs/memory.md says what it is good for.
//
//   LoadedKeys loaded = load_prepared_keys(seeded, "/var/cache/net");   // a folder of such files
//   bootstrap_batch(loaded.keys, ...);
//
// Such a file is derived from evaluation keys and never stands for them: it is named after their
// hash, the layout and the instruction set, and whatever is wrong with it, it is made anew.
// Thread rule: const use is concurrent, also of processes on one folder. Cost: two hashes, of the
// keys on the wire and of what is mapped.
#pragma once

#include <string>

#include "artifact/hash.h"
#include "tfhe/bootstrap.h"

namespace torusml {

// The file of one key set, under any name.
class PreparedKeysFile {
 public:
  // Hashes the keys, which must outlive it and have a bootstrapping key. Errors as for
  // EvaluationKeys::prepare.
  explicit PreparedKeysFile(const SeededEvaluationKeys& keys);

  // Of this file in a folder: "<half of the hash>-avx3-1.prepared".
  std::string name() const;

  // Mode 0600; under its name when it is whole and on disk. Error file_unwritable.
  void save(const EvaluationKeys& prepared, const std::string& path) const;

  // Checks every byte that is used. Errors: file_unreadable, file_truncated, file_foreign;
  // file_version: another layout, instruction set or byte order; wrong_key: of other keys;
  // file_corrupt.
  EvaluationKeys map(const std::string& path) const;

 private:
  struct Header;
  Header expected_header() const;  // all but hashes of content
  void check_header(const Header& found, std::size_t file_size, const std::string& where) const;

  const SeededEvaluationKeys& keys_;
  const PartSizes sizes_;
  const Digest id_;
};

struct LoadedKeys {
  EvaluationKeys keys;
  bool is_mapped = false;
  // Why keys are in this process's own memory though a folder was given, or why a file that was
  // there had to be made anew; empty: neither.
  std::string warning;
};

// Maps the keys' file in this folder; if it is not there or not right, prepares the keys, writes it
// and maps it. The folder is made (mode 0700) if its parent is there. Nothing that is wrong with
// the folder is an error: keys are prepared as without it, and the warning says what is wrong. An
// empty name: no folder. Errors: those of EvaluationKeys::prepare.
LoadedKeys load_prepared_keys(const SeededEvaluationKeys& keys, const std::string& folder);

}  // namespace torusml
