#include "torusml/model.h"

#include "artifact/codecs.h"
#include "artifact/files.h"
#include "circuit/text.h"
#include "client/key_generation.h"
#include "client/model_client.h"
#include "compiler/quantized_module.h"
#include "importer/onnx.h"
#include "runtime/executors.h"
#include "serving/server_model.h"
#include "torusml/error.h"

namespace torusml {
namespace {

CompileOptions compile_options(const CompileSettings& settings) {
  CompileOptions options;
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
  for (const auto& [name, layer] : settings.layers)
    options.plan.layers[name] = {parse_precision(layer.first), layer.second};
  options.search.target = make_target(options.plan.precision, settings.agreement,
                                      settings.relative_error, settings.metric, settings.max_loss);
  options.search.max_trials = settings.max_trials;
  options.search.seed = settings.seed;
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

struct Client::State {
  ClientHalf half;
  ModelClient client;
  std::optional<SecretKeySet> secret;
  std::optional<EvaluationKeySet> evaluation;

  explicit State(ClientHalf given) : half(std::move(given)), client(half) {}

  const SecretKeySet& keys() const {
    if (secret) return *secret;
    throw Error(ErrorCode::wrong_key, "the client has no keys", "",
                "generate_keys() or load_secret_key()");
  }
};

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::Client(const Model& model)
    : Client(std::make_unique<State>(client_half(model.state().stored))) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

Client Client::load(const std::string& path) {
  return Client(std::make_unique<State>(load_client_half(path)));
}

void Client::generate_keys(const ProgressCallback& progress, int threads,
                           const std::vector<std::string>& also) {
  std::vector<ClientHalf> models{state_->half};
  for (const std::string& path : also) models.push_back(load_client_half(path));
  SecretKeySet secret = make_secret_keys(models);
  state_->evaluation = make_evaluation_keys(secret, secret.key_sets, progress, threads);
  state_->secret.emplace(std::move(secret));
}

void Client::save_secret_key(const std::string& path, std::string_view passphrase) const {
  save_secret_keys(state_->keys(), path, /*replace=*/false, as_bytes(passphrase));
}

void Client::load_secret_key(const std::string& path, std::string_view passphrase) {
  PassphraseSource source;
  if (!passphrase.empty()) source = [passphrase] { return passphrase_of(passphrase); };
  state_->secret.emplace(load_secret_keys(path, source));
  state_->evaluation.reset();
}

std::string Client::evaluation_keys() const {
  if (!state_->evaluation) {
    throw Error(ErrorCode::wrong_key,
                "there are no evaluation keys: they are made with the secret key", "",
                "generate_keys()");
  }
  return to_bytes(*state_->evaluation);
}

std::string Client::encrypt(const std::vector<Tensor<double>>& inputs) const {
  const ModelClient& client = state_->client;
  return to_bytes(client.encrypt(state_->keys(), client.quantize(inputs).integers));
}

std::vector<Tensor<double>> Client::decrypt(std::string_view results) const {
  const ModelClient& client = state_->client;
  return client.dequantize(client.decrypt(state_->keys(), encrypted_outputs_from_bytes(results)));
}

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

}  // namespace torusml
