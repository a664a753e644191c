#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "base/progress.h"
#include "base/threads.h"
#include "tfhe/secret/exact_product.h"
#include "tfhe/secret_keys.h"
#include "tfhe/validate.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Writes the rows of the keys in wire form, of the key set that `out` names; each call works on one
// secret bit.
class KeyMaker {
 public:
  KeyMaker(const SecretBuffer<std::uint64_t>& big, SeededEvaluationKeys& out)
      : big_(big),
        out_(out),
        parameters_(out.parameters),
        sizes_(out.parameters),
        product_(out.parameters.polynomial_size, big) {}

  // All GLWE rows of one step of the blind rotation.
  void bootstrap_step(std::size_t step, SecretGenerator& random) const {
    const TfheParameters& p = parameters_;
    const std::size_t size = p.polynomial_size.value, k = p.glwe_dimension.value;
    const std::size_t rows = p.bootstrap.level_count * (k + 1);
    PublicGenerator masks(out_.seed);
    masks.seek(step * p.keys_per_step() * rows * k * size * sizeof(Torus));
    RowMaker maker(*this, masks, random);
    const std::size_t row_bytes = size * p.body_bytes();
    std::uint8_t* body = out_.bootstrap_bodies.data() + step * p.keys_per_step() * rows * row_bytes;
    for (std::uint32_t key = 0; key < p.keys_per_step(); ++key) {
      for (std::uint32_t level = 1; level <= p.bootstrap.level_count; ++level) {
        const Torus factor = step_message(step, key) << (64 - p.bootstrap.base_log2 * level);
        for (std::size_t r = 0; r <= k; ++r, body += row_bytes) maker.write_ggsw(factor, r, body);
      }
    }
  }

  // All 32-bit rows of bit j of the part of the big key that is not the small one.
  void keyswitch_bit(std::size_t j, SecretGenerator& random) const {
    const TfheParameters& p = parameters_;
    const std::size_t n = p.small_dimension.value, levels = p.keyswitch.level_count;
    PublicGenerator masks(out_.seed);
    masks.seek(sizes_.bootstrap_mask_bytes + j * levels * n * sizeof(std::uint32_t));
    AlignedBuffer<std::uint32_t> mask(n);
    SecretBuffer<Torus> noise(levels);
    random.fill_gaussian(noise, std::sqrt(p.small_variance.value));
    for (std::size_t level = 1; level <= levels; ++level) {
      masks.fill(mask);
      std::uint32_t body =
          static_cast<std::uint32_t>((noise[level - 1] + (std::uint64_t{1} << 31)) >> 32);
      for (std::size_t i = 0; i < n; ++i) {
        body += mask[i] * static_cast<std::uint32_t>(big_[i]);
      }
      body += static_cast<std::uint32_t>(big_[n + j]) << (32 - p.keyswitch.base_log2 * level);
      out_.keyswitch_bodies[j * levels + level - 1] = body;
    }
  }

  // All GLWE rows of the key of one automorphism, or, after the last one, of the secret's square.
  void trace_key(std::size_t key, SecretGenerator& random) const {
    const TfheParameters& p = parameters_;
    const std::size_t size = p.polynomial_size.value, levels = p.trace.level_count;
    PublicGenerator masks(out_.seed);
    masks.seek(sizes_.bootstrap_mask_bytes + sizes_.keyswitch_mask_bytes +
               key * levels * size * sizeof(Torus));
    SecretBuffer<Torus> message(size);
    if (key == static_cast<std::size_t>(std::countr_zero(size))) {
      ExactProduct::Scratch scratch(product_);
      product_.set_sum(big_, message, scratch);
    } else {
      const std::size_t power = (size >> key) + 1;
      for (std::size_t j = 0; j < size; ++j) {
        const std::size_t to = j * power % (2 * size);
        message[to % size] = to < size ? 0 - big_[j] : big_[j];
      }
    }
    RowMaker maker(*this, masks, random);
    const std::size_t row_bytes = size * p.body_bytes();
    std::uint8_t* body = out_.trace_bodies.data() + key * levels * row_bytes;
    for (std::uint32_t level = 1; level <= levels; ++level, body += row_bytes)
      maker.write(message, Torus{1} << (64 - p.trace.base_log2 * level), body);
  }

 private:
  // 1 for the key that matches the bits of the step, the others 0; computed without a branch.
  std::uint64_t step_message(std::size_t step, std::uint32_t key) const {
    if (parameters_.grouping_factor == 1) return big_[step];
    const std::uint64_t s = big_[2 * step], t = big_[2 * step + 1];
    if (key == 0) return s * (1 - t);
    return key == 1 ? (1 - s) * t : s * t;
  }

  // Writes bodies of GLWE rows, masks in the order of the generator.
  class RowMaker {
   public:
    RowMaker(const KeyMaker& maker, PublicGenerator& masks, SecretGenerator& random)
        : big_(maker.big_),
          parameters_(maker.parameters_),
          product_(maker.product_),
          masks_(masks),
          random_(random),
          mask_(big_.size()),
          noise_(parameters_.polynomial_size.value),
          inner_(noise_.size()),
          scratch_(product_) {}

    // factor * (r < k ? -S_r : 1).
    void write_ggsw(Torus factor, std::size_t r, std::uint8_t* body) {
      encrypt_zero();
      if (r == parameters_.glwe_dimension.value) {
        inner_[0] += factor;
      } else {
        add({big_.data() + r * inner_.size(), inner_.size()}, 0 - factor);
      }
      write_words(body);
    }

    // factor * message.
    void write(std::span<const Torus> message, Torus factor, std::uint8_t* body) {
      encrypt_zero();
      add(message, factor);
      write_words(body);
    }

   private:
    void encrypt_zero() {
      masks_.fill(mask_);
      product_.set_sum(mask_, inner_, scratch_);
      random_.fill_gaussian(noise_, std::sqrt(parameters_.glwe_variance.value));
    }

    void add(std::span<const Torus> message, Torus factor) {
      for (std::size_t j = 0; j < inner_.size(); ++j) inner_[j] += factor * message[j];
    }

    void write_words(std::uint8_t* body) const {
      const std::size_t size = inner_.size();
      const std::size_t bytes = parameters_.body_bytes();
      const Torus half_unit = bytes == 8 ? 0 : Torus{1} << (63 - 8 * bytes);
      for (std::size_t j = 0; j < size; ++j) {
        const Torus word = inner_[j] + noise_[j] + half_unit;
        for (std::size_t i = bytes; i-- > 0;) {
          *body++ = static_cast<std::uint8_t>(word >> (56 - 8 * i));
        }
      }
    }

    const SecretBuffer<std::uint64_t>& big_;
    const TfheParameters& parameters_;
    const ExactProduct& product_;
    PublicGenerator& masks_;
    SecretGenerator& random_;
    AlignedBuffer<Torus> mask_;
    SecretBuffer<Torus> noise_, inner_;
    ExactProduct::Scratch scratch_;
  };

  const SecretBuffer<std::uint64_t>& big_;
  SeededEvaluationKeys& out_;
  const TfheParameters& parameters_;
  const KeySizes sizes_;
  const ExactProduct product_;
};

void check_keys(const SecretKeys& keys, const TfheParameters& parameters) {
  check_parameters(keys.parameters);
  const std::size_t big = keys.parameters.big_dimension().value;
  if (keys.big.size() != big) {
    throw Error(
        ErrorCode::wrong_key,
        fmt::format("the secret key has {} bits, its parameters ask for {}", keys.big.size(), big),
        "secret keys");
  }
  check_parameters(parameters);
  if (shares_big_key(parameters, keys.parameters)) return;
  throw Error(
      ErrorCode::wrong_key,
      fmt::format("a key set of big dimension {} with noise 2^{:.2f} under a secret key of "
                  "{} and 2^{:.2f}",
                  parameters.big_dimension().value, 0.5 * std::log2(parameters.glwe_variance.value),
                  big, 0.5 * std::log2(keys.parameters.glwe_variance.value)),
      "secret keys");
}

// A generator per task, made in order before the tasks run: results do not depend on scheduling.
std::vector<SecretGenerator> split_all(SecretGenerator& random, std::size_t count) {
  std::vector<SecretGenerator> generators;
  generators.reserve(count);
  for (std::size_t i = 0; i < count; ++i) generators.push_back(random.split());
  return generators;
}

constexpr std::size_t kKeyswitchTask = 64;  // bits

}  // namespace

SeededEvaluationKeys make_evaluation_keys(const SecretKeys& keys, SecretGenerator& random,
                                          const ProgressCallback& progress) {
  return make_evaluation_keys(keys, keys.parameters, random, progress);
}

SeededEvaluationKeys make_evaluation_keys(const SecretKeys& keys, const TfheParameters& parameters,
                                          SecretGenerator& random,
                                          const ProgressCallback& progress) {
  check_keys(keys, parameters);
  SeededEvaluationKeys out;
  out.parameters = parameters;
  out.seed = random.make_public_seed();
  if (!parameters.has_bootstrap()) return out;

  const KeySizes sizes(parameters);
  out.bootstrap_bodies.resize(sizes.bootstrap_bodies);
  out.keyswitch_bodies.resize(sizes.keyswitch_bodies);
  out.trace_bodies.resize(sizes.trace_bodies);
  const KeyMaker maker(keys.big, out);
  const std::size_t small = parameters.small_dimension.value, rest = keys.big.size() - small;
  const std::size_t steps = small / parameters.grouping_factor;
  const std::size_t tasks = (rest + kKeyswitchTask - 1) / kKeyswitchTask;
  auto generators = split_all(random, steps + tasks + sizes.trace_keys);
  ProgressCounter counter(progress, steps);
  parallel_for(steps, [&](std::size_t i) {
    maker.bootstrap_step(i, generators[i]);
    counter.advance();
  });
  parallel_for(tasks, [&](std::size_t task) {
    const std::size_t end = std::min(rest, (task + 1) * kKeyswitchTask);
    for (std::size_t j = task * kKeyswitchTask; j < end; ++j) {
      maker.keyswitch_bit(j, generators[steps + task]);
    }
  });
  parallel_for(sizes.trace_keys,
               [&](std::size_t i) { maker.trace_key(i, generators[steps + tasks + i]); });
  return out;
}

}  // namespace torusml
