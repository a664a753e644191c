// Many results in few GLWE ciphertexts, by automorphisms (Chen, Dai, Kim and Song 2020), for the
// way to the client.
//
//   PackedResults packed = pack_results(keys, results, 16);
//   SecretBuffer<Torus> phases = decrypt(secret, packed);  // tfhe/secret_keys.h
//
// Phases stay what they were, but for noise: result_packing_variance and, of the rounding to
// wire_bits, wire_rounding_variance (parameters/wire_noise.h). docs/noise.md derives it.
// Cost: for m results in a ciphertext m - 1 + log2(N / m') keyswitches of automorphisms, m' the
// next power of two, each about as long as a step of a blind rotation. Thread rule: const keys are
// shared; the call is parallel inside.
#pragma once

#include "tfhe/bootstrap.h"
#include "tfhe/ciphertext.h"

namespace torusml {

// results: under the big key, whose dimension is the keys' N. wire_bits: of every word, 1 to 64.
// Errors: wrong_key (keys without trace, results of another dimension).
PackedResults pack_results(const EvaluationKeys& keys, const LweBatch& results, int wire_bits);

}  // namespace torusml
