#include "torusml/remote.h"

#include "artifact/hash.h"
#include "remote/remote_model.h"

namespace torusml {

RemoteJob::RemoteJob(std::shared_ptr<const RemoteModel> model, std::vector<std::string> ids)
    : model_(std::move(model)), ids_(std::move(ids)) {}

RemoteProgress RemoteJob::progress() const { return model_->progress(ids_); }

std::vector<Tensor<double>> RemoteJob::result(const ProgressCallback& progress) const {
  return model_->client().dequantize(model_->result(ids_, progress));
}

void RemoteJob::cancel() const { model_->cancel(ids_); }

RemoteClient::RemoteClient(const std::string& url, const RemoteSettings& settings)
    : model_(std::make_shared<RemoteModel>(url, settings)) {}
RemoteClient::~RemoteClient() = default;
RemoteClient::RemoteClient(RemoteClient&&) noexcept = default;
RemoteClient& RemoteClient::operator=(RemoteClient&&) noexcept = default;

void RemoteClient::generate_keys(const ProgressCallback& progress, int threads) {
  model_->generate_keys(progress, threads);
}

void RemoteClient::open_keys(const std::string& secret, std::string_view passphrase,
                             const std::string& evaluation, const ProgressCallback& progress,
                             int threads) {
  PassphraseSource source;
  if (!passphrase.empty()) source = [passphrase] { return passphrase_of(passphrase); };
  model_->open_keys(secret, source, evaluation, progress, threads);
}

void RemoteClient::upload_keys(const ProgressCallback& progress) const {
  model_->upload_keys(progress);
}

bool RemoteClient::delete_keys() const { return model_->delete_keys(); }
std::string RemoteClient::key_id() const { return model_->key_id(); }
std::string RemoteClient::model_hash() const { return to_hex(model_->half().hash); }
std::string RemoteClient::metadata() const { return model_->metadata(); }

std::vector<Tensor<double>> RemoteClient::predict(const std::vector<Tensor<double>>& inputs,
                                                  const ProgressCallback& progress) const {
  const ModelClient& client = model_->client();
  const Wiped results{model_->predict(client.quantize(inputs).integers, progress)};
  return client.dequantize(results.value);
}

std::vector<Tensor<double>> RemoteClient::infer(const std::vector<Tensor<double>>& inputs,
                                                const ProgressCallback& progress) const {
  const ModelClient& client = model_->client();
  const Wiped results{model_->infer(client.quantize(inputs).integers, progress)};
  return client.dequantize(results.value);
}

RemoteJob RemoteClient::submit(const std::vector<Tensor<double>>& inputs,
                               const ProgressCallback& progress) const {
  return job(model_->submit(model_->client().quantize(inputs).integers, progress));
}

RemoteJob RemoteClient::job(std::vector<std::string> ids) const {
  return RemoteJob(model_, std::move(ids));
}

TransferCounts RemoteClient::transfer() const { return model_->transfer(); }

}  // namespace torusml
