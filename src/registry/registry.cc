#include "registry/registry.h"

#include "registry/job_store.h"
#include "registry/key_store.h"
#include "registry/token_store.h"

namespace torusml {

struct Registry::State {
  State(const std::string& folder, const RegistryLimits& limits, bool serves, WallClock clock)
      : core(folder, limits, serves, std::move(clock)), tokens(core) {
    if (!serves) return;
    keys.emplace(core);
    jobs.emplace(core);
    keys->recover();
    jobs->recover();
  }
  KeyStore& key_store() {
    core.check_serves();
    return *keys;
  }
  JobStore& job_store() {
    core.check_serves();
    return *jobs;
  }

  Core core;
  TokenStore tokens;
  std::optional<KeyStore> keys;
  std::optional<JobStore> jobs;
};

struct KeyUpload::State {
  KeyStore& store;
  std::unique_ptr<Upload> upload;
};

struct KeyUse::State {
  State(KeyStore& store, KeyName name) : store(store), name(name), path(store.use(name)) {}
  ~State() { store.release(name); }
  State(const State&) = delete;

  KeyStore& store;
  const KeyName name;
  const std::string path;
};

KeyUpload::KeyUpload(std::unique_ptr<State> state) : state_(std::move(state)) {}
KeyUpload::KeyUpload(KeyUpload&&) noexcept = default;
KeyUpload::~KeyUpload() = default;
std::uint64_t KeyUpload::received() const { return state_->upload->received(); }
void KeyUpload::write(std::span<const std::uint8_t> bytes) { state_->upload->write(bytes); }
KeyRecord KeyUpload::finish() { return state_->store.finish(*state_->upload); }

KeyUse::KeyUse(std::unique_ptr<State> state) : state_(std::move(state)) {}
KeyUse::KeyUse(KeyUse&&) noexcept = default;
KeyUse::~KeyUse() = default;
const std::string& KeyUse::path() const { return state_->path; }

Registry::Registry(std::string folder, const RegistryLimits& limits, bool serves, WallClock clock)
    : state_(std::make_unique<State>(folder, limits, serves, std::move(clock))) {}
Registry::~Registry() = default;

NewToken Registry::add_token(const TokenSettings& settings) { return state_->tokens.add(settings); }
bool Registry::revoke_token(const std::string& id) { return state_->tokens.revoke(id); }
std::vector<TokenRecord> Registry::tokens() const { return state_->tokens.all(); }
bool Registry::has_tokens() const { return state_->tokens.has_valid_ones(); }
Identity Registry::authenticate(std::string_view token) const {
  return state_->tokens.authenticate(token);
}

KeyUpload Registry::open_upload(const std::string& tenant, const std::string& id,
                                std::uint64_t total_bytes, std::uint64_t offset, bool restarts) {
  KeyStore& keys = state_->key_store();
  return KeyUpload(std::make_unique<KeyUpload::State>(
      KeyUpload::State{keys, keys.open_upload({tenant, id}, total_bytes, offset, restarts)}));
}

std::optional<KeyRecord> Registry::key(const std::string& tenant, const std::string& id) const {
  return state_->key_store().find({tenant, id});
}

std::vector<KeyRecord> Registry::keys(const std::string& tenant) const {
  return state_->key_store().all(tenant);
}

bool Registry::delete_key(const std::string& tenant, const std::string& id) {
  return state_->key_store().remove({tenant, id});
}

KeyUse Registry::use_key(const std::string& tenant, const std::string& id) {
  return KeyUse(std::make_unique<KeyUse::State>(state_->key_store(), KeyName{tenant, id}));
}

JobRecord Registry::add_job(const NewJob& job) { return state_->job_store().add(job); }

std::optional<JobRecord> Registry::job(const std::string& tenant, const std::string& id) const {
  return state_->job_store().find(tenant, id);
}

std::vector<JobRecord> Registry::unfinished_jobs() const {
  return state_->job_store().unfinished();
}

std::string Registry::job_request(const std::string& id) const {
  return state_->job_store().request(id);
}

void Registry::start_job(const std::string& id) { state_->job_store().start(id); }

void Registry::finish_job(const std::string& id, std::string_view result) {
  state_->job_store().finish(id, result);
}

void Registry::fail_job(const std::string& id, const Error& error) {
  state_->job_store().fail(id, error);
}

std::string Registry::job_result(const std::string& tenant, const std::string& id) const {
  return state_->job_store().result(tenant, id);
}

bool Registry::delete_job(const std::string& tenant, const std::string& id) {
  return state_->job_store().remove(tenant, id);
}

void Registry::clean_up() {
  state_->key_store().clean_up();
  state_->job_store().clean_up();
  const std::lock_guard lock(state_->core.mutex);
  state_->core.save_time();
}

std::string Registry::prepared_keys_folder() const { return state_->key_store().prepared_folder(); }

}  // namespace torusml
