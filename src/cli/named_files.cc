#include "cli/named_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/npy.h"
#include "torusml/error.h"

namespace torusml {
namespace {

[[noreturn]] void fail(const std::string& what, const std::vector<std::string>& names,
                       const std::string& option) {
  std::vector<std::string> usage;
  for (const std::string& name : names) usage.push_back(fmt::format("{} {}=FILE", option, name));
  throw Error(ErrorCode::invalid_argument, what, option, fmt::format("{}", fmt::join(usage, " ")));
}

}  // namespace

std::vector<std::string> resolve_files(const std::vector<std::string>& arguments,
                                       const std::vector<std::string>& names,
                                       const std::string& option) {
  std::vector<std::string> paths(names.size());
  std::vector<bool> given(names.size(), false);
  for (const std::string& argument : arguments) {
    std::size_t index = names.size();
    std::size_t path_at = 0;
    // Names are the model's and may hold '=' themselves, so the longest name that fits is taken.
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (argument.starts_with(names[i] + "=") && names[i].size() + 1 > path_at) {
        index = i;
        path_at = names[i].size() + 1;
      }
    }
    if (index == names.size() && names.size() == 1) index = 0;
    if (index == names.size())
      fail(fmt::format("'{}' names none of the model's {} tensors", argument, names.size()), names,
           option);
    if (given[index]) fail(fmt::format("'{}' is given twice", names[index]), names, option);
    given[index] = true;
    paths[index] = argument.substr(path_at);
  }
  const auto missing = std::find(given.begin(), given.end(), false);
  if (missing != given.end()) {
    fail(fmt::format("'{}' is missing", names[static_cast<std::size_t>(missing - given.begin())]),
         names, option);
  }
  return paths;
}

std::vector<Tensor<double>> read_named_arrays(const std::vector<std::string>& arguments,
                                              const std::vector<std::string>& names,
                                              const std::string& option) {
  std::vector<Tensor<double>> arrays;
  for (const std::string& path : resolve_files(arguments, names, option))
    arrays.push_back(read_npy(path));
  return arrays;
}

}  // namespace torusml
