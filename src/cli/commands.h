// The commands behind `torusml`: each takes its arguments as typed and prints its summary to
// stdout.
//
//   run_compile({.model = "net.onnx", .calibration = {"x.npy"}, .output = "net.tml"});
//
// Errors: torusml::Error of whatever goes wrong. Thread rule: the program's main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/settings.h"

namespace torusml {

struct CompileArguments {
  std::string model;
  std::vector<std::string> calibration;  // FILE, or NAME=FILE
  std::string output;
  std::string bits = "8";  // a number, or auto
  bool qat = false;
  std::string method;  // of post-training quantization; empty: compatible
  double percentile = 99.9;
  int accumulator_bits = 0;
  std::string precision, rounding;  // empty: auto, or what rounding needs; no rounding
  std::string profile = "private_results";
  std::vector<std::string> layers;        // NAME=exact, NAME=tolerant or NAME=tolerant:2^-8
  std::string agreement, relative_error;  // of precision auto; empty: the default
  int max_trials = 64;                    // the same
  std::uint64_t seed = 0;                 // the same, and of method best
  std::string p_error, global_p_error, tolerance;  // empty: the default
  double margin = 0.05;
  int security_bits = 128;
  std::string parameters = "catalogue";
  int max_key_sets = 2;
  std::string pack_outputs = "auto";
  std::string cost_table;  // a file; empty: the shipped table
  std::string print_after;
  std::vector<std::string> clear;  // names of inputs
  bool json = false;
};
void run_compile(const CompileArguments& arguments);

struct EstimateArguments {
  CompileArguments compile;  // its output is not used
  int batch = 32;
  int threads = 0;           // 0: all
  std::optional<int> cores;  // of another machine
  std::string labels;        // a file; empty: none
  bool without_changes = false;
  bool json = false;
};
void run_estimate(const EstimateArguments& arguments);

struct ExportArguments {
  std::string model;
  std::string client, server;  // files to write; empty: none
};
void run_export(const ExportArguments& arguments);

// Passphrases are named, not given (cli/passphrase.h); empty: none for a new key, a prompt for one
// that is sealed.
struct KeygenArguments {
  std::vector<std::string> models;
  std::string secret, evaluation, passphrase;
  bool force = false;  // replace an existing secret key
  int threads = 0;     // 0: all
};
void run_keygen(const KeygenArguments& arguments);

struct EncryptArguments {
  std::string model, secret, passphrase;
  std::vector<std::string> input;
  std::string output;
};
void run_encrypt(const EncryptArguments& arguments);

struct RunArguments {
  std::string model, evaluation, input, output;
  int threads = 0;            // 0: all
  std::string memory_limit;   // such as "2GB"; empty: none
  std::string prepared_keys;  // a folder; empty: none
  std::string checkpoint;     // a file; empty: none
  double checkpoint_seconds = 60;
};
void run_run(const RunArguments& arguments);

struct DecryptArguments {
  std::string model, secret, passphrase, input;
  std::vector<std::string> output;  // FILE, or NAME=FILE
  bool raw = false;                 // integers instead of floats
};
void run_decrypt(const DecryptArguments& arguments);

// Of a prediction by a server.
struct ServerArguments {
  std::string url;  // empty: no server
  std::string name, version;
  std::string token;  // where it is (cli/hidden_text.h); empty: TORUSML_TOKEN, or none
  std::string ca_file;
  bool allow_plain_http = false;
  std::vector<std::string> clear;  // names of inputs
  bool as_job = false;
  double deadline_s = 0;  // 0: none
};

struct PredictArguments {
  std::string model;  // empty, with a server
  ServerArguments server;
  std::vector<std::string> input, output;
  std::string executor = "clear";
  // Both or none, and encrypted only. With a server: made where they are not there, and evaluation
  // keys have a default name.
  std::string secret, evaluation;
  std::string passphrase;     // of the secret key
  std::uint64_t seed = 0;     // simulated only
  int threads = 0;            // 0: all
  std::string memory_limit;   // encrypted only; empty: none
  std::string prepared_keys;  // a folder, for keys that are given; empty: none
  bool json = false;
};
void run_predict(const PredictArguments& arguments);
void run_remote_predict(const PredictArguments& arguments);  // with a server

struct InspectArguments {
  std::string file;
  std::string html;  // a page to write, of a model; empty: none
  bool json = false;
};
void run_inspect(const InspectArguments& arguments);

struct ServeArguments {
  ServerSettings settings;
};
void run_serve(const ServeArguments& arguments);  // until SIGTERM or SIGINT

struct TokenAddArguments {
  std::string data, tenant;
  std::vector<std::string> models;  // empty: all
  int days = 0;                     // 0: until it is revoked
};
void run_token_add(const TokenAddArguments& arguments);

struct TokenListArguments {
  std::string data;
};
void run_token_list(const TokenListArguments& arguments);

struct TokenRevokeArguments {
  std::string data, id;
};
void run_token_revoke(const TokenRevokeArguments& arguments);

struct BenchLutArguments {
  std::string bits = "2..8", tables = "1", threads;  // lists; no threads: all
  std::string p_error = "2^-40";
  double norm2 = 1;
  std::optional<std::uint32_t> batch;  // none: the default for each width
  int security_bits = 128;
  int rounds = 3;
  std::string prepared_keys;  // a folder; empty: none
  bool json = false;
};
void run_bench_lut(const BenchLutArguments& arguments);

struct BenchKernelsArguments {
  bool json = false;
};
void run_bench_kernels(const BenchKernelsArguments& arguments);

struct BenchCalibrateArguments {
  std::string output;
};
void run_bench_calibrate(const BenchCalibrateArguments& arguments);

}  // namespace torusml
