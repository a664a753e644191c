// Table lookups end to end: parameters, keys, encryption, batches of bootstraps, decryption.
//
//   LookupSettings settings{.bits = 4, .threads = {1, 2}};
//   const LookupMeasurement measured = measure_lookups(settings);
//   measured.timings[1].ms_per_lookup.median;   // wall time of a batch on two threads, by its size
//
// Every result of every timed round is decrypted and compared. Keys are made with all threads.
// Cost: key generation and (rounds + 1) * batch values for each thread count. Thread rule: runs
// one measurement at a time.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "benchmark/spread.h"
#include "parameters/optimizer.h"
#include "torusml/progress.h"

namespace torusml {

struct LookupSettings {
  int bits = 4;
  std::size_t tables = 1;  // of each value; they share a keyswitch, and rotations where that pays
  double p_error = 0x1p-40;
  // L2 norm of the linear map before the lookup, over independent results of lookups: the input
  // counts with norm2^2 times the variance of a bootstrap.
  double norm2 = 1;
  int security_bits = 128;
  std::size_t batch = 64;  // values
  int rounds = 3;
  std::vector<int> threads;  // measured in turn, round by round
  // Prepared keys are written to a file in this folder, mapped and used from there; the file goes
  // with the measurement. Empty: keys stay in this process's own memory.
  std::string prepared_keys;
};

// 64, and 16 from 7 bits on.
std::size_t default_batch(int bits);

// Errors: unsupported_bits, p_error_out_of_range, invalid_argument.
void check(const LookupSettings& settings);

// The request for one exact lookup, as a plan makes it.
ParameterRequest lookup_request(const LookupSettings& settings);

struct LookupTiming {
  int threads = 0;
  Spread ms_per_lookup;                  // of all tables of a value: wall time / batch, over rounds
  double predicted_ms = 0;               // the cost model's, on as many threads
  std::size_t checked = 0, correct = 0;  // results of all timed rounds
};

struct LookupMeasurement {
  LookupSettings settings;
  TfheParameters parameters;
  RotationShape rotation;
  WideShape wide;  // index_bits 0: an ordinary lookup
  double keygen_s = 0, prepare_s = 0;
  double key_store_s = 0, key_map_s = 0;  // 0 without a folder
  // Of the bootstrapping key as lookups read it; none if the system does not tell.
  std::optional<std::size_t> huge_page_bytes;
  std::size_t evaluation_key_bytes = 0;  // as a file
  // In memory; keys of circuit bootstrapping count as bootstrapping keys.
  std::size_t bootstrap_key_bytes = 0, keyswitch_key_bytes = 0;
  double input_bytes_per_value = 0;   // of the batch as a file
  std::vector<LookupTiming> timings;  // by thread count
};

// Errors: those of check; no_parameters; file_unwritable; internal if more results are wrong than
// p_error explains. progress counts steps: keys, and a step for each batch.
LookupMeasurement measure_lookups(const LookupSettings& settings,
                                  const ProgressCallback& progress = {});

}  // namespace torusml
