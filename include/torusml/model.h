// TorusML's C++ door: compile or load a model, predict in the clear or simulated, and run it on
// encrypted data with a Client and a Server.
//
//   auto model = torusml::Model::compile("net.onnx", {calibration}, {.bits = 3, .precision =
//   "tolerant"}); torusml::Client client(model); client.generate_keys(); torusml::Server
//   server(model); server.load_evaluation_keys(client.evaluation_keys()); auto y =
//   client.decrypt(server.run(client.encrypt({x})));
//
// Tensors have the batch as their first axis. Keys and ciphertexts travel as bytes in TorusML's
// container format (docs/formats.md). Thread rule: const use is concurrent. Errors: torusml::Error.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torusml/checkpoint.h"
#include "torusml/client.h"
#include "torusml/export.h"
#include "torusml/limits.h"
#include "torusml/progress.h"
#include "torusml/sample_range.h"
#include "torusml/tensor.h"

namespace torusml {

struct CompileSettings {
  // Of weights and activations; ignored for QAT networks. 0: for every layer as few as the target
  // below allows, where that saves time (docs/quantization.md).
  int bits = 8;
  bool qat = false;  // the network brings its own quantizers
  // Of quantization after training: "minmax", "percentile", "mse", "entropy" or "best"
  // (docs/quantization.md); empty: as Concrete ML does. `seed` is that of "best", too.
  std::string method;
  // "exact"; "tolerant"; or "auto": the fastest choice for each layer whose simulated results agree
  // with the exact ones on calibration samples that were held out. Empty: auto, or what rounding
  // needs.
  std::string precision;
  // Accumulators are rounded before their tables: "6" or "6:exact" (to 6 bits, precision rounded),
  // "6:approximate" (precision tolerant); 2 to 8 bits. Empty: all bits are kept.
  std::string rounding;
  std::string profile = "private_results";  // or "shared_results"
  double p_error = 0;                       // per lookup; 0: the profile's default, 2^-40 or 2^-128
  double global_p_error = 0;                // per sample, instead of p_error
  double tolerance = 0;     // tolerant: noise as a fraction of the interval; 0: 2^-8.5
  double margin = 0.05;     // widening of calibrated intervals on each side
  int security_bits = 128;  // or 132
  // Key sets come from the published catalogue (docs/parameters.md) where it serves; "custom"
  // searches freely.
  std::string parameters = "catalogue";
  // 1 or 2: whether demanding lookups may have a key set of their own, where that saves enough
  // time.
  int max_key_sets = 2;
  // Whether results travel many in a ciphertext (docs/deployment.md): "auto", where the key set has
  // the keys that it takes anyway; "on", with a key set that has them added; "off".
  std::string pack_outputs = "auto";
  // Of single lookups and outputs, by name, in place of `precision`: their precision, and of a
  // tolerant one its tolerance (0: the one above).
  std::map<std::string, std::pair<std::string, double>> layers;
  // Inputs, by name, that travel in the clear beside encrypted ones: what depends on them alone
  // takes no lookups (docs/deployment.md).
  std::vector<std::string> clear_inputs;
  // Of precision "auto", and of bits 0 beside the float network, one at most: least share of
  // samples with the same largest output (0.995 for a network with one output of several elements),
  // most relative error (0.01 for others), or a metric of floats by output, (samples, shape...),
  // and of these samples' indices in the calibration data, that may lose max_loss at most; larger
  // is better.
  double agreement = 0, relative_error = 0;
  std::function<double(const std::vector<Tensor<double>>& outputs,
                       const std::vector<std::size_t>& samples)>
      metric;
  double max_loss = 0.01;
  int max_trials = 64;        // simulations at most
  std::uint64_t seed = 0;     // of held out samples and noise
  ProgressCallback progress;  // by trials
};

enum class Executor { clear, simulated };

class TORUSML_EXPORT Model {
 public:
  static Model compile(const std::string& onnx_path, const std::vector<Tensor<double>>& calibration,
                       const CompileSettings& settings = {});
  static Model load(const std::string& path);
  void save(const std::string& path) const;
  // The model's two halves (docs/deployment.md): without weights for clients, without quantizers
  // and ranges for the server.
  void save_client_half(const std::string& path) const;
  void save_server_half(const std::string& path) const;

  // Float results, one tensor per output. `seed` makes simulated noise repeatable.
  std::vector<Tensor<double>> predict(const std::vector<Tensor<double>>& inputs,
                                      Executor executor = Executor::clear,
                                      std::uint64_t seed = 0) const;

  // The circuit's and the plan's text, without constants.
  std::string description() const;
  std::int64_t lookup_count() const;  // tables read for one sample

  struct State;  // for Client and Server
  const State& state() const { return *state_; }
  std::shared_ptr<const State> shared_state() const { return state_; }

 private:
  explicit Model(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

class TORUSML_EXPORT Server {
 public:
  explicit Server(const Model& model);
  static Server load(const std::string& path);  // of a server's half or of a whole model
  ~Server();
  Server(Server&&) noexcept;
  Server& operator=(Server&&) noexcept;

  // prepared_keys: a folder that keeps keys in the form that the kernels read, for this process and
  // others to map; without it, or where it cannot be used, this process prepares them for itself
  // (docs/memory.md).
  void load_evaluation_keys(std::string_view bytes, const Limits& limits = {},
                            const std::string& prepared_keys = "");
  bool keys_are_mapped() const;
  std::string key_warning() const;  // what was wrong with the folder, or empty
  std::string run(std::string_view encrypted, const ProgressCallback& progress = {},
                  const Limits& limits = {}, const Checkpoint& checkpoint = {}) const;

  // Where several workers share a batch (docs/scaling.md): the results of some of its samples, and
  // those of all samples from the results of parts, in their order, bit for bit what run gives
  // where it does not pack them; parts never are. Errors of run_samples also: wrong_shape for
  // samples that the batch has not. Of join_outputs: invalid_argument without any part;
  // wrong_model, wrong_key, wrong_shape for parts that do not belong together; not_supported for
  // packed results. Cost of joining: a copy.
  std::string run_samples(std::string_view encrypted, const SampleRange& samples,
                          const ProgressCallback& progress = {}, const Limits& limits = {}) const;
  static std::string join_outputs(const std::vector<std::string>& parts);

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace torusml
