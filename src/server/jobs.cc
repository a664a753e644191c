#include "server/jobs.h"

#include <fmt/format.h>

#include <algorithm>

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongestWait{30};

// Not an end: the job runs again at the next start.
Error stops() { return Error(ErrorCode::cancelled, "the server stops"); }

// Whether it has nothing to do with the job.
bool is_of_the_disk(const Error& error) {
  return error.code() == ErrorCode::server_busy || error.code() == ErrorCode::file_unwritable;
}

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
  std::deque<Ending> unwritten;
  {
    const std::lock_guard lock(mutex_);
    running.swap(running_);
    unwritten.swap(unwritten_);
  }
  for (const auto& [id, work] : running) {
    if (work) engine_.cancel(*work, stops());
  }
  for (Ending& ending : unwritten) write(ending);
}

void JobRunner::BackOff::fail() {
  const SteadyTime now = Clock::now();
  if (now < next) return;  // others that fail at the same time
  next = now + wait;
  wait = std::min<std::chrono::milliseconds>(2 * wait, kLongestWait);
}

void JobRunner::feed() {
  // Enough for batches, and the queue has room for others.
  const std::size_t most = std::max<std::size_t>(settings_.queue / 2, settings_.concurrent_runs);
  std::unique_lock lock(mutex_);
  while (!starts_none_) {
    const bool has_unwritten = !unwritten_.empty();
    const bool may_start = !waiting_.empty() && running_.size() < most;
    const SteadyTime now = Clock::now();
    if (has_unwritten && writing_.next <= now) {
      write_again(lock);
    } else if (may_start && starting_.next <= now) {
      start_next(lock);
    } else if (has_unwritten && may_start) {
      changed_.wait_until(lock, std::min(writing_.next, starting_.next));
    } else if (has_unwritten || may_start) {
      changed_.wait_until(lock, has_unwritten ? writing_.next : starting_.next);
    } else {
      changed_.wait(lock);
    }
  }
}

void JobRunner::start_next(std::unique_lock<std::mutex>& lock) {
  const JobRecord job = waiting_.front();
  waiting_.pop_front();
  running_[job.id] = nullptr;
  lock.unlock();
  try {
    start(job);
  } catch (const Error& error) {
    if (is_of_the_disk(error))
      wait_again(job, error);
    else
      fail(job.id, error);
  } catch (const std::exception& error) {
    fail(job.id, Error(ErrorCode::internal, error.what()));
  }
  lock.lock();
}

void JobRunner::write_again(std::unique_lock<std::mutex>& lock) {
  Ending ending = std::move(unwritten_.front());
  unwritten_.pop_front();
  lock.unlock();
  settle(std::move(ending));
  lock.lock();
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
  const std::shared_ptr<Work> work = engine_.submit(
      {.model = model,
       .key = job.key,
       .use = std::move(use),
       .inputs = encrypted_inputs_from_bytes(registry_.job_request(job.id)),
       .deadline = std::chrono::steady_clock::now() + settings_.job_deadline,
       .done = [this, id = job.id](WorkResult result) { end(id, std::move(result)); }},
      /*is_bounded=*/false);
  const std::lock_guard lock(mutex_);
  starting_ = {};
  const auto running = running_.find(job.id);
  if (running != running_.end()) running->second = work;  // unless it has ended already
}

void JobRunner::wait_again(const JobRecord& job, const Error& error) {
  log_.write("error", "job_waits", {{"job", job.id}, {"error", error.what()}});
  const std::lock_guard lock(mutex_);
  running_.erase(job.id);
  waiting_.push_back(job);
  starting_.fail();
}

void JobRunner::end(const std::string& id, WorkResult result) {
  {
    const std::lock_guard lock(mutex_);
    const bool was_stopped =
        starts_none_ && result.error && result.error->code() == ErrorCode::cancelled;
    if (was_stopped) running_.erase(id);
    if (was_stopped) return;
  }
  if (result.error) return fail(id, *result.error);
  settle({id, std::move(result.outputs), std::nullopt, Clock::now() + settings_.result_patience});
}

void JobRunner::fail(const std::string& id, const Error& error) { settle({id, "", error, {}}); }

void JobRunner::settle(Ending ending) {
  const bool is_written = write(ending);
  const std::lock_guard lock(mutex_);
  if (is_written) {
    running_.erase(ending.id);
    writing_ = {};
  } else {
    unwritten_.push_back(std::move(ending));
    writing_.fail();
  }
  changed_.notify_all();
}

bool JobRunner::write(Ending& ending) {
  try {
    if (ending.error)
      registry_.fail_job(ending.id, *ending.error);
    else
      registry_.finish_job(ending.id, ending.outputs);
    return true;
  } catch (const std::exception& error) {
    log_.write("error", "job_unwritten", {{"job", ending.id}, {"error", error.what()}});
    if (!ending.error && Clock::now() >= ending.last_try) {
      ending.outputs = {};
      ending.error.emplace(ErrorCode::file_unwritable,
                           fmt::format("its result could not be written for {} s: {}",
                                       settings_.result_patience.count(), error.what()),
                           "job", "send it again when its disk has room");
    }
    return false;
  }
}

}  // namespace torusml
