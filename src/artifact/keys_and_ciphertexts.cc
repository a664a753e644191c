#include "artifact/keys_and_ciphertexts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "parameters/catalogue.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// A name does not say the level of security; the noise does.
std::string name_of(const TfheParameters& p) {
  const auto sigma_log2 = [](Variance v) { return 0.5 * std::log2(v.value); };
  return p.has_bootstrap() ? fmt::format("{} (noise 2^{:.2f} and 2^{:.2f})", key_set_name(p),
                                         sigma_log2(p.small_variance), sigma_log2(p.glwe_variance))
                           : fmt::format("of dimension {} without bootstrap (noise 2^{:.2f})",
                                         p.big_dimension().value, sigma_log2(p.glwe_variance));
}

}  // namespace

void check_model(const ModelHash& expected, const ModelHash& found, const std::string& what) {
  if (expected == found) return;
  throw Error(ErrorCode::wrong_model,
              fmt::format("{} belongs to model {}, this is model {}", what, short_hex(found),
                          short_hex(expected)),
              "", "encrypt for this model, or take the model that it was encrypted for");
}

void check_key(const KeyId& expected, const KeyId& found, const std::string& what) {
  if (expected == found) return;
  throw Error(ErrorCode::wrong_key,
              fmt::format("{} is under key {}, this is key {}", what, short_hex(found),
                          short_hex(expected)),
              "", "take the secret key and the evaluation keys of one and the same key generation");
}

void check_key_sets(const std::vector<TfheParameters>& needed,
                    const std::vector<TfheParameters>& given, const std::string& what) {
  for (const TfheParameters& p : needed) {
    if (std::ranges::find(given, p) != given.end()) continue;
    std::string theirs;
    for (const TfheParameters& q : given) theirs += (theirs.empty() ? "" : ", ") + name_of(q);
    throw Error(ErrorCode::wrong_key,
                fmt::format("{} have no key set {}, which the model needs; they have {}", what,
                            name_of(p), theirs),
                "", "keys made by `torusml keygen` for this model");
  }
}

std::vector<TfheParameters> parameters_of(const std::vector<SeededEvaluationKeys>& keys) {
  std::vector<TfheParameters> parameters;
  for (const SeededEvaluationKeys& set : keys) parameters.push_back(set.parameters);
  return parameters;
}

}  // namespace torusml
