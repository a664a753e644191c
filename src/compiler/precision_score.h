// How far simulated outputs are from exact ones, under a target's criterion.
//
//   const PrecisionScore score(target, exact_outputs);
//   score.loss(simulated, samples) <= score.most_loss();
//
// Const use is concurrent, unless the caller's metric forbids it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/precision_search.h"
#include "torusml/tensor.h"

namespace torusml {

// A tensor's rows along the first axis, in the order of `samples`.
template <class T>
Tensor<T> take_samples(const Tensor<T>& tensor, const std::vector<std::size_t>& samples) {
  const std::size_t elements = tensor.data.size() / static_cast<std::size_t>(tensor.shape[0]);
  Tensor<T> taken{tensor.shape, {}};
  taken.shape[0] = static_cast<std::int64_t>(samples.size());
  taken.data.reserve(samples.size() * elements);
  for (const std::size_t s : samples) {
    const auto first = tensor.data.begin() + static_cast<std::ptrdiff_t>(s * elements);
    taken.data.insert(taken.data.end(), first, first + static_cast<std::ptrdiff_t>(elements));
  }
  return taken;
}

template <class T>
std::vector<Tensor<T>> take_samples(const std::vector<Tensor<T>>& tensors,
                                    const std::vector<std::size_t>& samples) {
  std::vector<Tensor<T>> taken;
  for (const Tensor<T>& tensor : tensors) taken.push_back(take_samples(tensor, samples));
  return taken;
}

// Indices of calibration samples to choose by and, of the others, to judge the choice by.
struct SampleSplit {
  std::vector<std::size_t> chosen_by, held_out;
};

class PrecisionScore {
 public:
  // exact: floats of all calibration samples, by output. Error invalid_argument: a target out of
  // range, or a metric that is missing.
  PrecisionScore(const PrecisionTarget& target, const std::vector<Tensor<double>>& exact);

  Criterion criterion() const { return criterion_; }
  double most_loss() const { return most_loss_; }
  // So many samples at least tell whether the target is met.
  std::size_t least_samples() const;

  // A third and the rest, but no more than `most` and twice as many; drawn by the seed. Error
  // calibration_too_small says how many samples would do.
  SampleSplit split(std::size_t samples, std::size_t most, std::uint64_t seed) const;

  // "a loss of the relative error": what the target is about, for errors.
  std::string loss_text() const;

  // Of simulated outputs of these samples. Error invalid_argument: the metric is not finite.
  double loss(const std::vector<Tensor<double>>& simulated,
              const std::vector<std::size_t>& samples) const;

 private:
  double metric_of(const std::vector<Tensor<double>>& outputs,
                   const std::vector<std::size_t>& samples, const char* which) const;

  const PrecisionTarget& target_;
  const std::vector<Tensor<double>>& exact_;
  Criterion criterion_;
  double most_loss_ = 0;
};

}  // namespace torusml
