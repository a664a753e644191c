// For tests.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace torusml {

// A folder that goes when this does. In memory where there is such a file system: a process that
// dies loses nothing that it gave to the system, and nothing else shows whether bytes are on disk.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const std::filesystem::path memory = "/dev/shm";
    const bool is_there = std::filesystem::is_directory(memory);
    std::string name =
        ((is_there ? memory : std::filesystem::temp_directory_path()) / "torusml_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace torusml
