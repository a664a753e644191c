// Names of a ClientSpec's inputs or outputs.
#pragma once

#include <string>
#include <vector>

namespace torusml {

template <class Spec>
std::vector<std::string> names_of(const std::vector<Spec>& specs) {
  std::vector<std::string> names;
  for (const Spec& spec : specs) names.push_back(spec.name);
  return names;
}

}  // namespace torusml
