// The published key sets. Models that take theirs from here share keys, and a model that is
// compiled again after small changes often accepts the keys of its predecessor.
//
//   std::optional<ParameterChoice> choice = choose_key_set(request, KeySetSource::catalogue);
//   choice->key_sets[0].name;  // "n2048-k1-s830-g2-b1x23-t5x3-w32", or "custom"
//
// The catalogue is the optimizer's own output for the 128-bit line and p_error 2^-40 and 2^-128
// (generators/catalogue_generator.h); docs/parameters.md lists it. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parameters/optimizer.h"
#include "tfhe/types.h"

namespace torusml {

enum class KeySetSource { catalogue, custom };

std::string to_string(KeySetSource source);
KeySetSource parse_key_set_source(const std::string& text);  // error unknown_option

constexpr int kCatalogueSecurityBits = 128;
constexpr const char* kCustomKeySet = "custom";

std::vector<TfheParameters> catalogue();

// Degree, k, small dimension, grouping, levels x log2 base of bootstrap and keyswitch, accumulator,
// and, where there are any, levels x log2 base of the GGSW ciphertexts of circuit bootstrapping and
// of the trace: a name stands for one set of parameters on the 128-bit line, now and later.
std::string key_set_name(const TfheParameters& parameters);

// From the catalogue where the request asks for 128 bits and some entry suits; otherwise, and for
// KeySetSource::custom, by search. Errors and `tightest` as for choose_parameters.
std::optional<ParameterChoice> choose_key_set(const ParameterRequest& request, KeySetSource source,
                                              std::string* tightest = nullptr);

}  // namespace torusml
