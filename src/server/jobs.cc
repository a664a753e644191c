#include "server/jobs.h"

#include <fmt/format.h>

#include <algorithm>

namespace torusml {
namespace {

// Not an end: the job runs again at the next start.
Error stops() { return Error(ErrorCode::cancelled, "the server stops"); }

}  // namespace

JobRunner::JobRunner(const ServerSettings& settings, Registry& registry, const ModelStore& models,
                     Engine& engine, Log& log)
    : settings_(settings), registry_(registry), models_(models), engine_(engine), log_(log) {
  for (JobRecord& job : registry_.unfinished_jobs()) waiting_.push_back(std::move(job));
  if (!waiting_.empty()) log_.write("info", "jobs_resumed", {{"jobs", waiting_.size()}});
  thread_ = std::thread([this] { feed(); });
}

JobRunner::~JobRunner() { stop(); }

JobRecord JobRunner::add(const NewJob& job) {
  if (unfinished() >= settings_.jobs)
    throw busy(429, fmt::format("{} jobs of {} are unfinished", unfinished(), settings_.jobs), 30);
  JobRecord record = registry_.add_job(job);
  const std::lock_guard lock(mutex_);
  // The same idempotency key gives a job that is here already, or has ended.
  const bool is_known = running_.contains(record.id) ||
                        std::ranges::find(waiting_, record.id, &JobRecord::id) != waiting_.end();
  if (record.state == JobState::queued && !is_known) {
    waiting_.push_back(record);
    changed_.notify_all();
  }
  return record;
}

bool JobRunner::remove(const std::string& tenant, const std::string& id) {
  if (!registry_.job(tenant, id)) return false;
  std::shared_ptr<Work> work;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](const JobRecord& job) { return job.id == id; });
    const auto running = running_.find(id);
    if (running != running_.end()) work = running->second;
  }
  const bool was_there = registry_.delete_job(tenant, id);
  if (work) engine_.cancel(*work, Error(ErrorCode::cancelled, "the job was deleted"));
  return was_there;
}

JobProgress JobRunner::progress(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto running = running_.find(id);
  if (running == running_.end() || !running->second) return {};
  return {running->second->done(), running->second->total()};
}

std::size_t JobRunner::unfinished() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size() + running_.size();
}

void JobRunner::stop_starting() {
  std::map<std::string, std::shared_ptr<Work>> running;
  {
    const std::lock_guard lock(mutex_);
    starts_none_ = true;
    running = running_;
  }
  changed_.notify_all();
  for (const auto& [id, work] : running) {
    if (work) engine_.cancel_if_waiting(*work, stops());
  }
}

void JobRunner::stop() {
  stop_starting();
  if (thread_.joinable()) thread_.join();
  std::map<std::string, std::shared_ptr<Work>> running;
  {
    const std::lock_guard lock(mutex_);
    running.swap(running_);
  }
  for (const auto& [id, work] : running) {
    if (work) engine_.cancel(*work, stops());
  }
}

void JobRunner::feed() {
  // Enough for batches, and the queue has room for others.
  const std::size_t most = std::max<std::size_t>(settings_.queue / 2, settings_.concurrent_runs);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock,
                  [&] { return starts_none_ || (!waiting_.empty() && running_.size() < most); });
    if (starts_none_) return;
    const JobRecord job = waiting_.front();
    waiting_.pop_front();
    running_[job.id] = nullptr;
    lock.unlock();
    try {
      start(job);
    } catch (const Error& error) {
      fail(job.id, error);
    } catch (const std::exception& error) {
      fail(job.id, Error(ErrorCode::internal, error.what()));
    }
    lock.lock();
  }
}

void JobRunner::start(const JobRecord& job) {
  const std::optional<JobRecord> now = registry_.job(job.tenant, job.id);
  if (!now || (now->state != JobState::queued && now->state != JobState::running))
    throw Error(ErrorCode::not_found, "the job was deleted, or has ended already");
  const ModelPointer model = models_.find(job.model, job.version);
  if (!model) {
    throw Error(ErrorCode::not_found,
                fmt::format("model {} version {} is gone", job.model, job.version));
  }
  auto use = std::make_shared<KeyUse>(registry_.use_key(job.tenant, job.key));
  registry_.start_job(job.id);
  const std::shared_ptr<Work> work =
      engine_.submit({.model = model,
                      .key = job.key,
                      .use = std::move(use),
                      .inputs = encrypted_inputs_from_bytes(registry_.job_request(job.id)),
                      .deadline = std::chrono::steady_clock::now() + settings_.job_deadline,
                      .done = [this, id = job.id](const WorkResult& result) { end(id, result); }},
                     /*is_bounded=*/false);
  const std::lock_guard lock(mutex_);
  const auto running = running_.find(job.id);
  if (running != running_.end()) running->second = work;  // unless it has ended already
}

void JobRunner::end(const std::string& id, const WorkResult& result) {
  {
    const std::lock_guard lock(mutex_);
    const bool was_stopped =
        starts_none_ && result.error && result.error->code() == ErrorCode::cancelled;
    if (was_stopped) running_.erase(id);
    if (was_stopped) return;
  }
  if (result.error) return fail(id, *result.error);
  try {
    registry_.finish_job(id, result.outputs);
  } catch (const Error& error) {
    return fail(id, error);
  }
  const std::lock_guard lock(mutex_);
  running_.erase(id);
  changed_.notify_all();
}

void JobRunner::fail(const std::string& id, const Error& error) {
  try {
    registry_.fail_job(id, error);
  } catch (const Error& e) {  // it was deleted, or the folder cannot be written
    if (e.code() != ErrorCode::not_found)
      log_.write("error", "job", {{"job", id}, {"error", e.what()}});
  }
  const std::lock_guard lock(mutex_);
  running_.erase(id);
  changed_.notify_all();
}

}  // namespace torusml
