#include "remote/remote_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>

#include "artifact/hash.h"
#include "base/wiped.h"
#include "client/key_generation.h"
#include "parameters/noise.h"
#include "random/generator.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr double kFirstPoll = 0.01, kLongestPoll = 1;
constexpr std::size_t kPartsAtOnce = 4;  // of a prediction; others wait here, not at the server
const RemoteProgress kNothing;
constexpr double kFarewell = 5;  // seconds for cancelling what nobody waits for any more

// Variances go through text.
bool reaches(Variance given, std::uint32_t dimension, int bits) {
  return given.value >= minimal_variance(dimension, bits).value * 0.9999;
}

std::int64_t elements_of(const auto& specs) {
  std::int64_t elements = 0;
  for (const auto& spec : specs) elements += number_of_elements(spec.shape);
  return elements;
}

std::int64_t samples_of(const IntegerTensors& tensors) {
  return tensors.empty() || tensors[0].shape.empty() ? 0 : tensors[0].shape[0];
}

// Samples [begin, end) of every tensor.
IntegerTensors rows(const IntegerTensors& tensors, std::int64_t begin, std::int64_t end) {
  IntegerTensors part;
  for (const Tensor<std::int64_t>& tensor : tensors) {
    const auto width = static_cast<std::int64_t>(tensor.data.size()) / tensor.shape[0];
    Shape shape = tensor.shape;
    shape[0] = end - begin;
    part.push_back({std::move(shape),
                    {tensor.data.begin() + begin * width, tensor.data.begin() + end * width}});
  }
  return part;
}

std::vector<IntegerTensors> parts_of(const IntegerTensors& inputs, std::int64_t most) {
  const std::int64_t samples = samples_of(inputs);
  for (const Tensor<std::int64_t>& tensor : inputs) {
    if (tensor.shape.empty() || tensor.shape[0] != samples || samples == 0)
      throw Error(ErrorCode::wrong_shape, "inputs are batches of as many samples, one at least");
  }
  std::vector<IntegerTensors> parts;
  for (std::int64_t at = 0; at < samples; at += most)
    parts.push_back(rows(inputs, at, std::min(samples, at + most)));
  return parts;
}

// Leaves no copy behind when it grows.
void append(std::vector<std::int64_t>& all, const std::vector<std::int64_t>& part) {
  if (all.size() + part.size() > all.capacity()) {
    std::vector<std::int64_t> grown;
    grown.reserve(2 * (all.size() + part.size()));
    grown = all;
    wipe_elements(all);
    all = std::move(grown);
  }
  all.insert(all.end(), part.begin(), part.end());
}

void append(IntegerTensors& all, IntegerTensors part) {
  if (all.empty()) {
    all = std::move(part);
    return;
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].shape[0] += part[i].shape[0];
    append(all[i].data, part[i].data);
  }
  wipe_elements(part);
}

// Heartbeats with what was shown last.
std::function<void(std::uint64_t)> heartbeat(const ProgressCallback& progress,
                                             const RemoteProgress& shown) {
  if (!progress) return {};
  return [&](std::uint64_t) {
    progress(static_cast<std::size_t>(shown.done), static_cast<std::size_t>(shown.total));
  };
}

ClientHalf fetch_half(const ServerApi& server, const RemoteSettings& settings,
                      const ProgressCallback& progress) {
  if (settings.model.empty())
    throw Error(ErrorCode::invalid_argument, "it has no name", "model", "its name at the server");
  const CallContext call = server.begin_call(heartbeat(progress, kNothing));
  const std::string bytes = server.client_half(settings.model, settings.version, call);
  ClientHalf half = client_half_from_bytes(bytes, kNoLimit, "client's half from the server");
  if (!settings.model_hash.empty() && to_hex(half.hash) != settings.model_hash) {
    throw Error(ErrorCode::wrong_model,
                fmt::format("the server has model {}, {} is expected", to_hex(half.hash),
                            settings.model_hash),
                server.where());
  }
  check_security(half);
  check_clear_inputs(half, settings.clear_inputs);
  return half;
}

RemoteSettings without_token(RemoteSettings settings) {
  settings.token.clear();
  return settings;
}

}  // namespace

void check_security(const ClientHalf& half) {
  const int bits = half.spec.options.security_bits;
  for (const TfheParameters& p : half.spec.key_sets) {
    const bool is_secure =
        bits >= 128 && reaches(p.glwe_variance, p.big_dimension().value, bits) &&
        (!p.has_bootstrap() || reaches(p.small_variance, p.small_dimension.value, bits));
    if (!is_secure) {
      throw Error(ErrorCode::no_parameters,
                  fmt::format("model '{}' of the server wants keys that do not reach 128 bits of "
                              "security",
                              half.spec.model_name),
                  "client's half", "no keys are made for it: ask its operator");
    }
  }
}

void check_clear_inputs(const ClientHalf& half, const std::vector<std::string>& allowed) {
  for (const InputSpec& input : half.spec.inputs) {
    if (!input.is_clear || std::ranges::find(allowed, input.name) != allowed.end()) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("model '{}' of the server takes input '{}' in the clear",
                            half.spec.model_name, input.name),
                "client's half", "nothing is sent: name it in clear_inputs, if it is no secret");
  }
}

RemoteModel::RemoteModel(const std::string& url, const RemoteSettings& settings,
                         const ProgressCallback& progress)
    : settings_(without_token(settings)),
      server_(url, settings),
      half_(fetch_half(server_, settings, progress)),
      client_(half_) {}

std::string RemoteModel::metadata(const ProgressCallback& progress) const {
  return server_.metadata(settings_.model, settings_.version,
                          server_.begin_call(heartbeat(progress, kNothing)));
}

// Keys.

void RemoteModel::generate_keys(const ProgressCallback& progress, int threads) {
  SecretKeySet secret = client_.make_secret_keys();
  evaluation_.emplace(
      EvaluationFile::of(make_evaluation_keys(secret, secret.key_sets, progress, threads)));
  secret_.emplace(std::move(secret));
  is_uploaded_ = false;
}

void RemoteModel::open_keys(const std::string& path, const PassphraseSource& passphrase,
                            const std::string& evaluation, const ProgressCallback& progress,
                            int threads) {
  const std::string evaluation_path = evaluation.empty() ? path + ".eval" : evaluation;
  const bool is_new = !std::filesystem::exists(path);
  SecretKeySet secret = is_new ? client_.make_secret_keys() : load_secret_keys(path, passphrase);
  client_.check_keys(secret);
  if (is_new) {
    const Passphrase text = passphrase ? passphrase() : Passphrase();
    if (passphrase && text.size() == 0)
      throw Error(ErrorCode::invalid_argument, "the passphrase is empty", "passphrase");
    save_key_pair(secret, path, /*replace_secret=*/false,
                  make_evaluation_keys(secret, secret.key_sets, progress, threads), evaluation_path,
                  text);
  } else if (!std::filesystem::exists(evaluation_path)) {
    save_evaluation_keys(make_evaluation_keys(secret, secret.key_sets, progress, threads),
                         evaluation_path);
  }
  evaluation_.emplace(EvaluationFile::open(evaluation_path, secret));
  secret_.emplace(std::move(secret));
  is_uploaded_ = false;
}

const SecretKeySet& RemoteModel::secret() const {
  if (secret_) return *secret_;
  throw Error(ErrorCode::wrong_key, "the client has no keys", "",
              "generate_keys(), or open_keys(path)");
}

const EvaluationFile& RemoteModel::evaluation() const {
  secret();
  return *evaluation_;
}

void RemoteModel::upload_keys(const ProgressCallback& progress) const {
  std::uint64_t most = 0;
  const std::uint64_t total = evaluation().source().size();
  std::function<void(std::uint64_t)> alive;
  if (progress) {
    alive = [&](std::uint64_t sent) {
      most = std::max(most, sent);
      progress(most, total);
    };
  }
  upload(server_.begin_call(alive));
  if (alive) alive(total);
}

// Asks what the server has and sends the next part, until it has all; after a failure the same.
// A part that came too fast is sent again without asking, which would be the next request too many.
void RemoteModel::upload(const CallContext& call) const {
  const std::lock_guard lock(upload_mutex_);
  if (is_uploaded_) return;
  const EvaluationFile& file = evaluation();
  Backoff backoff(server_.patience_s());
  RemoteKeyState state;
  bool is_known = false;
  std::uint64_t reached = 0;
  for (;;) {
    if (!is_known) state = key_on_server(call);
    is_known = false;
    try {
      while (!state.is_whole()) {
        const std::uint64_t before = state.offset;
        state =
            server_.put_key(file.id(), file.source(), before, settings_.upload_part_bytes, call);
        // 409 says where to go on; standing still is a failure.
        if (state.offset == before)
          throw Error(ErrorCode::server_busy, "the server takes no more bytes of the key");
        if (state.offset > reached) backoff.succeeded();
        reached = std::max(reached, state.offset);
      }
      is_uploaded_ = true;
      return;
    } catch (const ConnectionFailure&) {
      const std::optional<double> wait = backoff.next();
      if (!wait) throw;
      server_.sleep(*wait, call);
    } catch (const Error& error) {
      is_known = error.code() == ErrorCode::rate_limited;
      if (error.code() != ErrorCode::server_busy && !is_known) throw;
      const std::optional<double> wait = backoff.next();
      if (!wait) throw;
      server_.sleep(*wait, call);
    }
  }
}

RemoteKeyState RemoteModel::key_on_server(const CallContext& call) const {
  const EvaluationFile& file = evaluation();
  const RemoteKeyState state =
      server_.key_state(file.id(), call).value_or(RemoteKeyState{0, file.source().size()});
  if (state.length != file.source().size())
    throw Error(ErrorCode::server_refused, "the server has another size of this key");
  return state;
}

bool RemoteModel::delete_keys(const ProgressCallback& progress) const {
  const std::lock_guard lock(upload_mutex_);
  is_uploaded_ = false;
  return server_.delete_key(evaluation().id(), server_.begin_call(heartbeat(progress, kNothing)));
}

bool RemoteModel::key_is_missing(const CallContext& call) const {
  const auto state = server_.key_state(evaluation().id(), call);
  return !state || !state->is_whole();
}

// Requests.

std::int64_t RemoteModel::samples_per_request() const {
  constexpr std::uint64_t kHeader = 64 << 10;
  const auto bytes = static_cast<std::uint64_t>(elements_of(client_.spec().inputs)) * sizeof(Torus);
  const std::uint64_t room = std::max(settings_.max_request_bytes, kHeader) - kHeader;
  const std::uint64_t samples = room / std::max<std::uint64_t>(bytes, 1);
  return static_cast<std::int64_t>(
      std::clamp<std::uint64_t>(samples, 1, std::max(settings_.max_request_samples, 1u)));
}

InferenceBody RemoteModel::request_of(const IntegerTensors& part) const {
  return inference_request(key_id(), samples_of(part), to_bytes(client_.encrypt(secret(), part)));
}

std::uint64_t RemoteModel::most_result_bytes(std::int64_t samples) const {
  constexpr std::uint64_t kHeader = std::uint64_t{1} << 20;
  return kHeader + static_cast<std::uint64_t>(samples * elements_of(client_.spec().outputs)) *
                       (client_.spec().big_dimension().value + 1) * sizeof(Torus);
}

IntegerTensors RemoteModel::decrypted(std::string_view results) const {
  return client_.decrypt(secret(),
                         encrypted_outputs_from_bytes(results, kNoLimit, "results of the server"));
}

// Once more with keys uploaded again, where the server has thrown them out.
template <class Send>
std::string RemoteModel::send(const Send& send, const CallContext& call) const {
  try {
    return send();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found || !key_is_missing(call)) throw;
  }
  {
    const std::lock_guard lock(upload_mutex_);
    is_uploaded_ = false;
  }
  upload(call);
  return send();
}

IntegerTensors RemoteModel::infer(const IntegerTensors& inputs,
                                  const ProgressCallback& progress) const {
  RemoteProgress shown{0, static_cast<std::uint64_t>(samples_of(inputs)), false};
  const CallContext call = server_.begin_call(heartbeat(progress, shown));
  upload(call);
  IntegerTensors results;
  const Wiped parts{parts_of(inputs, samples_per_request())};
  for (const IntegerTensors& part : parts.value) {
    const InferenceBody body = request_of(part);
    const std::uint64_t most = most_result_bytes(samples_of(part));
    append(results,
           decrypted(send(
               [&] { return server_.infer(settings_.model, settings_.version, body, most, call); },
               call)));
    shown.done += static_cast<std::uint64_t>(samples_of(part));
  }
  return results;
}

std::string RemoteModel::submit_part(const IntegerTensors& part, const CallContext& call) const {
  const InferenceBody body = request_of(part);
  return send(
      [&] {
        SecretGenerator random;
        const std::string name = to_hex(random.make_public_seed());
        return server_.submit(settings_.model, settings_.version, body, name, call);
      },
      call);
}

std::vector<std::string> RemoteModel::submit(const IntegerTensors& inputs,
                                             const ProgressCallback& progress) const {
  const Wiped parts{parts_of(inputs, samples_per_request())};
  RemoteProgress shown{0, parts.value.size(), false};
  const CallContext call = server_.begin_call(heartbeat(progress, shown));
  upload(call);
  std::vector<std::string> ids;
  try {
    for (const IntegerTensors& part : parts.value) {
      ids.push_back(submit_part(part, call));
      ++shown.done;
    }
  } catch (...) {
    forget(ids);
    throw;
  }
  return ids;
}

// Jobs.

void RemoteModel::check_state(const RemoteJobState& job, const std::string& id) const {
  if (job.state == "failed") {
    if (job.error) throw *job.error;
    throw Error(ErrorCode::server_refused, "the job failed, and the server does not say why",
                fmt::format("job {}", id));
  }
  if (job.state == "cancelled")
    throw Error(ErrorCode::cancelled, "the job was cancelled", fmt::format("job {}", id));
}

std::string RemoteModel::wait_for(const std::string& id, const CallContext& call,
                                  RemoteProgress& shown) const {
  const RemoteProgress before = shown;
  double pause = kFirstPoll;
  for (;;) {
    const RemoteJobState job = server_.job(id, call);
    check_state(job, id);
    shown.done = before.done + job.done;
    shown.total = std::max(before.total, before.done + job.total);
    if (job.is_finished()) return id;
    server_.sleep(pause, call);
    pause = std::min(1.25 * pause, kLongestPoll);
  }
}

std::string RemoteModel::result_of(const std::string& id, const CallContext& call) const {
  // How many samples it has is not known here: results are no larger than an answer to the largest
  // request.
  const std::int64_t samples = samples_per_request();
  return server_.job_result(id, most_result_bytes(samples), call);
}

IntegerTensors RemoteModel::result(const std::vector<std::string>& ids,
                                   const ProgressCallback& progress) const {
  secret();
  RemoteProgress shown;
  const CallContext call = server_.begin_call(heartbeat(progress, shown));
  IntegerTensors results;
  for (const std::string& id : ids) {
    wait_for(id, call, shown);
    append(results, decrypted(result_of(id, call)));
  }
  forget(ids);
  return results;
}

RemoteProgress RemoteModel::progress(const std::vector<std::string>& ids,
                                     const ProgressCallback& progress) const {
  const CallContext call = server_.begin_call(heartbeat(progress, kNothing));
  RemoteProgress sum{0, 0, true};
  for (const std::string& id : ids) {
    const RemoteJobState job = server_.job(id, call);
    sum.done += job.done;
    sum.total += job.total;
    sum.finished = sum.finished && job.is_finished();
  }
  return sum;
}

IntegerTensors RemoteModel::predict(const IntegerTensors& inputs,
                                    const ProgressCallback& progress) const {
  const Wiped parts{parts_of(inputs, samples_per_request())};
  RemoteProgress shown;
  const CallContext call = server_.begin_call(heartbeat(progress, shown));
  upload(call);
  std::deque<std::string> waiting;
  IntegerTensors results;
  const auto take_first = [&] {
    wait_for(waiting.front(), call, shown);
    // All parts but the last are as large as the first.
    shown.total = std::max(shown.total, shown.done * parts.value.size());
    append(results, decrypted(result_of(waiting.front(), call)));
    forget({waiting.front()});
    waiting.pop_front();
  };
  try {
    for (const IntegerTensors& part : parts.value) {
      waiting.push_back(submit_part(part, call));
      if (waiting.size() == kPartsAtOnce) take_first();
    }
    while (!waiting.empty()) take_first();
  } catch (...) {
    forget({waiting.begin(), waiting.end()});
    throw;
  }
  return results;
}

void RemoteModel::cancel(const std::vector<std::string>& ids,
                         const ProgressCallback& progress) const {
  const CallContext call = server_.begin_call(heartbeat(progress, kNothing));
  for (const std::string& id : ids) server_.delete_job(id, call);
}

// What fails here is cleaned up by the server in time.
void RemoteModel::forget(const std::vector<std::string>& ids) const noexcept {
  try {
    const CallContext call{std::chrono::steady_clock::now() +
                               std::chrono::milliseconds(static_cast<int>(1000 * kFarewell)),
                           {}};
    for (const std::string& id : ids) server_.delete_job(id, call);
  } catch (...) {
  }
}

}  // namespace torusml
