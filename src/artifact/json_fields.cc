#include "artifact/json_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "tfhe/validate.h"

namespace torusml {
namespace {

constexpr std::size_t kMaxJsonBytes = std::size_t{1} << 26;
constexpr std::size_t kMaxRank = 16;
constexpr std::size_t kMaxKeySets = 16;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;
constexpr std::int64_t kMaxDegree = 1 << 17;
constexpr std::int64_t kMaxDimension = 1 << 20;
constexpr int kTorusBits = 64;

Json gadget_json(Gadget gadget) {
  return {{"base_log2", gadget.base_log2}, {"level_count", gadget.level_count}};
}

Json parameters_json(const TfheParameters& p) {
  return {{"small_dimension", p.small_dimension.value},
          {"glwe_dimension", p.glwe_dimension.value},
          {"polynomial_size", p.polynomial_size.value},
          {"bootstrap", gadget_json(p.bootstrap)},
          {"keyswitch", gadget_json(p.keyswitch)},
          {"circuit_bootstrap", gadget_json(p.circuit_bootstrap)},
          {"trace", gadget_json(p.trace)},
          {"grouping_factor", p.grouping_factor},
          {"accumulator_bits", p.accumulator_bits},
          {"small_variance", p.small_variance.value},
          {"glwe_variance", p.glwe_variance.value}};
}

}  // namespace

JsonSection::JsonSection(const ContainerReader& reader, std::string section)
    : reader_(reader), section_(std::move(section)) {
  const std::string text = reader_.read_text(section_, kMaxJsonBytes);
  try {
    root_ = Json::parse(text);
  } catch (const Json::exception& error) {
    corrupt(error.what());
  }
  if (!root_.is_object()) corrupt("it is not an object");
}

const Json& JsonSection::field(const Json& parent, const char* key) const {
  if (!parent.is_object()) corrupt(fmt::format("'{}' is expected in an object", key));
  const auto found = parent.find(key);
  if (found == parent.end()) corrupt(fmt::format("'{}' is missing", key));
  return *found;
}

const Json& JsonSection::object(const Json& parent, const char* key) const {
  const Json& value = field(parent, key);
  if (!value.is_object()) corrupt(fmt::format("'{}' is not an object", key));
  return value;
}

const Json& JsonSection::array(const Json& parent, const char* key, std::size_t limit) const {
  const Json& value = field(parent, key);
  if (!value.is_array()) corrupt(fmt::format("'{}' is not an array", key));
  if (value.size() > limit)
    corrupt(fmt::format("'{}' has {} elements, at most {} are possible", key, value.size(), limit));
  return value;
}

double JsonSection::number(const Json& parent, const char* key) const {
  const Json& value = field(parent, key);
  if (!value.is_number()) corrupt(fmt::format("'{}' is not a number", key));
  const double number = value.get<double>();
  if (!std::isfinite(number)) corrupt(fmt::format("'{}' is not finite", key));
  return number;
}

std::int64_t JsonSection::integer_value(const Json& value, const char* key) const {
  if (!value.is_number_integer()) corrupt(fmt::format("'{}' is not an integer", key));
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    corrupt(fmt::format("'{}' has more than 64 bits", key));
  }
  return value.get<std::int64_t>();
}

std::int64_t JsonSection::integer(const Json& parent, const char* key, std::int64_t lowest,
                                  std::int64_t highest) const {
  const std::int64_t value = integer_value(field(parent, key), key);
  if (value < lowest || value > highest)
    corrupt(fmt::format("'{}' is {}, outside [{}, {}]", key, value, lowest, highest));
  return value;
}

bool JsonSection::boolean(const Json& parent, const char* key) const {
  const Json& value = field(parent, key);
  if (!value.is_boolean()) corrupt(fmt::format("'{}' is neither true nor false", key));
  return value.get<bool>();
}

bool JsonSection::flag(const Json& parent, const char* key) const {
  return parent.contains(key) && boolean(parent, key);
}

std::string JsonSection::text(const Json& parent, const char* key) const {
  const Json& value = field(parent, key);
  if (!value.is_string()) corrupt(fmt::format("'{}' is not a string", key));
  return value.get<std::string>();
}

std::vector<double> JsonSection::numbers(const Json& parent, const char* key,
                                         std::size_t limit) const {
  std::vector<double> result;
  for (const Json& value : array(parent, key, limit)) {
    if (!value.is_number() || !std::isfinite(value.get<double>()))
      corrupt(fmt::format("'{}' holds something that is not a finite number", key));
    result.push_back(value.get<double>());
  }
  return result;
}

std::vector<std::int64_t> JsonSection::integers(const Json& parent, const char* key,
                                                std::size_t limit) const {
  std::vector<std::int64_t> result;
  for (const Json& value : array(parent, key, limit)) result.push_back(integer_value(value, key));
  return result;
}

Shape JsonSection::shape(const Json& parent, const char* key) const {
  const Shape shape = integers(parent, key, kMaxRank);
  std::int64_t elements = 1;
  for (std::int64_t dimension : shape) {
    if (dimension <= 0 || dimension > kMaxElements / elements)
      corrupt(fmt::format("'{}' is {}, which no tensor has", key, to_string(shape)));
    elements *= dimension;
  }
  return shape;
}

Interval JsonSection::interval(const Json& parent, const char* key) const {
  const std::vector<std::int64_t> ends = integers(parent, key, 2);
  if (ends.size() != 2 || ends[0] > ends[1]) corrupt(fmt::format("'{}' is not an interval", key));
  return {ends[0], ends[1]};
}

Gadget JsonSection::gadget(const Json& parent, const char* key) const {
  const Json& value = object(parent, key);
  Gadget gadget;
  gadget.base_log2 = static_cast<std::uint32_t>(integer(value, "base_log2", 0, kTorusBits));
  gadget.level_count = static_cast<std::uint32_t>(integer(value, "level_count", 0, kTorusBits));
  return gadget;
}

void JsonSection::check_trace(const TfheParameters& p) const {
  if (!p.has_trace()) return;
  if (!p.has_bootstrap()) corrupt("a trace needs a bootstrap");
  if (p.glwe_dimension.value != 1) {
    corrupt(fmt::format("a trace with GLWE dimension {}; it takes dimension 1",
                        p.glwe_dimension.value));
  }
}

void JsonSection::check_circuit_bootstrap(const TfheParameters& p) const {
  if (!p.has_circuit_bootstrap()) return;
  if (!p.has_trace()) {
    corrupt(fmt::format("'circuit_bootstrap' has {} levels and 'trace' none, which it needs",
                        p.circuit_bootstrap.level_count));
  }
  if (p.glwe_dimension.value != 1 || p.accumulator_bits != 64) {
    corrupt(
        fmt::format("circuit bootstrapping with GLWE dimension {} and accumulators of {} bits; it "
                    "takes dimension 1 and 64 bits",
                    p.glwe_dimension.value, p.accumulator_bits));
  }
}

std::vector<TfheParameters> JsonSection::key_sets() const {
  std::vector<TfheParameters> sets;
  for (const Json& value : array(root_, "key_sets", kMaxKeySets)) {
    const TfheParameters p = parameters(value);
    if (!sets.empty() && !shares_big_key(p, sets.front()))
      corrupt("the key sets have different big keys");
    if (std::ranges::find(sets, p) != sets.end()) corrupt("a key set comes twice");
    sets.push_back(p);
  }
  if (sets.empty()) corrupt("there is no key set");
  return sets;
}

TfheParameters JsonSection::parameters(const Json& value) const {
  TfheParameters p;
  p.small_dimension.value =
      static_cast<std::uint32_t>(integer(value, "small_dimension", 0, kMaxDimension));
  p.glwe_dimension.value =
      static_cast<std::uint32_t>(integer(value, "glwe_dimension", 1, kMaxDimension));
  p.polynomial_size.value =
      static_cast<std::uint32_t>(integer(value, "polynomial_size", 1, kMaxDegree));
  p.bootstrap = gadget(value, "bootstrap");
  p.keyswitch = gadget(value, "keyswitch");
  p.circuit_bootstrap = gadget(value, "circuit_bootstrap");
  p.trace = gadget(value, "trace");
  p.grouping_factor = static_cast<std::uint32_t>(integer(value, "grouping_factor", 1, 2));
  p.accumulator_bits = static_cast<std::uint32_t>(integer(value, "accumulator_bits", 32, 64));
  p.small_variance.value = number(value, "small_variance");
  p.glwe_variance.value = number(value, "glwe_variance");
  if (!std::has_single_bit(p.polynomial_size.value))
    corrupt(fmt::format("the polynomial size {} is not a power of two", p.polynomial_size.value));
  if (std::int64_t{p.glwe_dimension.value} * p.polynomial_size.value > kMaxDimension)
    corrupt("the dimension of the big key is too large");
  if (p.small_variance.value < 0 || p.glwe_variance.value < 0) corrupt("a variance is negative");
  if (p.has_bootstrap() && p.small_dimension.value == 0)
    corrupt("'small_dimension' is 0, and there is a bootstrap");
  if (p.has_bootstrap() && p.small_dimension.value > p.big_dimension().value)
    corrupt("the small key is longer than the big one, of which it is a part");
  if (p.small_dimension.value % p.grouping_factor != 0)
    corrupt("the small dimension is not a multiple of the grouping factor");
  if (p.accumulator_bits != 32 && p.accumulator_bits != 64)
    corrupt(fmt::format("accumulators of {} bits; 32 and 64 exist", p.accumulator_bits));
  check_trace(p);
  check_circuit_bootstrap(p);
  if (const std::string fault = gadget_fault(p); !fault.empty()) corrupt(fault);
  return p;
}

std::string number_text(double value) { return fmt::format("{}", value); }

std::string json_text(const Json& value) {
  try {
    return value.dump();
  } catch (const Json::exception&) {
    throw Error(ErrorCode::invalid_model, "a name of the model is not UTF-8");
  }
}

Json interval_json(Interval interval) { return {interval.lower, interval.upper}; }

Json key_sets_json(const std::vector<TfheParameters>& key_sets) {
  Json list = Json::array();
  for (const TfheParameters& p : key_sets) list.push_back(parameters_json(p));
  return list;
}

}  // namespace torusml
