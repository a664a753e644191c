// make_seeds FOLDER: writes seeds to FOLDER/HARNESS/NAME, where corpora are kept.
#include <filesystem>
#include <fstream>

#include "seeds.h"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  for (const auto& [name, bytes] : torusml::fuzz::seeds()) {
    const std::filesystem::path path = std::filesystem::path(arguments[1]) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
  }
}
