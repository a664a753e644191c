#include "importer/onnx.h"

#include <filesystem>

#include "importer/normalize.h"
#include "importer/onnx_graph.h"
#include "importer/onnx_proto.h"

namespace torusml {
namespace {

FloatGraph import_decoded(std::string_view bytes, const std::string& name,
                          const ExternalFiles& files, const CustomOperatorFactory& factory) {
  const OnnxModel model = decode_model(bytes, name);
  return normalize(read_graph(model, files, name, factory != nullptr), name, factory);
}

}  // namespace

FloatGraph import_onnx(const std::string& path, const CustomOperatorFactory& factory) {
  const std::filesystem::path file(path);
  const std::vector<char> bytes = read_file(file, path);
  return import_decoded({bytes.data(), bytes.size()}, path, ExternalFiles(file), factory);
}

FloatGraph import_onnx_bytes(std::string_view bytes, const std::string& name,
                             const CustomOperatorFactory& factory) {
  return import_decoded(bytes, name, ExternalFiles(), factory);
}

}  // namespace torusml
