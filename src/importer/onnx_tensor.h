// Tensors out of the file: initializers, constants and attributes, with their data in the model or
// in an external file of the model's folder.
//
//   ExternalFiles files("models/net.onnx");
//   FloatTensor weight = read_tensor(initializer, files);
//
// Thread rule: concurrent. Cost: one copy into float64; an external file is opened for each tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "importer/float_graph.h"
#include "importer/onnx_proto.h"

namespace torusml {

// The bytes of a file. Error file_unreadable.
std::vector<char> read_file(const std::filesystem::path& path, const std::string& name);

// External files may lie only in the folder of the model, or below it, after links are followed.
class ExternalFiles {
 public:
  ExternalFiles() = default;  // refuses everything
  explicit ExternalFiles(const std::filesystem::path& model);

  // `size` bytes at `offset`. Errors: path_outside_model_folder, file_unreadable, file_truncated.
  std::vector<char> read(const std::string& location, std::uint64_t offset, std::uint64_t size,
                         const std::string& tensor) const;

 private:
  std::filesystem::path resolve(const std::string& location, const std::string& tensor) const;

  bool allowed_ = false;
  std::filesystem::path folder_;
};

// Errors: invalid_model (sizes that disagree, negative dimensions), not_supported (data type), and
// those of ExternalFiles::read.
FloatTensor read_tensor(const OnnxTensor& tensor, const ExternalFiles& files);

}  // namespace torusml
