// The state of an encrypted run in a file, so that another process can go on with it.
//
//   save_checkpoint({provenance, inputs_digest(inputs), run}, "x.ckpt");
//   RunState state = load_checkpoint("x.ckpt", provenance, inputs_digest(inputs));
//
// Layout: docs/formats.md. Thread rule: one file per thread. Cost: one pass over the ciphertexts,
// which are written as they are.
#pragma once

#include <string>

#include "artifact/hash.h"
#include "artifact/keys_and_ciphertexts.h"
#include "runtime/run_state.h"

namespace torusml {

// SHA-256 over names, shapes, mask seeds and bodies.
Digest inputs_digest(const EncryptedInputs& inputs);

// Whole or not at all, in the place of an earlier one. Error file_unwritable.
void save_checkpoint(const RunView& run, const Provenance& provenance, const Digest& inputs,
                     const std::string& path);

// Errors: of files, wrong_model, wrong_key, invalid_argument (of other inputs). check_state
// (runtime/run_state.h) has yet to see whether the state fits the circuit.
RunState load_checkpoint(const std::string& path, const Provenance& provenance,
                         const Digest& inputs);

}  // namespace torusml
