#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/serve_options.h"
#include "torusml/error.h"

namespace torusml {
namespace {

struct Arguments {
  CompileArguments compile;
  EstimateArguments estimate;
  ExportArguments export_halves;
  KeygenArguments keygen;
  EncryptArguments encrypt;
  RunArguments run;
  DecryptArguments decrypt;
  PredictArguments predict;
  InspectArguments inspect;
  ServeArguments serve;
  TokenAddArguments token_add;
  TokenListArguments token_list;
  TokenRevokeArguments token_revoke;
  BenchLutArguments bench_lut;
  BenchKernelsArguments bench_kernels;
  BenchCalibrateArguments bench_calibrate;
};

CLI::Option* file_list(CLI::App& command, const char* names, std::vector<std::string>& files,
                       const char* help) {
  return command.add_option(names, files, help)
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("[NAME=]FILE");
}

CLI::Option* name_list(CLI::App& command, const char* option, std::vector<std::string>& names,
                       const char* help) {
  return command.add_option(option, names, help)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("NAME");
}

CLI::Option* file(CLI::App& command, const char* names, std::string& path, const char* help) {
  return command.add_option(names, path, help)->required()->type_name("FILE");
}

void add_model(CLI::App& command, std::string& path) {
  file(command, "model", path, "Compiled model (.tml)");
}

void add_client_model(CLI::App& command, std::string& path) {
  file(command, "model", path, "Compiled model (.tml) or its client's half (.tmc)");
}

CLI::Option* add_passphrase(CLI::App& command, std::string& passphrase) {
  return command
      .add_option("--passphrase", passphrase,
                  "Where the secret key's passphrase is: prompt, env:NAME or file:PATH")
      ->type_name("SOURCE");
}

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "At most this many threads; 0: all")
      ->capture_default_str();
}

void add_memory_limit(CLI::App& command, std::string& limit) {
  command
      .add_option("--memory-limit", limit,
                  "Smaller parts at a time, or none at all, rather than more memory: 2GB, 500MB")
      ->type_name("SIZE");
}

void add_prepared_keys(CLI::App& command, std::string& folder) {
  command
      .add_option("--prepared-keys", folder,
                  "Folder that keeps prepared keys for all processes to map; the next start is "
                  "faster")
      ->envname("TORUSML_PREPARED_KEYS")
      ->type_name("FOLDER");
}

// Of compile and estimate.
void add_compile_options(CLI::App& command, CompileArguments& a) {
  name_list(command, "--clear", a.clear,
            "An input that travels in the clear, beside encrypted ones");
  file(command, "model", a.model, "Network (.onnx)");
  file_list(command, "--calibration", a.calibration, "Typical inputs (.npy), batch axis first");
  command
      .add_option("--bits", a.bits,
                  "Bits of weights and activations: a number, or auto for as few as the target "
                  "allows, layer by layer")
      ->capture_default_str();
  command.add_flag("--qat", a.qat, "The network brings its own quantizers");
  command.add_option("--method", a.method,
                     "Of quantization after training: minmax, percentile, mse, entropy or best "
                     "(fits integers to the float network); without it as Concrete ML does");
  command.add_option("--percentile", a.percentile, "Of method percentile, above 50, 100 at most")
      ->capture_default_str();
  command.add_option("--accumulator-bits", a.accumulator_bits,
                     "Method best keeps accumulators before tables this narrow");
  command.add_option(
      "--precision", a.precision,
      "auto (the fastest that agrees with exact results), exact or tolerant; without "
      "it auto, or what --rounding needs");
  command
      .add_option("--rounding", a.rounding,
                  "Round accumulators before their tables to N bits, 2 to 8: N, N:exact, "
                  "N:approximate")
      ->type_name("N[:METHOD]");
  CLI::Option* agreement =
      command.add_option("--agreement", a.agreement,
                         "auto: least share of predictions as under exact, of --bits auto as the "
                         "float network's; 0.995 unless given");
  command
      .add_option("--relative-error", a.relative_error,
                  "auto: most relative error of results, 0.01 unless given")
      ->excludes(agreement);
  command.add_option("--max-trials", a.max_trials, "auto: trials at most")->capture_default_str();
  command
      .add_option("--seed", a.seed, "Of samples and noise of auto, and of what method best draws")
      ->capture_default_str();
  command
      .add_option("--layer", a.layers,
                  "Precision of one layer or output in place of the others': exact, tolerant or "
                  "tolerant:2^-8")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("NAME=PRECISION");
  command.add_option("--profile", a.profile, "private_results or shared_results")
      ->capture_default_str();
  CLI::Option* p_error = command.add_option(
      "--p-error", a.p_error, "Probability of a wrong lookup or output, such as 2^-40 or 1e-5");
  command.add_option("--global-p-error", a.global_p_error, "The same for one whole sample")
      ->excludes(p_error);
  command.add_option("--tolerance", a.tolerance,
                     "Noise of a tolerant lookup, as a fraction of its interval");
  command
      .add_option("--margin", a.margin,
                  "Widening of calibrated intervals on each side, as a fraction of them")
      ->capture_default_str();
  command.add_option("--security", a.security_bits, "Bits of security, 128 or 132")
      ->capture_default_str();
  command
      .add_option("--parameters", a.parameters,
                  "Key sets of the published catalogue where they serve, or custom")
      ->capture_default_str();
  command
      .add_option("--max-key-sets", a.max_key_sets,
                  "1, or 2: demanding lookups may have a key set of their own where that pays")
      ->capture_default_str();
  command
      .add_option("--pack-outputs", a.pack_outputs,
                  "Results many in a ciphertext: auto (where the key set can), on or off")
      ->capture_default_str();
  command
      .add_option("--cost-table", a.cost_table,
                  "Kernel times (JSON) to choose and predict by, in place of the shipped ones")
      ->type_name("FILE");
}

void add_compile(CLI::App& app, CompileArguments& a) {
  CLI::App& command = *app.add_subcommand("compile", "Compile a network for encrypted inputs");
  add_compile_options(command, a);
  CLI::Option* print_after = command.add_option("--print-after", a.print_after,
                                                "Print the circuit after this rewrite, or 'all'");
  command.add_flag("--json", a.json, "Print the summary as JSON")->excludes(print_after);
  file(command, "-o,--output", a.output, "Compiled model to write");
  command.callback([&a] { run_compile(a); });
}

void add_estimate(CLI::App& app, EstimateArguments& a) {
  CLI::App& command = *app.add_subcommand(
      "estimate", "Time, keys, memory and accuracy of a network, before there are keys");
  add_compile_options(command, a.compile);
  command.add_option("--batch", a.batch, "Samples of a batch")->capture_default_str();
  add_threads(command, a.threads);
  command.add_option("--cores", a.cores, "Also the time on so many cores like these");
  command
      .add_option("--labels", a.labels,
                  "Classes of the calibration samples (.npy), for accuracy by the first output")
      ->type_name("FILE");
  command.add_flag("--without-changes", a.without_changes,
                   "Do not look for changes that would save time");
  command.add_flag("--json", a.json, "Print as JSON");
  command.callback([&a] { run_estimate(a); });
}

void add_export(CLI::App& app, ExportArguments& a) {
  CLI::App& command =
      *app.add_subcommand("export", "Write a model's two halves: for clients, and for the server");
  add_model(command, a.model);
  command.add_option("--client", a.client, "Client's half to write (.tmc): no weights")
      ->type_name("FILE");
  command
      .add_option("--server", a.server, "Server's half to write (.tms): no quantizers, no ranges")
      ->type_name("FILE");
  command.callback([&a] { run_export(a); });
}

void add_keygen(CLI::App& app, KeygenArguments& a) {
  CLI::App& command = *app.add_subcommand("keygen", "Make a secret key and evaluation keys");
  command
      .add_option("models", a.models,
                  "Compiled models (.tml) or client's halves (.tmc) that the keys are to serve")
      ->required()
      ->type_name("FILE");
  add_passphrase(command, a.passphrase);
  file(command, "--secret", a.secret, "Secret key to write; it stays with the client");
  file(command, "--evaluation", a.evaluation, "Evaluation keys to write; they go to the server");
  command.add_flag("--force", a.force, "Replace an existing secret key");
  add_threads(command, a.threads);
  command.callback([&a] { run_keygen(a); });
}

void add_encrypt(CLI::App& app, EncryptArguments& a) {
  CLI::App& command = *app.add_subcommand("encrypt", "Quantize and encrypt inputs");
  add_client_model(command, a.model);
  file(command, "--secret", a.secret, "Secret key");
  add_passphrase(command, a.passphrase);
  file_list(command, "--input", a.input, "Inputs (.npy), batch axis first");
  file(command, "-o,--output", a.output, "Ciphertext to write");
  command.callback([&a] { run_encrypt(a); });
}

void add_run(CLI::App& app, RunArguments& a) {
  CLI::App& command = *app.add_subcommand("run", "Run a model on encrypted inputs");
  file(command, "model", a.model, "Compiled model (.tml) or its server's half (.tms)");
  file(command, "--evaluation", a.evaluation, "Evaluation keys");
  file(command, "--input", a.input, "Ciphertext of the inputs");
  file(command, "-o,--output", a.output, "Ciphertext of the results to write");
  add_threads(command, a.threads);
  add_memory_limit(command, a.memory_limit);
  add_prepared_keys(command, a.prepared_keys);
  command.add_option("--checkpoint", a.checkpoint,
                     "File that keeps the run's state: a run that is stopped goes on from it");
  command
      .add_option("--checkpoint-seconds", a.checkpoint_seconds,
                  "Least time between two checkpoints")
      ->capture_default_str();
  command.callback([&a] { run_run(a); });
}

void add_decrypt(CLI::App& app, DecryptArguments& a) {
  CLI::App& command = *app.add_subcommand("decrypt", "Decrypt results");
  add_client_model(command, a.model);
  file(command, "--secret", a.secret, "Secret key");
  add_passphrase(command, a.passphrase);
  file(command, "--input", a.input, "Ciphertext of the results");
  file_list(command, "-o,--output", a.output, "Results to write (.npy)");
  command.add_flag("--raw", a.raw, "Integers, as they left the circuit");
  command.callback([&a] { run_decrypt(a); });
}

// A server in the place of a model.
CLI::Option* add_server(CLI::App& command, ServerArguments& a) {
  CLI::Option* url =
      command.add_option("--url", a.url, "Predict at this server, such as https://host:8443");
  command.add_option("--name", a.name, "Name of the model at the server")->needs(url);
  command.add_option("--model-version", a.version, "Of the model; the server's choice without it")
      ->needs(url);
  command
      .add_option("--token", a.token,
                  "Where the server's token is: prompt, env:NAME or file:PATH; env:TORUSML_TOKEN "
                  "without it, if there is one")
      ->type_name("SOURCE")
      ->needs(url);
  command
      .add_option("--ca-file", a.ca_file, "Certificates (PEM) to trust in place of the system's")
      ->type_name("FILE")
      ->needs(url);
  command
      .add_flag("--allow-plain-http", a.allow_plain_http,
                "Send the token over http to another machine, too")
      ->needs(url);
  name_list(command, "--clear", a.clear,
            "An input that may travel in the clear, if the server's model takes it so")
      ->needs(url);
  command
      .add_flag("--async", a.as_job, "As a job: with progress, and repeated after lost connections")
      ->needs(url);
  command.add_option("--deadline", a.deadline_s, "Give up after so many seconds; 0: never")
      ->capture_default_str()
      ->needs(url);
  return url;
}

void add_predict(CLI::App& app, PredictArguments& a) {
  CLI::App& command =
      *app.add_subcommand("predict", "Predict on plain inputs, here or by a server");
  CLI::Option* model =
      command.add_option("model", a.model, "Compiled model (.tml)")->type_name("FILE");
  CLI::Option* url = add_server(command, a.server);
  model->excludes(url);
  file_list(command, "--input", a.input, "Inputs (.npy), batch axis first");
  command.add_option("--executor", a.executor, "clear, simulated or encrypted")
      ->capture_default_str()
      ->excludes(url);
  CLI::Option* secret = command.add_option(
      "--secret", a.secret, "Secret key (encrypted); with --url made where it is not there");
  command
      .add_option("--evaluation", a.evaluation,
                  "Evaluation keys (encrypted); with --url beside the secret key without it")
      ->needs(secret);
  add_passphrase(command, a.passphrase)->needs(secret);
  command.add_option("--seed", a.seed, "Seed of the noise (simulated)")
      ->capture_default_str()
      ->excludes(url);
  add_threads(command, a.threads);
  add_memory_limit(command, a.memory_limit);
  add_prepared_keys(command, a.prepared_keys);
  command.add_flag("--json", a.json, "Print the summary as JSON");
  file_list(command, "-o,--output", a.output, "Results to write (.npy)");
  command.callback([&a] { a.server.url.empty() ? run_predict(a) : run_remote_predict(a); });
}

void add_inspect(CLI::App& app, InspectArguments& a) {
  CLI::App& command = *app.add_subcommand("inspect", "Say what a TorusML file holds");
  file(command, "file", a.file, "Model or half of one, keys, ciphertext or checkpoint");
  CLI::Option* json = command.add_flag("--json", a.json, "Print as JSON");
  command.add_option("--html", a.html, "Page to write: graph, costs, ranges, tables of a model")
      ->type_name("FILE")
      ->excludes(json);
  command.callback([&a] { run_inspect(a); });
}

void add_serve(CLI::App& app, ServeArguments& a) {
  CLI::App& command = *app.add_subcommand("serve", "Answer clients over HTTP (docs/server.md)");
  add_serve_options(command, a.settings);
  command.callback([&a] { run_serve(a); });
}

CLI::App& add_token_command(CLI::App& token, const char* name, const char* help,
                            std::string& data) {
  CLI::App& command = *token.add_subcommand(name, help);
  command.add_option("--data", data, "The server's folder")->required()->type_name("FOLDER");
  return command;
}

void add_token(CLI::App& app, Arguments& a) {
  CLI::App& token = *app.add_subcommand("token", "Who may use a server");
  token.require_subcommand(1);
  TokenAddArguments& made = a.token_add;
  CLI::App& add = add_token_command(token, "add", "Make a token, and show it once", made.data);
  add.add_option("--tenant", made.tenant, "Whose keys and jobs it sees")->required();
  name_list(add, "--model", made.models, "A model that it may see; all unless given");
  add.add_option("--days", made.days, "Valid for so long; 0: until it is revoked")
      ->check(CLI::Range(0, 36500))
      ->capture_default_str();
  add.callback([&made] { run_token_add(made); });
  TokenListArguments& listed = a.token_list;
  CLI::App& list = add_token_command(token, "list", "Tokens and their tenants", listed.data);
  list.callback([&listed] { run_token_list(listed); });
  TokenRevokeArguments& revoked = a.token_revoke;
  CLI::App& revoke =
      add_token_command(token, "revoke", "Make a token worthless at once", revoked.data);
  revoke.add_option("id", revoked.id, "Its id")->required();
  revoke.callback([&revoked] { run_token_revoke(revoked); });
}

void add_bench_lut(CLI::App& bench, BenchLutArguments& a) {
  CLI::App& command = *bench.add_subcommand("lut", "Time of one lookup, by its bits");
  command.add_option("--bits", a.bits, "Widths, such as 4 or 2..8 or 2,4,8")->capture_default_str();
  command
      .add_option("--tables", a.tables,
                  "Tables of each value, such as 1,2,4: one keyswitch for all")
      ->capture_default_str();
  command.add_option("--p-error", a.p_error, "Probability of a wrong lookup, such as 2^-40")
      ->capture_default_str();
  command.add_option("--norm2", a.norm2, "L2 norm of the linear map before the lookup")
      ->capture_default_str();
  command.add_option("--batch", a.batch, "Values at once; 64, and 16 from 7 bits on");
  command.add_option("--threads", a.threads, "Thread counts, such as 1,2; all unless given");
  command.add_option("--security", a.security_bits, "Bits of security, 128 or 132")
      ->capture_default_str();
  command.add_option("--rounds", a.rounds, "Timed batches for each thread count")
      ->capture_default_str();
  command
      .add_option("--prepared-keys", a.prepared_keys,
                  "Folder to keep the prepared keys in while they are measured, mapped from there")
      ->type_name("FOLDER");
  command.add_flag("--json", a.json, "Print a JSON object for each width and thread count");
  command.callback([&a] { run_bench_lut(a); });
}

void add_bench(CLI::App& app, Arguments& a) {
  CLI::App& command = *app.add_subcommand("bench", "Measure this machine, with results checked");
  command.require_subcommand(1);
  add_bench_lut(command, a.bench_lut);
  BenchKernelsArguments& kernels = a.bench_kernels;
  CLI::App& bench =
      *command.add_subcommand("kernels", "Transforms, keyswitch and keys on one core");
  bench.add_flag("--json", kernels.json, "Print a JSON object for each measurement");
  bench.callback([&kernels] { run_bench_kernels(kernels); });
  BenchCalibrateArguments& calibrate = a.bench_calibrate;
  CLI::App& table = *command.add_subcommand(
      "calibrate", "Measure the cost table of this machine, for compile --cost-table");
  table.add_option("-o,--output", calibrate.output, "The table (JSON)")->required();
  table.callback([&calibrate] { run_bench_calibrate(calibrate); });
}

int fail(const std::string& text, int code = kFailure) {
  std::fflush(stdout);
  fmt::print(stderr, "torusml: {}\n", text);
  return code;
}

}  // namespace

int run_command_line(int count, char** arguments) {
  CLI::App app{"Neural networks on encrypted data", "torusml"};
  app.set_version_flag("--version", "torusml " TORUSML_VERSION);
  app.require_subcommand(1);
  Arguments a;
  add_compile(app, a.compile);
  add_estimate(app, a.estimate);
  add_export(app, a.export_halves);
  add_keygen(app, a.keygen);
  add_encrypt(app, a.encrypt);
  add_run(app, a.run);
  add_decrypt(app, a.decrypt);
  add_predict(app, a.predict);
  add_inspect(app, a.inspect);
  add_serve(app, a.serve);
  add_token(app, a);
  add_bench(app, a);
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  } catch (const Error& error) {
    return fail(error.what(), exit_code(error.code()));
  } catch (const std::bad_alloc&) {
    return fail("there is not enough memory");
  } catch (const std::exception& error) {
    return fail(Error(ErrorCode::internal, error.what()).what());
  }
  return 0;
}

}  // namespace torusml
