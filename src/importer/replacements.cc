#include "importer/replacements.h"

#include <map>

namespace torusml {

std::string replacement_for(std::string_view op_type) {
  static const std::string kDecrypted = "take it on the decrypted output";
  static const std::string kUnrolled =
      "write its steps out with MatMul, Add, Sigmoid, Tanh and Mul";
  static const std::string kIndices =
      "encrypted indices are impossible: cut the model there, the client looks them up";
  static const std::map<std::string, std::string, std::less<>> table{
      {"NonMaxSuppression", kDecrypted},
      {"NonZero", kDecrypted},
      {"Unique", kDecrypted},
      {"Hardmax", kDecrypted},
      {"Multinomial", kDecrypted},
      {"LSTM", kUnrolled},
      {"GRU", kUnrolled},
      {"RNN", kUnrolled},
      {"Loop", kUnrolled},
      {"Scan", kUnrolled},
      {"If", "export the branch that is taken"},
      {"GatherElements", kIndices},
      {"GatherND", kIndices},
      {"ScatterElements", kIndices},
      {"ScatterND", kIndices},
      {"OneHot", kIndices},
      {"Einsum", "MatMul, Mul, Transpose and ReduceSum"},
      {"Upsample", "Resize, by an export with opset 11 or later"},
      {"LRN", "a normalization of other kind, BatchNormalization costs nothing"},
      {"LpNormalization", "ReduceL2 and Div"},
      {"LpPool", "AveragePool"},
      {"MaxUnpool", "Resize or ConvTranspose"},
      {"MaxRoiPool", "MaxPool"},
      {"GridSample", "Resize"},
      {"ReduceProd", "Mul of its factors"},
      {"Attention", "an export with opset 18, which writes it out"},
      {"MeanVarianceNormalization", "InstanceNormalization"},
  };
  const auto found = table.find(op_type);
  return found == table.end() ? "" : found->second;
}

}  // namespace torusml
