// Two key sets where that is faster than one: the demanding lookups of a circuit keep a precise
// set, the others get a cheaper one.
//
//   ParameterChoice one = *choose_key_set(request, source);
//   std::optional<ParameterChoice> two = split_key_set(request, one, one, source);
//
// Both sets bootstrap under the same big key, of which each small key is a beginning. So
// ciphertexts pass from lookup to lookup as they are, nothing is converted, and linear maps mix
// results of both; the price is a second set of evaluation keys. Noise counts by the set that it
// comes from (NoiseConstraint::sources). More than two sets are not tried: the steps between them
// would save less than the keys of a third are worth.
//
// Lookups are divided by their limits of noise, at the widest gaps between these; those whose
// results reach a demanding one stay with it or not, both are tried. For each division the
// demanding ones have the single set of before, or what suits them best alone, and the others the
// best set beside it; for the best pair, once more the best set for the demanding ones. Not always
// the best pair there is: a few per cent are lost on average.
//
// Both sets come from the catalogue where that is asked for, even if no single one of it served; a
// free search follows where no pair of it is worth it beside a custom set.
//
// Cost for 100 different lookups: the catalogue some milliseconds, a free search some hundred.
// Pure functions.
#pragma once

#include <optional>

#include "parameters/catalogue.h"
#include "parameters/optimizer.h"

namespace torusml {

// A second key set must bring a sample's time down to this share, or to kWorthLargerKeys if all
// keys together belong to a larger class than those of one set.
constexpr double kWorthSecondKeySet = 0.85;

bool is_worth_second_key_set(const ParameterChoice& two, const ParameterChoice& one);

// one: the best choice of one key set for this request; rival: the choice of one key set that two
// must be worth taking over, perhaps of another request for the same circuit. nullopt where none
// is. Errors as for choose_parameters.
std::optional<ParameterChoice> split_key_set(const ParameterRequest& request,
                                             const ParameterChoice& one,
                                             const ParameterChoice& rival, KeySetSource source);

}  // namespace torusml
