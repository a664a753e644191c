// Encodings of a layer's accumulators, channel by channel: each channel is shifted by a constant,
// and may be multiplied by one, so that all of them fill one common interval.
//
//   circuit integer = factor * layer integer + offset
//
// The layer's bias and weights take both, tables undo them, so neither costs anything on
// ciphertexts. Pure functions.
#pragma once

#include <vector>

#include "circuit/circuit.h"
#include "lowering/ranges.h"

namespace torusml {

// Axis 1 of (batch, channels, ...); a neuron of a fully connected layer.
struct Channels {
  std::int64_t count = 1;
  std::int64_t inner = 1;  // elements of one channel, one after the other

  explicit Channels(const Shape& shape);
  std::size_t of(std::int64_t element) const {
    return static_cast<std::size_t>(element / inner % count);
  }
};

// By channel, over its elements.
std::vector<Interval> channel_hulls(const ElementRanges& ranges, const Channels& channels);

// Lays factor * own on the middle of `common`.
std::int64_t centring_offset(Interval own, std::int64_t factor, Interval common);

// An interval about 0 as wide as the widest channel's, and offsets that lay the middle of every
// channel on its middle.
struct Centring {
  Interval common;
  std::vector<std::int64_t> offset;  // by channel
};
Centring centre(const std::vector<Interval>& intervals);

// Factors under which no channel leaves `common` and no row of the weight becomes longer (L2) than
// the longest row is: the noise that the layer hands on does not grow. 1 where a factor per channel
// is not possible. O(weights).
std::vector<std::int64_t> channel_factors(const std::vector<Interval>& intervals, Interval common,
                                          const Weight& weight, const Channels& channels);

// Rows of the weight times their channel's factor.
void scale_rows(Weight& weight, const std::vector<std::int64_t>& factors, const Channels& channels);

// table(v) = original((v - offset) / factor), rounded to the nearest: the table of
// factor * x + offset, by channel, on the same domain. Equal rows are merged.
Table rescaled(const Table& table, const std::vector<std::int64_t>& factors,
               const std::vector<std::int64_t>& offsets, const Channels& channels,
               std::int64_t elements);

}  // namespace torusml
