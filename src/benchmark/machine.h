// What a figure was measured on, and with which build.
//
//   const Machine machine = describe_machine();
//   machine.instruction_set;  // "AVX2": what the kernels use, TORUSML_TARGET honoured
//
// Error: that of an unusable TORUSML_TARGET. Thread rule: pure function.
#pragma once

#include <string>
#include <vector>

namespace torusml {

struct Machine {
  std::string cpu;
  int cores = 0;
  std::string instruction_set;
  std::vector<std::string> targets_not_run;  // compiled in, but this machine lacks them
  std::string version, commit;               // commit: empty when built outside a repository
};

Machine describe_machine();

}  // namespace torusml
