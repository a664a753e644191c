#include "lowering/tables.h"

#include <algorithm>
#include <map>

namespace torusml {
namespace {

// Integers evaluated at a time: bounds the memory of wide accumulators of many elements.
constexpr std::int64_t kNumbersAtOnce = std::int64_t{1} << 22;

}  // namespace

Table TableBuilder::build(const ElementwiseTail& tail, const UniformQuantizer& quantizer) const {
  const auto elements = static_cast<std::size_t>(number_of_elements(root_shape_));
  const auto size = static_cast<std::int64_t>(domain_.size());
  const std::int64_t at_once =
      std::max<std::int64_t>(1, kNumbersAtOnce / static_cast<std::int64_t>(elements));
  std::vector<std::vector<std::int64_t>> rows(
      elements, std::vector<std::int64_t>(static_cast<std::size_t>(size)));
  for (std::int64_t first = 0; first < size; first += at_once) {
    const std::int64_t count = std::min(at_once, size - first);
    Tensor<double> integers{root_shape_, {}};
    integers.shape[0] = count;
    for (std::int64_t v = 0; v < count; ++v) {
      integers.data.insert(integers.data.end(), elements,
                           static_cast<double>(domain_.lower + first + v));
    }
    const FloatTensor floats = evaluate_tail(graph_, tail, to_float_(integers));
    const std::vector<std::int64_t> results = quantizer.quantize(floats.values.data);
    for (std::size_t i = 0; i < results.size(); ++i) {
      rows[i % elements][static_cast<std::size_t>(first) + i / elements] = results[i];
    }
  }

  Table table;
  table.domain = domain_;
  table.rows = 0;
  std::map<std::vector<std::int64_t>, std::uint32_t> known;
  for (const std::vector<std::int64_t>& row : rows) {
    const auto [place, is_new] = known.emplace(row, static_cast<std::uint32_t>(table.rows));
    if (is_new) {
      table.entries.insert(table.entries.end(), row.begin(), row.end());
      ++table.rows;
    }
    table.row_of_element.push_back(place->second);
  }
  if (table.rows == 1) table.row_of_element.clear();
  return table;
}

}  // namespace torusml
