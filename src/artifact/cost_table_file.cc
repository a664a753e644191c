#include "artifact/cost_table_file.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "artifact/files.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLargestFile = 1 << 20;

class CostTableReader {
 public:
  explicit CostTableReader(const std::string& name) : name_(name) {}

  CostTable run(const std::string& text) const {
    const Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!root.is_object()) fail("the text is not a JSON object");
    CostTable table;
    table.keyswitch_ns = time(root, "keyswitch_ns");
    table.linear_ns = time(root, "linear_ns");
    table.narrow_accumulator = time(root, "narrow_accumulator");
    const Json& rows = field(root, "polynomials");
    if (!rows.is_array() || rows.size() != table.polynomials.size())
      fail(fmt::format("'polynomials' is not a list of {} degrees", table.polynomials.size()));
    std::uint32_t size = kLeastPolynomialSize;
    for (std::size_t i = 0; i < rows.size(); ++i, size *= 2) {
      if (!rows[i].is_object() || field(rows[i], "size") != size)
        fail(fmt::format("degree {} is expected in place {} of 'polynomials'", size, i));
      table.polynomials[i] = {time(rows[i], "transform_ns"), time(rows[i], "multiply_ns")};
    }
    return table;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::file_corrupt, what, fmt::format("file '{}'", name_),
                "measure the table again");
  }

  const Json& field(const Json& parent, const char* key) const {
    const auto found = parent.find(key);
    if (found == parent.end()) fail(fmt::format("'{}' is missing", key));
    return *found;
  }

  double time(const Json& parent, const char* key) const {
    const Json& value = field(parent, key);
    const double number = value.is_number() ? value.get<double>() : 0;
    if (!std::isfinite(number) || number <= 0)
      fail(fmt::format("'{}' is not a positive number", key));
    return number;
  }

  const std::string& name_;
};

}  // namespace

std::string cost_table_text(const CostTable& table) {
  Json rows = Json::array();
  std::uint32_t size = kLeastPolynomialSize;
  for (const PolynomialCost& cost : table.polynomials) {
    rows.push_back(
        {{"size", size}, {"transform_ns", cost.transform_ns}, {"multiply_ns", cost.multiply_ns}});
    size *= 2;
  }
  const Json root{{"polynomials", std::move(rows)},
                  {"keyswitch_ns", table.keyswitch_ns},
                  {"linear_ns", table.linear_ns},
                  {"narrow_accumulator", table.narrow_accumulator}};
  return root.dump(2) + "\n";
}

CostTable parse_cost_table(const std::string& text, const std::string& name) {
  return CostTableReader(name).run(text);
}

void save_cost_table(const CostTable& table, const std::string& path) {
  OutputFile file(path, {});
  file.write(cost_table_text(table));
  file.commit();
}

CostTable load_cost_table(const std::string& path) {
  const FileSource source(path);
  if (source.size() > kLargestFile) {
    throw Error(ErrorCode::file_corrupt, "the file is too large for a cost table",
                fmt::format("file '{}'", path));
  }
  std::string text(source.size(), '\0');
  source.read(0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
  return parse_cost_table(text, path);
}

}  // namespace torusml
