#include "benchmark/machine.h"

#include <sys/utsname.h>

#include <fstream>

#include "base/threads.h"
#include "commit.h"
#include "tfhe/kernels.h"

namespace torusml {
namespace {

// Linux names the processor on x86; elsewhere the architecture has to do.
std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  utsname system{};
  return uname(&system) == 0 ? system.machine : "unknown";
}

}  // namespace

Machine describe_machine() {
  Machine machine;
  machine.cpu = processor();
  machine.cores = available_threads();
  machine.instruction_set = current_kernels().target;
  for (const TargetName& target : compiled_targets()) {
    if (!target.runnable) machine.targets_not_run.push_back(target.name);
  }
  machine.version = TORUSML_VERSION;
  machine.commit = TORUSML_COMMIT;
  return machine;
}

}  // namespace torusml
