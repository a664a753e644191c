#include "server/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "runtime/memory.h"
#include "serving/server_model.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kDeadlineCheck{50};

double seconds_between(SteadyTime from, SteadyTime to) {
  return std::chrono::duration<double>(to - from).count();
}

// Thrown by the progress callback when nobody waits any more; stays inside.
struct NobodyWaits {};

Limits limits_of(const ServerSettings& settings) {
  return {settings.threads_per_run, settings.memory_per_run};
}

Error late(const Work& work) {
  return Error(ErrorCode::deadline_exceeded,
               fmt::format("the request's time is up; {} of {} lookups were done", work.done(),
                           work.total()),
               "", "an asynchronous request, or fewer samples at once");
}

}  // namespace

Engine::Engine(const ServerSettings& settings, PreparedKeyStore& keys, Metrics& metrics, Log& log)
    : settings_(settings), keys_(keys), metrics_(metrics), log_(log) {
  for (std::uint32_t r = 0; r < settings.concurrent_runs; ++r)
    threads_.emplace_back([this] { serve(); });
  threads_.emplace_back([this] { keep_deadlines(); });
}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  cancel_all(busy(503, "the server stops", 10));
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Engine::check_room() const {
  const std::size_t waiting = this->waiting();
  if (waiting < settings_.queue) return;
  throw busy(429, fmt::format("{} requests of {} are waiting", waiting, settings_.queue), 2);
}

void Engine::check_memory(const ServedModel& model, std::size_t samples) const {
  const ServerSpec& spec = model.half.spec;
  choose_samples_at_once(spec.circuit, spec.plan, samples, limits_of(settings_));
}

std::shared_ptr<Work> Engine::submit(NewWork request, bool is_bounded) {
  auto work = std::make_shared<Work>();
  work->samples_ = check_inputs(request.model->half, request.inputs);
  check_memory(*request.model, work->samples_);
  work->total_ = work->samples_ * request.model->sample_lookups;
  work->arrival_ = Clock::now();
  work->request_ = std::move(request);
  {
    const std::lock_guard lock(mutex_);
    if (is_stopping_) throw busy(503, "the server stops", 10);
    if (is_bounded && waiting_.size() >= settings_.queue) {
      throw busy(429,
                 fmt::format("{} requests of {} are waiting", waiting_.size(), settings_.queue), 2);
    }
    waiting_.push_back(work);
  }
  changed_.notify_all();
  return work;
}

void Engine::finish(Work& work, WorkResult result, bool only_waiting) {
  std::function<void(WorkResult)> done;
  {
    const std::lock_guard lock(mutex_);
    if (work.state_ == Work::State::finished) return;
    if (only_waiting && work.state_ != Work::State::waiting) return;
    if (work.state_ == Work::State::waiting)
      std::erase_if(waiting_, [&](const WorkPointer& w) { return w.get() == &work; });
    work.state_ = Work::State::finished;
    work.is_finished_ = true;
    done = std::move(work.request_.done);
  }
  done(std::move(result));
}

void Engine::cancel(Work& work, const Error& error) { finish(work, {"", as_http(error), {}}); }

void Engine::cancel_if_waiting(Work& work, const Error& error) {
  finish(work, {"", as_http(error), {}}, true);
}

void Engine::cancel_all(const Error& error) {
  std::vector<WorkPointer> all;
  {
    const std::lock_guard lock(mutex_);
    all.assign(waiting_.begin(), waiting_.end());
    all.insert(all.end(), running_.begin(), running_.end());
  }
  for (const WorkPointer& work : all) cancel(*work, error);
}

std::size_t Engine::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

std::size_t Engine::running() const {
  const std::lock_guard lock(mutex_);
  return running_.size();
}

void Engine::keep_deadlines() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kDeadlineCheck, [this] { return is_stopping_; })) {
    lock.unlock();
    end_late_work();
    lock.lock();
  }
}

void Engine::end_late_work() {
  std::vector<WorkPointer> ended;
  {
    const std::lock_guard lock(mutex_);
    const SteadyTime now = Clock::now();
    const auto take = [&](const WorkPointer& work) {
      if (work->request_.deadline < now && work->state_ != Work::State::finished)
        ended.push_back(work);
    };
    std::ranges::for_each(waiting_, take);
    std::ranges::for_each(running_, take);
  }
  for (const WorkPointer& work : ended) cancel(*work, late(*work));
}

bool Engine::fits(const Batch& batch, std::size_t samples) const {
  for (const WorkPointer& work : batch) samples += work->samples_;
  return samples <= settings_.samples_per_batch;
}

bool Engine::fits(const Batch& batch, const Work& work) const {
  const NewWork& first = batch[0]->request_;
  return work.request_.model == first.model && work.request_.key == first.key &&
         fits(batch, work.samples_);
}

// The first one that no batch which still waits for more will take.
std::list<Engine::WorkPointer>::iterator Engine::next_first() {
  return std::ranges::find_if(waiting_, [this](const WorkPointer& work) {
    return std::ranges::none_of(open_, [&](const Batch* batch) { return fits(*batch, *work); });
  });
}

void Engine::take(std::list<WorkPointer>::iterator work, Batch& batch) {
  (*work)->state_ = Work::State::running;
  running_.push_back(*work);
  batch.push_back(*work);
  waiting_.erase(work);
}

void Engine::gather(Batch& batch) {
  for (auto work = waiting_.begin(); work != waiting_.end();) {
    const auto next = std::next(work);
    if (fits(batch, **work)) take(work, batch);
    work = next;
  }
}

Engine::Batch Engine::next_batch() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return is_stopping_ || next_first() != waiting_.end(); });
  if (is_stopping_) return {};
  Batch batch;
  take(next_first(), batch);
  gather(batch);
  // A little later there may be more of them. Whoever waited so long already is not kept, and a
  // full batch waits for nobody.
  const SteadyTime start = batch[0]->arrival_ + settings_.batch_window;
  open_.push_back(&batch);
  while (!is_stopping_ && fits(batch, 1) &&
         changed_.wait_until(lock, start) != std::cv_status::timeout)
    gather(batch);
  std::erase(open_, &batch);
  changed_.notify_all();  // what did not fit is for others
  return batch;
}

void Engine::serve() {
  while (true) {
    const Batch batch = next_batch();
    if (batch.empty()) return;
    run(batch);
    const std::lock_guard lock(mutex_);
    std::erase_if(running_,
                  [&](const WorkPointer& work) { return std::ranges::count(batch, work) > 0; });
  }
}

void Engine::run(const Batch& batch) {
  std::vector<std::pair<Stage, double>> seconds;
  std::optional<HttpError> error;
  try {
    run_together(batch, seconds);
    return;
  } catch (const NobodyWaits&) {
    return;
  } catch (const Error& e) {
    error = as_http(e);
  } catch (const std::bad_alloc&) {
    error = as_http(Error(ErrorCode::memory_limit_exceeded,
                          "the server has not enough memory for this run", "",
                          "fewer samples at once"));
  } catch (const std::exception& e) {
    error = as_http(Error(ErrorCode::internal, e.what()));
  } catch (...) {
    error = as_http(Error(ErrorCode::internal, "an unknown exception in a run"));
  }
  if (error->status() == 500) log_.write("error", "run", {{"error", error->what()}});
  for (const WorkPointer& work : batch) finish(*work, {"", error, seconds});
}

void Engine::run_together(const Batch& batch, std::vector<std::pair<Stage, double>>& seconds) {
  const SteadyTime start = Clock::now();
  const NewWork& first = batch[0]->request_;
  const ServerKeys keys = keys_.get(first.key, first.use->path(),
                                    needed_key_sets(first.model->half), limits_of(settings_));
  if (!keys.warning.empty()) log_.write("warning", "keys", {{"warning", keys.warning}});
  seconds.push_back({Stage::keys, seconds_between(start, Clock::now())});
  // Those of another key are refused alone.
  Batch fitting;
  std::vector<const EncryptedInputs*> inputs;
  std::size_t samples = 0;
  for (const WorkPointer& work : batch) {
    try {
      check_key(keys.key, work->request_.inputs.provenance.key, "the encrypted input");
    } catch (const Error& error) {
      finish(*work, {"", as_http(error), seconds});
      continue;
    }
    fitting.push_back(work);
    inputs.push_back(&work->request_.inputs);
    samples += work->samples_;
  }
  if (fitting.empty()) return;
  metrics_.add_batch(fitting.size(), samples);
  const SteadyTime run_start = Clock::now();
  std::size_t counted = 0;
  const auto progress = [&](std::size_t done, std::size_t total) {
    metrics_.add_lookups(done - counted);
    counted = done;
    bool does_somebody_wait = false;
    for (const WorkPointer& work : fitting) {
      work->done_ = done * work->total_ / std::max<std::size_t>(total, 1);
      does_somebody_wait = does_somebody_wait || !work->is_finished_;
    }
    if (!does_somebody_wait) throw NobodyWaits();
  };
  const std::vector<EncryptedOutputs> outputs =
      run_model(first.model->half, keys, inputs, progress, limits_of(settings_));
  const SteadyTime run_end = Clock::now();
  seconds.push_back({Stage::run, seconds_between(run_start, run_end)});
  for (std::size_t w = 0; w < fitting.size(); ++w) {
    const SteadyTime encode_start = Clock::now();
    WorkResult result{to_bytes(outputs[w]), std::nullopt, seconds};
    result.seconds.push_back({Stage::encode, seconds_between(encode_start, Clock::now())});
    result.seconds.push_back({Stage::queue, seconds_between(fitting[w]->arrival_, start)});
    finish(*fitting[w], std::move(result));
  }
}

}  // namespace torusml
