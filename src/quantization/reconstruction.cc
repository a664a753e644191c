#include "quantization/reconstruction.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "quantization/activation_calibration.h"

namespace torusml {
namespace {

constexpr double kClips[] = {1, 0.85, 0.7, 0.55, 0.4, 0.3};
constexpr double kEqualizations[] = {0, 0.5, 1};  // exponents of a channel's range
constexpr std::int64_t kSearchedPlaces = 4096;
constexpr std::int64_t kSearchedPlacesOfMany = 2048;  // of layers of more than kMany parameters
constexpr std::int64_t kMany = 512;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

struct Place {
  std::int64_t sample, position;
};

// Some of all pairs of a sample and a position, each at most once.
std::vector<Place> draw_places(std::int64_t samples, std::int64_t positions, std::int64_t most,
                               std::uint64_t seed) {
  std::vector<std::int64_t> all(size(samples * positions));
  std::iota(all.begin(), all.end(), 0);
  std::mt19937_64 random(seed);
  const std::int64_t count = std::min(most, samples * positions);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto left = static_cast<std::uint64_t>(samples * positions - i);
    std::swap(all[size(i)], all[size(i + static_cast<std::int64_t>(random() % left))]);
  }
  std::vector<Place> places;
  for (std::int64_t i = 0; i < count; ++i)
    places.push_back({all[size(i)] / positions, all[size(i)] % positions});
  return places;
}

RowMatrix features_of(const TiedWeights& tied, const TiedWeights::Pattern& pattern,
                      const std::vector<double>& operand, std::int64_t samples,
                      const std::vector<Place>& places) {
  const std::int64_t elements = static_cast<std::int64_t>(operand.size()) / samples;
  RowMatrix features(static_cast<Eigen::Index>(places.size()), tied.parameters);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const double* x = operand.data() + places[i].sample * elements;
    const std::int64_t* column = pattern.column.data() + places[i].position * tied.parameters;
    for (std::int64_t k = 0; k < tied.parameters; ++k)
      features(static_cast<Eigen::Index>(i), k) = column[k] < 0 ? 0 : x[column[k]];
  }
  return features;
}

RowMatrix targets_of(const TiedWeights& tied, const TiedWeights::Pattern& pattern,
                     const std::vector<double>& targets, const std::vector<Place>& places) {
  const std::int64_t elements = tied.channels * tied.positions;
  RowMatrix result(static_cast<Eigen::Index>(places.size()),
                   static_cast<Eigen::Index>(pattern.channels.size()));
  for (std::size_t i = 0; i < places.size(); ++i) {
    for (std::size_t c = 0; c < pattern.channels.size(); ++c) {
      const std::int64_t e =
          tied.element[size(pattern.channels[c] * tied.positions + places[i].position)];
      result(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(c)) =
          targets[size(places[i].sample * elements + e)];
    }
  }
  return result;
}

RowMatrix weights_of(const TiedWeights& tied, const TiedWeights::Pattern& pattern, double unit) {
  RowMatrix result(static_cast<Eigen::Index>(pattern.channels.size()), tied.parameters);
  for (std::size_t c = 0; c < pattern.channels.size(); ++c) {
    for (std::int64_t k = 0; k < tied.parameters; ++k)
      result(static_cast<Eigen::Index>(c), k) =
          unit * tied.value[size(pattern.channels[c] * tied.parameters + k)];
  }
  return result;
}

std::vector<double> largest_by_channel(const std::vector<double>& values, const Shape& shape) {
  const std::int64_t channels = shape.size() > 1 ? shape[1] : 1;
  const std::int64_t inner = number_of_elements(shape) / channels;
  std::vector<double> largest(size(channels), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    double& own = largest[i / size(inner) % size(channels)];
    own = std::max(own, std::abs(values[i]));
  }
  return largest;
}

std::vector<double> divisors(const std::vector<double>& largest, const Shape& shape,
                             double exponent) {
  const std::int64_t elements = number_of_elements(shape);
  const std::size_t inner = size(elements) / largest.size();
  const double common = *std::ranges::max_element(largest);
  std::vector<double> result;
  for (std::size_t e = 0; e < size(elements); ++e) {
    const double own = largest[e / inner];
    result.push_back(own > 0 ? std::pow(own / common, exponent) : 1);
  }
  return result;
}

std::vector<double> divided(std::vector<double> values, const std::vector<double>& divisor) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= divisor[i % divisor.size()];
  return values;
}

double error_of(const TiedWeights& tied, const OperandChoice& choice,
                const std::vector<double>& values, const std::vector<double>& targets,
                std::int64_t samples, const std::vector<Place>& places) {
  const std::vector<double> scaled = divided(values, choice.divisor);
  const std::vector<double> back = choice.quantizer.dequantize(choice.quantizer.quantize(scaled));
  double error = 0;
  for (const TiedWeights::Pattern& pattern : tied.patterns) {
    error += least_squares_error(features_of(tied, pattern, back, samples, places),
                                 targets_of(tied, pattern, targets, places),
                                 weights_of(tied, pattern, 1));
  }
  return error;
}

}  // namespace

OperandChoice choose_operand(const TiedWeights& tied, const std::vector<double>& values,
                             const Shape& shape, const std::vector<double>& targets, int bits,
                             bool equalizes, std::uint64_t seed) {
  const std::int64_t samples =
      static_cast<std::int64_t>(targets.size()) / (tied.channels * tied.positions);
  const std::int64_t most = tied.parameters > kMany ? kSearchedPlacesOfMany : kSearchedPlaces;
  const std::vector<Place> places = draw_places(samples, tied.positions, most, seed);
  const std::vector<double> largest = largest_by_channel(values, shape);
  OperandChoice best;
  double least = HUGE_VAL;
  for (const double exponent : kEqualizations) {
    if (exponent > 0 && (!equalizes || *std::ranges::max_element(largest) == 0)) break;
    OperandChoice choice{{}, divisors(largest, shape, exponent)};
    const MinMaxQuantizationStats range = min_max_stats(divided(values, choice.divisor));
    const double threshold = std::max(std::abs(range.rmin), std::abs(range.rmax));
    for (const double clip : kClips) {
      choice.quantizer = clipped_quantizer(range, bits, clip * threshold);
      const double error = error_of(tied, choice, values, targets, samples, places);
      if (error >= least) continue;
      least = error;
      best = choice;
    }
  }
  return best;
}

FittedLayer fit_layer(const TiedWeights& tied, const std::vector<double>& integers, double unit,
                      const std::vector<double>& targets, const IntegerFitOptions& options,
                      std::uint64_t seed) {
  const std::int64_t samples =
      static_cast<std::int64_t>(targets.size()) / (tied.channels * tied.positions);
  const std::vector<Place> places = draw_places(samples, tied.positions, kMostPlaces, seed);
  FittedLayer layer;
  layer.integers.resize(tied.value.size());
  layer.scale.resize(size(tied.channels));
  layer.shift.resize(size(tied.channels));
  for (const TiedWeights::Pattern& pattern : tied.patterns) {
    const IntegerFit fit = fit_integers(features_of(tied, pattern, integers, samples, places),
                                        targets_of(tied, pattern, targets, places),
                                        weights_of(tied, pattern, unit), options);
    for (std::size_t c = 0; c < pattern.channels.size(); ++c) {
      const std::int64_t channel = pattern.channels[c];
      layer.scale[size(channel)] = fit.scale[c];
      layer.shift[size(channel)] = fit.shift[c];
      std::copy_n(fit.integers.begin() + static_cast<std::ptrdiff_t>(c) * tied.parameters,
                  tied.parameters, layer.integers.begin() + channel * tied.parameters);
    }
  }
  return layer;
}

}  // namespace torusml
