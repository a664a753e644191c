// Reads JSON sections field by field, with bounds; whatever is amiss is file_corrupt and names the
// section.
//
//   const JsonSection section(reader, "client");
//   const Json& input = section.array(section.root(), "inputs", 1000)[0];
//   double center = section.number(input, "center");
//
// Private to this room (it drags nlohmann/json in). Thread rule: const use is concurrent.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "artifact/container.h"
#include "circuit/circuit.h"
#include "tfhe/types.h"
#include "torusml/error.h"
#include "torusml/tensor.h"

namespace torusml {

using Json = nlohmann::json;

class JsonSection {
 public:
  JsonSection(const ContainerReader& reader, std::string section);

  const Json& root() const { return root_; }
  const Json& object(const Json& parent, const char* key) const;
  const Json& array(const Json& parent, const char* key, std::size_t limit) const;
  double number(const Json& parent, const char* key) const;  // finite
  std::int64_t integer(const Json& parent, const char* key, std::int64_t lowest,
                       std::int64_t highest) const;
  bool boolean(const Json& parent, const char* key) const;
  bool flag(const Json& parent, const char* key) const;  // false where it is missing
  std::string text(const Json& parent, const char* key) const;
  std::vector<double> numbers(const Json& parent, const char* key, std::size_t limit) const;
  std::vector<std::int64_t> integers(const Json& parent, const char* key, std::size_t limit) const;
  // No dimension is zero, and the number of elements is at most 2^40.
  Shape shape(const Json& parent, const char* key) const;
  Interval interval(const Json& parent, const char* key) const;
  // 'key_sets' of the root: one at least, all with the same big key, none twice.
  std::vector<TfheParameters> key_sets() const;

  [[noreturn]] void corrupt(const std::string& what) const { reader_.corrupt(section_, what); }

 private:
  const Json& field(const Json& parent, const char* key) const;
  TfheParameters parameters(const Json& value) const;
  std::int64_t integer_value(const Json& value, const char* key) const;
  Gadget gadget(const Json& parent, const char* key) const;
  void check_trace(const TfheParameters& parameters) const;
  void check_circuit_bootstrap(const TfheParameters& parameters) const;

  const ContainerReader& reader_;
  std::string section_;
  Json root_;
};

// Shortest decimal text that reads back to the same double.
std::string number_text(double value);
// Errors: invalid_model if a string is not UTF-8.
std::string json_text(const Json& value);
Json interval_json(Interval interval);
Json key_sets_json(const std::vector<TfheParameters>& key_sets);

// Runs `read`; an error that is not about files becomes file_corrupt of the section.
template <class Read>
auto reading(const ContainerReader& reader, const std::string& section, const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::file_corrupt) throw;
    reader.corrupt(
        section, error.where().empty() ? error.message() : error.message() + ", " + error.where());
  }
}

}  // namespace torusml
