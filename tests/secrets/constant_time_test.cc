// Runs constant_time.cc under valgrind, once for each instruction set of the kernels that valgrind
// knows (3.19: no AVX-512).
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "base/testing/temporary_folder.h"
#include "tfhe/kernels.h"

namespace torusml {
namespace {

constexpr int kFound = 99, kNotThere = 3;

// The exit code; what valgrind says goes to the test's output if it is not `expected`.
int run_case(const std::string& name, const std::string& target) {
  const TemporaryFolder folder;
  const std::string log = folder / "valgrind.log";
  const std::string command =
      "TORUSML_TARGET=" + target +
      " " TORUSML_VALGRIND " --quiet --error-exitcode=" + std::to_string(kFound) +
      " --log-file=" + log + " " TORUSML_PROGRAM " " + name;
  const int status = std::system(command.c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == kFound && name == "client") std::system(("cat " + log + " >&2").c_str());
  return code;
}

TEST(ConstantTime, TheClientHasNoBranchAndNoAddressThatDependsOnASecret) {
  int checked = 0;
  for (const TargetName& target : compiled_targets()) {
    // The portable kernels branch when they draw noise, as SECURITY.md says.
    if (!target.runnable || target.name == "EMU128" || target.name == "SCALAR") continue;
    const int code = run_case("client", target.name);
    if (code == kNotThere) continue;
    EXPECT_EQ(code, 0) << target.name;
    ++checked;
  }
  EXPECT_GE(checked, 1);
}

class Leak : public testing::TestWithParam<const char*> {};

TEST_P(Leak, IsFound) { EXPECT_EQ(run_case(GetParam(), ""), kFound); }

INSTANTIATE_TEST_SUITE_P(ConstantTime, Leak,
                         testing::Values("leak-branch-on-a-key-bit",
                                         "leak-address-from-a-plaintext",
                                         "leak-rounding-of-a-plaintext", "leak-branch-on-a-result",
                                         "leak-branch-on-a-packed-result"));

}  // namespace
}  // namespace torusml
