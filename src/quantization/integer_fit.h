// Integers, steps and shifts under which sums of given integers come nearest to given floats.
//
//   IntegerFit fit = fit_integers(features, targets, weights, {.bits = 3});
//   targets ~ scale[c] * (features * integers[c]) + shift[c]
//
// The least-squares problem of each channel is solved with floats, rounded one weight after the
// other while those that follow make up for the error (Frantar and Alistarh, "Optimal Brain
// Compression", 2022), for several steps, and improved by single moves of +-1 until none helps. The
// step and the shift are the best for the integers, in closed form.
//
// Cost: samples * parameters^2 + parameters^3, and about 20 * parameters^2 for each channel. Pure
// functions: the same numbers whatever the number of threads.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

namespace torusml {

using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct IntegerFitOptions {
  int bits = 8;                // of signed integers
  bool has_one_scale = false;  // for all channels, and positive
  double most_width = 0;       // of a channel's sums on the samples; 0: any
};

struct IntegerFit {
  std::vector<std::int64_t> integers;  // channels x parameters
  std::vector<double> scale, shift;    // by channel; scales are not 0, and may be negative
};

// features: samples x parameters. targets: samples x channels. weights: channels x parameters, what
// the targets were made of, by unit of a feature; they are kept where the samples do not say
// otherwise, and a channel that has weights of 0 keeps those. Under most_width steps grow until the
// sums fit, at worst until all integers are 0.
IntegerFit fit_integers(const RowMatrix& features, const RowMatrix& targets,
                        const RowMatrix& weights, const IntegerFitOptions& options);

// Squared error of the best real weights: what no integers can do better than.
double least_squares_error(const RowMatrix& features, const RowMatrix& targets,
                           const RowMatrix& weights);

}  // namespace torusml
