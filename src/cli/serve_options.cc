#include "cli/serve_options.h"

#include <CLI/CLI.hpp>
#include <string>

#include "cli/human.h"

namespace torusml {
namespace {

void add_size(CLI::App& command, const std::string& name, std::uint64_t& bytes, const char* help) {
  command
      .add_option_function<std::string>(
          name, [&bytes, name](const std::string& text) { bytes = parse_bytes(text, name); }, help)
      ->default_str(human_bytes(bytes))
      ->type_name("SIZE");
}

template <class Time>
void add_time(CLI::App& command, const std::string& name, Time& time, const char* help,
              const char* unit) {
  command
      .add_option_function<std::uint32_t>(
          name, [&time](const std::uint32_t& count) { time = Time(count); }, help)
      ->default_str(std::to_string(time.count()))
      ->type_name(unit);
}

void add_seconds(CLI::App& command, const std::string& name, Seconds& time, const char* help) {
  add_time(command, name, time, help, "SECONDS");
}

template <class Number>
void add_count(CLI::App& command, const char* name, Number& count, const char* help) {
  command.add_option(name, count, help)->capture_default_str();
}

}  // namespace

void add_serve_options(CLI::App& command, ServerSettings& s) {
  command
      .add_option("--model", s.models,
                  "A model (.tms, .tml), or a folder of NAME.tms and of NAME/VERSION.tms; NAME.tmc "
                  "beside it is the client's half")
      ->required()
      ->type_name("FILE|FOLDER");
  command.add_option("--data", s.data, "Folder of tokens, keys and jobs")
      ->required()
      ->type_name("FOLDER");
  command.add_option("--listen", s.listen, "Address and port; port 0: any that is free")
      ->capture_default_str();
  command.add_option("--certificate", s.certificate, "Certificate chain for TLS (PEM)")
      ->type_name("FILE");
  command.add_option("--private-key", s.private_key, "The certificate's private key (PEM)")
      ->type_name("FILE");
  command.add_flag("--insecure", s.is_insecure,
                   "Listen beyond this machine without TLS or without tokens");

  add_count(command, "--runs", s.concurrent_runs, "Runs at once");
  add_count(command, "--threads", s.threads_per_run, "Threads of a run; 0: all, shared by runs");
  add_size(command, "--run-memory", s.memory_per_run,
           "Memory of a run: smaller parts at a time, or a refusal, rather than more");
  add_size(command, "--key-memory", s.prepared_key_bytes,
           "Prepared keys in memory, the least recently used ones go first");
  add_count(command, "--queue", s.queue, "Requests that may wait for a run");
  add_count(command, "--max-jobs", s.jobs, "Unfinished asynchronous jobs of all tenants");
  add_count(command, "--max-samples", s.samples_per_request, "Samples of a request");
  add_count(command, "--batch-samples", s.samples_per_batch,
            "Samples of requests that run together");
  add_time(command, "--batch-window", s.batch_window,
           "How long a request waits for others under the same key", "MILLISECONDS");
  add_seconds(command, "--deadline", s.deadline, "Time of a request");
  add_seconds(command, "--job-deadline", s.job_deadline, "Time of a job from its start on");
  add_seconds(command, "--result-patience", s.result_patience,
              "A result that the disk does not take is kept in memory so long, then its job fails");

  add_count(command, "--max-connections", s.connections, "Open connections");
  add_count(command, "--max-header", s.header_bytes, "Bytes of a request's header");
  add_size(command, "--max-body", s.infer_bytes, "Body of a request for inference");
  add_size(command, "--body-memory", s.bodies_bytes, "Such bodies in memory, all together");
  add_seconds(command, "--header-timeout", s.header_timeout, "Time for a request's header");
  add_seconds(command, "--idle-timeout", s.idle_timeout, "Time between two requests");
  add_seconds(command, "--body-timeout", s.body_timeout,
              "Time for a body or an answer, beside what --min-rate gives");
  add_size(command, "--min-rate", s.least_bytes_per_second,
           "Bytes of a body that give its client one more second");

  RegistryLimits& r = s.registry;
  add_count(command, "--tenant-rate", s.tenant_rate, "Requests a second of a tenant; 0: any");
  add_count(command, "--tenant-burst", s.tenant_burst, "Requests of a tenant at once");
  add_count(command, "--tenant-keys", r.keys_per_tenant, "Keys of a tenant");
  add_size(command, "--tenant-key-bytes", r.key_bytes_per_tenant, "Bytes of a tenant's keys");
  add_count(command, "--tenant-jobs", r.jobs_per_tenant, "Jobs of a tenant, results included");
  add_size(command, "--tenant-job-bytes", r.job_bytes_per_tenant,
           "Bytes of the requests and results of a tenant's jobs on disk");
  add_size(command, "--key-bytes", r.key_bytes,
           "Bytes of all keys on disk, the least recently used ones go first");
  add_size(command, "--max-key", r.one_key_bytes, "Bytes of one key");
  add_seconds(command, "--unused-key", r.unused_key, "A key unused for so long is deleted");
  add_seconds(command, "--idle-upload", r.idle_upload, "An upload idle for so long is forgotten");
  add_seconds(command, "--finished-job", r.finished_job, "A finished job is kept so long");

  add_seconds(command, "--drain-seconds", s.drain, "Time for running requests when it stops");
  add_seconds(command, "--model-poll", s.model_poll, "How often model files are looked at");
}

}  // namespace torusml
