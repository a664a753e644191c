// Time of the engine's kernels on one core, against the core's multiply-add peak.
//
//   const double peak = measure_fma_peak();
//   const TransformTiming timing = measure_transform({2048});
//   timing.gflops / peak;   // share of the peak
//
// Every measurement is a median of repetitions and checks what was computed (error internal).
// Thread rule: runs on the calling thread.
#pragma once

#include <cstddef>
#include <vector>

#include "benchmark/spread.h"
#include "tfhe/types.h"

namespace torusml {

struct TransformTiming {
  PolynomialSize size;
  Spread forward_ns, inverse_ns;
  double gflops = 0;  // of both: 5 M log2 M operations each, M = N / 2
};

std::vector<PolynomialSize> transform_sizes();  // 512 to 65536
TransformTiming measure_transform(PolynomialSize size);

// A key set of the size that lookups of 4 and 5 bits take, the same for every commit.
TfheParameters kernel_parameters();

struct KeyswitchTiming {
  std::size_t batch = 0;
  Spread ns_per_ciphertext;
  double gmacs = 0;  // 10^9 multiply-adds a second: k N l (n + 1) for a ciphertext
};

struct KeyTiming {
  std::vector<KeyswitchTiming> keyswitch;
  std::size_t prepared_bytes = 0;
  double prepare_s = 0;  // wire form to prepared form, one core
};

// Makes keys first, on all cores.
KeyTiming measure_keys(const TfheParameters& parameters);

}  // namespace torusml
