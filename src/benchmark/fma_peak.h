// Peak of one core: multiply-adds on registers alone, with the instruction set that the kernels
// use.
//
//   const double gflops = measure_fma_peak();   // a multiply-add counts as two operations
//
// Takes some hundredths of a second. Thread rule: runs on the calling thread.
#pragma once

namespace torusml {

// Error internal if the loop computed something else than it should.
double measure_fma_peak();

}  // namespace torusml
