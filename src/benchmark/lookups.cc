#include "benchmark/lookups.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "artifact/codecs.h"
#include "artifact/prepared_keys_file.h"
#include "base/progress.h"
#include "base/threads.h"
#include "benchmark/huge_pages.h"
#include "parameters/catalogue.h"
#include "parameters/noise.h"
#include "parameters/wide_lookups.h"
#include "tfhe/bootstrap.h"
#include "tfhe/secret_keys.h"
#include "tfhe/wide_lookup.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostBits = 16;
constexpr std::size_t kMostCiphertexts = 1 << 16, kMostMeasuredTables = 256;
constexpr double kLargestNorm = 0x1p40;
constexpr int kMostRounds = 1'000'000;
constexpr Torus kQuarter = Torus{1} << 62;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] void refuse(const std::string& message, const std::string& where) {
  throw Error(ErrorCode::invalid_argument, message, where);
}

// One exact lookup of 2^bits values in the plan's encoding, in several tables: value v lies at (v +
// 1/2) / 2^(bits+1) of the torus, half a table step below where one rotation reads the table.
class Lookup {
 public:
  Lookup(int bits, std::size_t tables, const ParameterChoice& choice)
      : bits_(bits), values_(std::size_t{1} << bits), rotation_(choice.rotation(0)) {
    const PolynomialSize size = choice.key_sets[0].parameters.polynomial_size;
    for (std::size_t t = 0; t < tables; ++t) {
      if (choice.wide[0].index_bits != 0) {
        make_wide(t, size, choice.wide[0]);
      } else {
        make_table(t, rotation_.table_size(size));
      }
    }
  }

  const RotationShape& rotation() const { return rotation_; }

  // Ciphertext c of the batch: every value where the batch is large enough, spread evenly
  // otherwise.
  std::size_t value_of(std::size_t c, std::size_t batch) const {
    return batch < values_ ? c * values_ / batch : c % values_;
  }

  Torus phase(std::size_t value) const {
    return is_wide() ? center(value) : center(value) - kQuarter / tables_.front().size();
  }

  bool is_right(Torus result, std::size_t table, std::size_t value) const {
    return (result + kQuarter) >> (63 - bits_) == function(table, value);
  }

  bool is_wide() const { return !wide_.empty(); }
  // For `batch` values, value after value.
  std::vector<const Torus*> tables(std::size_t batch) const {
    std::vector<const Torus*> all;
    for (std::size_t c = 0; c < batch; ++c) {
      for (const std::vector<Torus>& table : tables_) all.push_back(table.data());
    }
    return all;
  }
  std::vector<const WideTable*> wide_tables(std::size_t batch) const {
    std::vector<const WideTable*> all;
    for (std::size_t c = 0; c < batch; ++c) {
      for (const WideTable& table : wide_) all.push_back(&table);
    }
    return all;
  }

 private:
  void make_table(std::size_t t, std::size_t table_size) {
    std::vector<Torus>& table = tables_.emplace_back(table_size);
    for (std::size_t i = 0; i < table_size; ++i)
      table[i] = center(function(t, i / (table_size / values_))) - kQuarter;
  }

  void make_wide(std::size_t t, PolynomialSize size, const WideShape& shape) {
    std::vector<std::uint64_t> entries(values_);
    for (std::size_t value = 0; value < values_; ++value) entries[value] = function(t, value);
    std::vector<std::vector<Torus>> words(shape.digit_count);
    for (std::uint32_t s = 0; s < shape.digit_count; ++s) {
      for (std::uint64_t d = 0; d < std::uint64_t{1} << shape.digit_bits; ++d) {
        const Torus least = s == 0 ? center(0) - kQuarter : 0;
        words[s].push_back(least + (d << (s * shape.digit_bits) << (63 - bits_)));
      }
    }
    wide_.emplace_back(size, shape, entries, words);
  }

  // One to one, and with no order that a shifted table would keep.
  std::size_t function(std::size_t table, std::size_t value) const {
    return (5 * value + 3 + 7 * table) % values_;
  }
  Torus center(std::size_t value) const { return Torus{2 * value + 1} << (62 - bits_); }

  int bits_;
  std::size_t values_;
  RotationShape rotation_;
  std::vector<std::vector<Torus>> tables_;
  std::vector<WideTable> wide_;
};

ParameterChoice choose(const LookupSettings& settings) {
  std::optional<ParameterChoice> choice =
      choose_key_set(lookup_request(settings), KeySetSource::catalogue);
  if (choice) return *std::move(choice);
  throw Error(ErrorCode::no_parameters,
              fmt::format("no parameters at {} bits of security reach p_error {:.3g} for a lookup "
                          "of {} bits at norm2 {}",
                          settings.security_bits, settings.p_error, settings.bits, settings.norm2),
              "", "fewer bits, a smaller norm2 or a larger p_error");
}

struct Keys {
  SecretKeys secret;
  std::optional<EvaluationKeys> evaluation;
};

// Stores the keys and maps them; the name of the file is not needed any longer then.
void map_through_file(LookupMeasurement& measured, const SeededEvaluationKeys& seeded,
                      std::optional<EvaluationKeys>& keys) {
  const std::string& folder = measured.settings.prepared_keys;
  Clock::time_point start = Clock::now();
  const PreparedKeysFile naming(seeded);
  const std::string path = (std::filesystem::path(folder) / naming.name()).string();
  naming.save(*keys, path);
  measured.key_store_s = seconds_since(start);
  keys.reset();
  start = Clock::now();
  // As another process would: it has hashed nothing yet.
  keys = PreparedKeysFile(seeded).map(path);
  measured.key_map_s = seconds_since(start);
  std::filesystem::remove(path);
}

Keys make_keys(LookupMeasurement& measured, SecretGenerator& random, ProgressCounter& progress) {
  Clock::time_point start = Clock::now();
  Keys keys{SecretKeys::generate(measured.parameters, random), {}};
  EvaluationKeySet wire{{}, {}};
  wire.keys.push_back(make_evaluation_keys(keys.secret, random));
  measured.keygen_s = seconds_since(start);
  progress.advance();
  measured.evaluation_key_bytes = to_bytes(wire).size();
  start = Clock::now();
  keys.evaluation = EvaluationKeys::prepare(wire.keys[0]);
  measured.prepare_s = seconds_since(start);
  if (!measured.settings.prepared_keys.empty()) {
    map_through_file(measured, wire.keys[0], keys.evaluation);
  }
  measured.huge_page_bytes = huge_page_bytes(keys.evaluation->parts()[0]);
  progress.advance();
  measured.bootstrap_key_bytes = keys.evaluation->bootstrap_bytes();
  measured.keyswitch_key_bytes = keys.evaluation->keyswitch_bytes();
  return keys;
}

SeededLweBatch encrypt_batch(const SecretKeys& keys, const Lookup& lookup, std::size_t count,
                             SecretGenerator& random) {
  std::vector<Torus> phases(count);
  for (std::size_t c = 0; c < count; ++c) phases[c] = lookup.phase(lookup.value_of(c, count));
  return encrypt(keys, phases, random);
}

double wire_bytes_per_value(const SeededLweBatch& batch) {
  const auto count = static_cast<std::int64_t>(batch.bodies.size());
  const EncryptedInputs inputs{{}, {{"x", {count}, batch}}};
  return static_cast<double>(to_bytes(inputs).size()) / static_cast<double>(count);
}

// One batch on so many threads; the outputs of the last one, by table, stay to be checked.
class Runner {
 public:
  Runner(const Keys& keys, const Lookup& lookup, std::size_t tables, const LweBatch& inputs)
      : keys_(keys),
        lookup_(lookup),
        inputs_(inputs),
        tables_(lookup.tables(inputs.count)),
        wide_tables_(lookup.wide_tables(inputs.count)),
        outputs_(tables, LweBatch(inputs.dimension, inputs.count)) {
    for (LweBatch& output : outputs_) results_.push_back(&output);
  }

  double ms_per_lookup(int threads) {
    const Clock::time_point start = Clock::now();
    with_threads(threads, [&] {
      if (lookup_.is_wide()) {
        wide_lookup_batch(*keys_.evaluation, inputs_, wide_tables_, results_);
      } else {
        bootstrap_batch(*keys_.evaluation, inputs_, tables_, lookup_.rotation(), results_);
      }
    });
    return seconds_since(start) * 1e3 / static_cast<double>(inputs_.count);
  }

  std::size_t count_right() const {
    std::size_t right = 0;
    for (std::size_t t = 0; t < outputs_.size(); ++t) {
      const SecretBuffer<Torus> results = decrypt(keys_.secret, outputs_[t]);
      for (std::size_t c = 0; c < results.size(); ++c)
        right += lookup_.is_right(results[c], t, lookup_.value_of(c, results.size())) ? 1 : 0;
    }
    return right;
  }

 private:
  const Keys& keys_;
  const Lookup& lookup_;
  const LweBatch& inputs_;
  std::vector<const Torus*> tables_;
  std::vector<const WideTable*> wide_tables_;
  std::vector<LweBatch> outputs_;
  std::vector<LweBatch*> results_;
};

// What bad luck explains: nothing at small p_error, a few more than the mean at one raised on
// purpose.
std::size_t most_wrong(std::size_t checked, double p_error) {
  const double mean = static_cast<double>(checked) * p_error;
  return mean < 1e-6 ? 0 : static_cast<std::size_t>(std::ceil(mean + 6 * std::sqrt(mean)));
}

void check_results(const LookupSettings& settings, const LookupTiming& timing) {
  const std::size_t wrong = timing.checked - timing.correct;
  if (wrong <= most_wrong(timing.checked, settings.p_error)) return;
  throw Error(ErrorCode::internal,
              fmt::format("{} of {} lookups gave a wrong value", wrong, timing.checked),
              fmt::format("{} bits, {} threads", settings.bits, timing.threads));
}

void time_rounds(LookupMeasurement& measured, Runner& runner, double predicted_ms,
                 ProgressCounter& progress) {
  const LookupSettings& settings = measured.settings;
  std::vector<std::vector<double>> ms(settings.threads.size());
  for (const int threads : settings.threads) {
    measured.timings.push_back({.threads = threads, .predicted_ms = predicted_ms / threads});
    runner.ms_per_lookup(threads);  // warms up
    progress.advance();
  }
  for (int round = 0; round < settings.rounds; ++round) {
    for (std::size_t t = 0; t < ms.size(); ++t) {
      ms[t].push_back(runner.ms_per_lookup(settings.threads[t]));
      measured.timings[t].checked += settings.batch * settings.tables;
      measured.timings[t].correct += runner.count_right();
      progress.advance();
    }
  }
  for (std::size_t t = 0; t < ms.size(); ++t) {
    measured.timings[t].ms_per_lookup = spread_of(std::move(ms[t]));
    check_results(settings, measured.timings[t]);
  }
}

void check_threads(const std::vector<int>& threads) {
  if (threads.empty()) refuse("there is no thread count", "threads");
  for (const int count : threads) {
    if (count >= 1 && count <= available_threads()) continue;
    refuse(fmt::format("threads is {}; 1 to {} are available", count, available_threads()),
           "threads");
  }
}

}  // namespace

std::size_t default_batch(int bits) { return bits < 7 ? 64 : 16; }

void check(const LookupSettings& settings) {
  if (settings.bits < 1 || settings.bits > kMostBits) {
    throw Error(ErrorCode::unsupported_bits,
                fmt::format("bits is {}; a lookup has 1 to {}", settings.bits, kMostBits), "bits");
  }
  if (!(settings.p_error > 0 && settings.p_error < 1)) {
    throw Error(ErrorCode::p_error_out_of_range,
                fmt::format("p_error is {}; it must lie between 0 and 1", settings.p_error),
                "p_error", "2^-40");
  }
  if (!(settings.norm2 >= 0 && settings.norm2 <= kLargestNorm))
    refuse(fmt::format("norm2 is {}; it lies between 0 and 2^40", settings.norm2), "norm2");
  if (settings.security_bits != 128 && settings.security_bits != 132) {
    refuse(fmt::format("security is {} bits; 128 and 132 are supported", settings.security_bits),
           "security");
  }
  if (settings.batch < 1 || settings.batch > kMostCiphertexts) {
    refuse(fmt::format("the batch has {} lookups; 1 to {} are possible", settings.batch,
                       kMostCiphertexts),
           "batch");
  }
  if (settings.tables < 1 || settings.tables > kMostMeasuredTables) {
    refuse(fmt::format("{} tables of a value; 1 to {} are possible", settings.tables,
                       kMostMeasuredTables),
           "tables");
  }
  if (settings.rounds < 1 || settings.rounds > kMostRounds) {
    refuse(fmt::format("rounds is {}; 1 to {} are possible", settings.rounds, kMostRounds),
           "rounds");
  }
  check_threads(settings.threads);
}

ParameterRequest lookup_request(const LookupSettings& settings) {
  const double sigmas = kappa(settings.p_error);
  NoiseConstraint constraint;
  constraint.name = fmt::format("lookup of {} bits", settings.bits);
  constraint.bootstrap_norm2 = settings.norm2 * settings.norm2;
  constraint.lookup_count = settings.batch;
  constraint.tables = settings.tables;
  constraint.values = std::uint64_t{1} << settings.bits;
  // Half a box of the half torus holds kappa standard deviations. Boxes are whole table entries.
  if (settings.bits >= kLeastWideBits)
    constraint.index_bits = constraint.result_bits = static_cast<std::uint32_t>(settings.bits);
  constraint.limit_sigma = 0.25 / static_cast<double>(constraint.values) / sigmas;
  return {.security_bits = settings.security_bits, .constraints = {constraint}};
}

LookupMeasurement measure_lookups(const LookupSettings& settings,
                                  const ProgressCallback& progress) {
  check(settings);
  const ParameterChoice choice = choose(settings);
  LookupMeasurement measured;
  measured.settings = settings;
  measured.parameters = choice.key_sets[0].parameters;
  measured.rotation = choice.rotation(0);
  measured.wide = choice.wide[0];
  const std::size_t batches =
      settings.threads.size() * (static_cast<std::size_t>(settings.rounds) + 1);
  ProgressCounter counter(progress, batches + 2);
  SecretGenerator random;
  const Keys keys = make_keys(measured, random, counter);
  const Lookup lookup(settings.bits, settings.tables, choice);
  const SeededLweBatch encrypted = encrypt_batch(keys.secret, lookup, settings.batch, random);
  measured.input_bytes_per_value = wire_bytes_per_value(encrypted);
  const LweBatch inputs = expand(encrypted);
  Runner runner(keys, lookup, settings.tables, inputs);
  time_rounds(measured, runner, choice.cost_ms_per_core / static_cast<double>(settings.batch),
              counter);
  return measured;
}

}  // namespace torusml
