#include "client/key_generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "base/threads.h"
#include "random/generator.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Of all blind rotations.
std::size_t steps_of(const std::vector<TfheParameters>& key_sets) {
  std::size_t steps = 0;
  for (const TfheParameters& p : key_sets)
    steps += p.has_bootstrap() ? p.small_dimension.value / p.grouping_factor : 0;
  return steps;
}

const TfheParameters& first_of(const ClientHalf& model) { return model.spec.key_sets.front(); }

// Models by the big key that they need, as "'a', 'b' (2048 bits, noise 2^-51.60)".
std::string groups_text(const std::vector<ClientHalf>& models) {
  std::string text;
  std::vector<bool> done(models.size(), false);
  for (std::size_t i = 0; i < models.size(); ++i) {
    if (done[i]) continue;
    std::string names;
    for (std::size_t j = i; j < models.size(); ++j) {
      if (!shares_big_key(first_of(models[i]), first_of(models[j]))) continue;
      done[j] = true;
      names += fmt::format("{}'{}' ({})", names.empty() ? "" : ", ", models[j].spec.model_name,
                           short_hex(models[j].hash));
    }
    text += fmt::format("{}{}: {} bits, noise 2^{:.2f}", text.empty() ? "" : "; ", names,
                        first_of(models[i]).big_dimension().value,
                        0.5 * std::log2(first_of(models[i]).glwe_variance.value));
  }
  return text;
}

}  // namespace

std::vector<TfheParameters> key_sets_of(const std::vector<ClientHalf>& models) {
  if (models.empty())
    throw Error(ErrorCode::invalid_argument, "keys are made for one model at least");
  std::vector<TfheParameters> key_sets;
  for (const ClientHalf& model : models) {
    for (const TfheParameters& p : model.spec.key_sets) {
      if (!shares_big_key(first_of(models.front()), p)) {
        throw Error(ErrorCode::wrong_key,
                    fmt::format("these models need different secret keys: {}", groups_text(models)),
                    "", "a secret key for each group, or the models compiled on like key sets");
      }
      if (std::ranges::find(key_sets, p) == key_sets.end()) key_sets.push_back(p);
    }
  }
  return key_sets;
}

SecretKeySet make_secret_keys(const std::vector<ClientHalf>& models) {
  SecretKeySet set;
  set.key_sets = key_sets_of(models);
  SecretGenerator random;
  const PlanOptions& options = models.front().spec.options;
  set.provenance = {.model = models.front().hash,
                    .key = {random.make_public_seed()},
                    .profile = options.profile,
                    .p_error = options.p_error,
                    .security_bits = options.security_bits};
  set.keys = SecretKeys::generate(set.key_sets.front(), random);
  return set;
}

EvaluationKeySet make_evaluation_keys(const SecretKeySet& keys,
                                      const std::vector<TfheParameters>& key_sets,
                                      const ProgressCallback& progress, int threads) {
  EvaluationKeySet made{keys.provenance, {}};
  SecretGenerator random;
  ProgressCounter counter(progress, steps_of(key_sets));
  with_threads(threads, [&] {
    for (const TfheParameters& parameters : key_sets) {
      const ProgressCallback step = [&](std::size_t, std::size_t) { counter.advance(); };
      made.keys.push_back(make_evaluation_keys(keys.keys, parameters, random, step));
    }
  });
  return made;
}

}  // namespace torusml
