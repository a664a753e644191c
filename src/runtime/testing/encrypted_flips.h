// The judge of flips.h on ciphertexts. It needs the secret key: for tests and benchmarks, which
// link torusml_tfhe_secret.
//
//   FlipCounts counts;
//   run_encrypted(circuit, plan, keys, inputs, {}, {}, flip_counter(circuit, plan, secret,
//   counts));
#pragma once

#include "runtime/executors.h"
#include "runtime/flips.h"
#include "tfhe/secret_keys.h"

namespace torusml {

// Adds a lookup's events to `counts`. Arguments must outlive the observer.
inline LookupObserver flip_counter(const Circuit& circuit, const Plan& plan,
                                   const SecretKeys& secret, FlipCounts& counts) {
  return [&](const EncryptedLookup& lookup) {
    const LookupJudge judge(circuit, plan, lookup.node);
    SecretBuffer<Torus> operands = decrypt(secret, lookup.operand);
    for (Torus& phase : operands) phase -= lookup.offset;
    const std::size_t elements = operands.size() / lookup.samples;
    for (std::size_t t = 0; t < lookup.results.size(); ++t) {
      const SecretBuffer<Torus> results = decrypt(secret, *lookup.results[t]);
      for (std::size_t i = 0; i < operands.size(); ++i)
        judge.count(i % elements, t, {&operands[i], 1}, {&results[i], 1}, counts[lookup.node]);
    }
  };
}

}  // namespace torusml
