// The file of evaluation keys that a server gets: on disk, or in memory.
//
//   EvaluationFile file = EvaluationFile::of(keys);              // in memory
//   EvaluationFile file = EvaluationFile::open("client.key.eval");
//   server.put_key(file.id(), file.source(), 0, ...);
//
// Thread rule: const use is concurrent. Cost: one pass over the bytes for the id.
#pragma once

#include <memory>
#include <string>

#include "artifact/codecs.h"
#include "artifact/files.h"

namespace torusml {

class EvaluationFile {
 public:
  static EvaluationFile of(const EvaluationKeySet& keys);
  // Errors: those of files; wrong_key unless the file is of these secret keys and has their key
  // sets.
  static EvaluationFile open(const std::string& path, const SecretKeySet& secret);

  const std::string& id() const { return id_; }  // SHA-256, hexadecimal
  const ByteSource& source() const { return *source_; }

 private:
  EvaluationFile(std::unique_ptr<const std::string> bytes, std::unique_ptr<ByteSource> source);

  std::unique_ptr<const std::string> bytes_;  // nullptr: on disk
  std::unique_ptr<ByteSource> source_;
  std::string id_;
};

}  // namespace torusml
