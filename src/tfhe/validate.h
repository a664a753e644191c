// Checks of parameters at the doors of this room; readers of files ask gadget_fault, too.
#pragma once

#include <cstddef>
#include <string>

#include "tfhe/types.h"

namespace torusml {

// What the engine cannot work with in the gadgets of a key set that has a bootstrap, naming the
// first one; empty where there is nothing. The accumulator has 32 or 64 bits.
std::string gadget_fault(const TfheParameters& parameters);

// Error invalid_argument naming the first value that the engine cannot work with.
void check_parameters(const TfheParameters& parameters);

// Bytes and words of masks and bodies of the keys in wire form.
struct KeySizes {
  std::size_t glwe_rows = 0;         // of the bootstrapping key
  std::size_t bootstrap_bodies = 0;  // bytes
  std::size_t bootstrap_mask_bytes = 0;
  std::size_t keyswitch_bodies = 0;  // rows of the keyswitch key, and 32-bit words
  std::size_t keyswitch_mask_bytes = 0;
  // log2 N automorphisms, and with circuit bootstrapping the square of the secret.
  std::size_t trace_keys = 0;
  std::size_t trace_bodies = 0;  // bytes
  explicit KeySizes(const TfheParameters& parameters);
};

}  // namespace torusml
