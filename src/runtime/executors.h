// The three executors of a plan. All take and give integers: one tensor per input or output, batch
// axis first. Batches are looped inside; every sample is independent.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "runtime/flips.h"
#include "tfhe/bootstrap.h"
#include "tfhe/ciphertext.h"
#include "torusml/limits.h"
#include "torusml/progress.h"
#include "torusml/tensor.h"

namespace torusml {

// Sees each computed value of each sample: (value, its integers).
using ValueObserver = std::function<void(ValueId value, const std::vector<std::int64_t>& integers)>;

// Exact integers. Error accumulator_out_of_range names the layer, the number and the interval.
std::vector<Tensor<std::int64_t>> run_clear(const Circuit& circuit,
                                            const std::vector<Tensor<std::int64_t>>& inputs,
                                            const ValueObserver& observer = {});

// One 64-bit torus phase a value, with the noise that the plan predicts where ciphertexts are born,
// at the keyswitch and at the modulus switch; what depends on clear inputs alone as integers.
// Sample s of a run has noise that depends on the seed and s alone. `flips`, unless null, receives
// the run's counts in addition to what it holds.
std::vector<Tensor<std::int64_t>> run_simulated(const Circuit& circuit, const Plan& plan,
                                                const std::vector<Tensor<std::int64_t>>& inputs,
                                                std::uint64_t seed,
                                                const ProgressCallback& progress = {},
                                                FlipCounts* flips = nullptr);

// A lookup that an encrypted run has just made, of `samples` samples from `first_sample` on. Its
// ciphertexts live as long as the call.
struct EncryptedLookup {
  std::size_t node = 0, first_sample = 0, samples = 0;
  const LweBatch& operand;                // samples * elements
  Torus offset = 0;                       // that its bodies have been given beforehand
  const std::vector<LweBatch*>& results;  // by table
};
// Tests and benchmarks look at lookups; where nothing does, nothing is kept longer or copied.
using LookupObserver = std::function<void(const EncryptedLookup& lookup)>;

// keys: by key set of the plan, all of one secret key. inputs[i] holds batch * elements ciphertexts
// of input i, row-major; the result likewise, by output, rounded to its bits on the wire unless the
// plan packs it (tfhe/result_packing.h). Of a clear input inputs[i] is empty and clear[i] has its
// integers, (batch, shape...); what depends on such inputs alone leaves without mask and noise.
// progress counts table reads, and is asked while linear layers run, too; what it throws ends the
// run after the lookups or sums that are under way, and is thrown again. Errors: wrong_key,
// wrong_shape, memory_limit_exceeded (memory.h), invalid_argument (limits, an integer outside its
// input's interval).
std::vector<LweBatch> run_encrypted(const Circuit& circuit, const Plan& plan,
                                    std::span<const EvaluationKeys* const> keys,
                                    const std::vector<LweBatch>& inputs,
                                    const ProgressCallback& progress = {},
                                    const Limits& limits = {}, const LookupObserver& observer = {},
                                    const std::vector<Tensor<std::int64_t>>& clear = {});
// The same with keys that lie side by side.
std::vector<LweBatch> run_encrypted(const Circuit& circuit, const Plan& plan,
                                    std::span<const EvaluationKeys> keys,
                                    const std::vector<LweBatch>& inputs,
                                    const ProgressCallback& progress = {},
                                    const Limits& limits = {}, const LookupObserver& observer = {},
                                    const std::vector<Tensor<std::int64_t>>& clear = {});

}  // namespace torusml
