// Cost model: milliseconds of one core, and bytes of keys, as functions of the parameters.
//
//   const double ms = count * lookup_ms(p, extension_log2);
//
// Counted operations at calibrated rates; it ranks parameter sets and gives an order of magnitude,
// it does not replace a measurement. Pure functions.
#pragma once

#include <cstdint>

#include "tfhe/types.h"

namespace torusml {

double external_product_ms(const TfheParameters& p);
double keyswitch_ms(const TfheParameters& p);
// One keyswitch and n * 2^extension_log2 external products.
double lookup_ms(const TfheParameters& p, std::uint32_t extension_log2);

// Evaluation keys prepared for use: bootstrap key in the Fourier domain, 32-bit keyswitch key.
double evaluation_key_bytes(const TfheParameters& p);

}  // namespace torusml
