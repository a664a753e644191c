// For tests of kernels.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "tfhe/kernels.h"

namespace torusml {

// All that are compiled in, runnable on this machine or not.
inline std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const TargetName& target : compiled_targets()) names.push_back(target.name);
  return names;
}

// Uses kernels of one instruction set until it goes; then the machine's best again.
class OnTarget {
 public:
  ~OnTarget() { set_target(""); }

  // False, and says so, where this machine lacks the instruction set.
  bool use(const std::string& name) {
    const auto targets = compiled_targets();
    const auto found = std::ranges::find(targets, name, [](const auto& t) { return t.name; });
    if (found == targets.end() || !found->runnable) {
      std::printf("not run: this machine lacks %s\n", name.c_str());
      return false;
    }
    set_target(name);
    return true;
  }
};

}  // namespace torusml
