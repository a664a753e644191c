#include "torusml/model.h"

#include "artifact/codecs.h"
#include "artifact/files.h"
#include "circuit/text.h"
#include "client/model_client.h"
#include "client_state.h"
#include "compiler/quantized_module.h"
#include "importer/onnx.h"
#include "runtime/executors.h"
#include "serving/join_outputs.h"
#include "serving/server_model.h"
#include "torusml/error.h"

namespace torusml {
namespace {

CompileOptions compile_options(const CompileSettings& settings) {
  CompileOptions options;
  options.choose_bits = settings.bits == 0;
  options.quantization.bits = QuantizationBits::uniform(settings.bits);
  options.quantization.import_qat = settings.qat;
  options.quantization.method = parse_quantization_method(settings.method);
  options.quantization.seed = settings.seed;
  options.margin = settings.margin;
  options.rounding = parse_rounding(settings.rounding, "rounding");
  options.plan.precision = parse_precision(precision_with(settings.precision, options.rounding));
  options.plan.profile = parse_profile(settings.profile);
  options.plan.p_error = settings.p_error;
  options.plan.global_p_error = settings.global_p_error;
  if (settings.tolerance != 0) {
    check_own_tolerance(options.plan.precision, "tolerance");
    options.plan.tolerance = settings.tolerance;
  }
  options.plan.security_bits = settings.security_bits;
  options.plan.key_set_source = parse_key_set_source(settings.parameters);
  options.plan.max_key_sets = settings.max_key_sets;
  options.plan.pack_outputs = parse_pack_outputs(settings.pack_outputs);
  for (const auto& [name, layer] : settings.layers)
    options.plan.layers[name] = {parse_precision(layer.first), layer.second};
  options.search.target =
      make_target(options.choose_bits || options.plan.precision == Precision::automatic,
                  settings.agreement, settings.relative_error, settings.metric, settings.max_loss);
  options.search.max_trials = settings.max_trials;
  options.search.seed = settings.seed;
  options.clear_inputs = settings.clear_inputs;
  options.search.progress = settings.progress;
  return options;
}

}  // namespace

struct Model::State {
  StoredModel stored;
  ModelClient client;

  explicit State(StoredModel model)
      : stored(std::move(model)), client(stored.model.client, stored.hash) {}
};

Model::Model(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Model Model::compile(const std::string& onnx_path, const std::vector<Tensor<double>>& calibration,
                     const CompileSettings& settings) {
  CompiledModel model =
      compile_model(import_onnx(onnx_path), calibration, compile_options(settings));
  const ModelHash hash = hash_of(model);
  return Model(std::make_shared<const State>(StoredModel{std::move(model), hash, "torusml"}));
}

Model Model::load(const std::string& path) {
  return Model(std::make_shared<const State>(load_model(path)));
}

void Model::save(const std::string& path) const { save_model(state_->stored.model, path); }

void Model::save_client_half(const std::string& path) const {
  torusml::save_client_half(client_half(state_->stored), path);
}

void Model::save_server_half(const std::string& path) const {
  torusml::save_server_half(server_half(state_->stored), path);
}

std::vector<Tensor<double>> Model::predict(const std::vector<Tensor<double>>& inputs,
                                           Executor executor, std::uint64_t seed) const {
  const CompiledModel& model = state_->stored.model;
  const std::vector<Tensor<std::int64_t>> integers = state_->client.quantize(inputs).integers;
  return state_->client.dequantize(executor == Executor::clear
                                       ? run_clear(model.circuit, integers)
                                       : run_simulated(model.circuit, model.plan, integers, seed));
}

std::string Model::description() const {
  const CompiledModel& model = state_->stored.model;
  return print(model.circuit, {.constants = false}) + print(model.plan, model.circuit);
}

std::int64_t Model::lookup_count() const { return state_->stored.model.plan.lookup_count; }

Client::Client(const Model& model)
    : Client(std::make_unique<State>(client_half(model.state().stored))) {}

struct Server::State {
  ServerModel model;
};

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::Server(const Model& model)
    : Server(std::unique_ptr<State>(new State{ServerModel(server_half(model.state().stored))})) {}
Server::~Server() = default;
Server::Server(Server&&) noexcept = default;
Server& Server::operator=(Server&&) noexcept = default;

Server Server::load(const std::string& path) {
  return Server(std::unique_ptr<State>(new State{ServerModel(load_server_half(path))}));
}

void Server::load_evaluation_keys(std::string_view bytes, const Limits& limits,
                                  const std::string& prepared_keys) {
  ServerModel& model = state_->model;
  model.load_keys(evaluation_keys_from_bytes(bytes, {.needed = model.needed_key_sets()}), limits,
                  prepared_keys);
}

bool Server::keys_are_mapped() const { return state_->model.keys_are_mapped(); }
std::string Server::key_warning() const { return state_->model.key_warning(); }

std::string Server::run(std::string_view encrypted, const ProgressCallback& progress,
                        const Limits& limits, const Checkpoint& checkpoint) const {
  return to_bytes(
      state_->model.run(encrypted_inputs_from_bytes(encrypted), progress, limits, checkpoint));
}

std::string Server::run_samples(std::string_view encrypted, const SampleRange& samples,
                                const ProgressCallback& progress, const Limits& limits) const {
  return to_bytes(
      state_->model.run_samples(encrypted_inputs_from_bytes(encrypted), samples, progress, limits));
}

std::string Server::join_outputs(const std::vector<std::string>& parts) {
  std::vector<EncryptedOutputs> outputs;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = "part " + std::to_string(i);
    outputs.push_back(encrypted_outputs_from_bytes(parts[i], kNoLimit, name));
  }
  std::vector<const EncryptedOutputs*> pointers;
  for (const EncryptedOutputs& output : outputs) pointers.push_back(&output);
  return to_bytes(torusml::join_outputs(pointers));
}

}  // namespace torusml
