#include "tfhe/prepared_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/progress.h"
#include "base/threads.h"
#include "random/generator.h"
#include "tfhe/validate.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kPitchWords = 16;  // of the keyswitch key: a 512-bit vector

void check_sizes(const SeededEvaluationKeys& seeded) {
  const KeySizes sizes(seeded.parameters);
  if (seeded.bootstrap_bodies.size() != sizes.bootstrap_bodies ||
      seeded.keyswitch_bodies.size() != sizes.keyswitch_bodies ||
      seeded.trace_bodies.size() != sizes.trace_bodies) {
    throw Error(ErrorCode::wrong_key,
                fmt::format("the evaluation keys hold {} bytes, {} words and {} bytes where their "
                            "parameters ask for {}, {} and {}",
                            seeded.bootstrap_bodies.size(), seeded.keyswitch_bodies.size(),
                            seeded.trace_bodies.size(), sizes.bootstrap_bodies,
                            sizes.keyswitch_bodies, sizes.trace_bodies),
                "evaluation keys");
  }
}

Torus body_from_bytes(const std::uint8_t* bytes, std::size_t count) {
  Torus word = 0;
  for (std::size_t i = 0; i < count; ++i) word |= Torus{bytes[i]} << (64 - 8 * (count - i));
  return word;
}

// All rows of the keys of one step: masks from the generator, bodies from the bytes.
void write_rows(PublicGenerator& masks, const std::uint8_t* bytes, std::size_t body_bytes,
                const StepShape& shape, std::size_t size, MatrixWriter& writer, double* matrix) {
  const std::size_t k = shape.columns - 1;
  AlignedBuffer<Torus> mask(size), body(size);
  for (std::size_t row = 0; row < shape.keys * shape.rows; ++row) {
    for (std::size_t column = 0; column < k; ++column) {
      masks.fill(mask);
      writer.write(mask, row, column, matrix);
    }
    for (std::size_t j = 0; j < size; ++j, bytes += body_bytes) {
      body[j] = body_from_bytes(bytes, body_bytes);
    }
    writer.write(body, row, k, matrix);
  }
}

void prepare_step(const SeededEvaluationKeys& seeded, const EvaluationKeys::State& shapes,
                  std::size_t step, double* matrix) {
  const std::size_t size = shapes.size(), rows = shapes.step.keys * shapes.step.rows;
  PublicGenerator masks(seeded.seed);
  masks.seek(step * rows * (shapes.polynomials() - 1) * size * sizeof(Torus));
  MatrixWriter writer(seeded.parameters.polynomial_size, shapes.step);
  const std::size_t body_bytes = seeded.parameters.body_bytes();
  write_rows(masks, seeded.bootstrap_bodies.data() + step * rows * size * body_bytes, body_bytes,
             shapes.step, size, writer, matrix);
}

void prepare_trace_key(const SeededEvaluationKeys& seeded, const EvaluationKeys::State& shapes,
                       std::size_t key, double* matrix) {
  const std::size_t size = shapes.size(), rows = shapes.trace_step.rows;
  const KeySizes sizes(seeded.parameters);
  PublicGenerator masks(seeded.seed);
  masks.seek(sizes.bootstrap_mask_bytes + sizes.keyswitch_mask_bytes +
             key * rows * size * sizeof(Torus));
  MatrixWriter writer(seeded.parameters.polynomial_size, shapes.trace_step, kHalfNegated);
  const std::size_t body_bytes = seeded.parameters.body_bytes();
  write_rows(masks, seeded.trace_bodies.data() + key * rows * size * body_bytes, body_bytes,
             shapes.trace_step, size, writer, matrix);
}

// The rows of one bit of the big key.
void prepare_keyswitch_bit(const SeededEvaluationKeys& seeded, const EvaluationKeys::State& shapes,
                           std::size_t bit, std::uint32_t* rows) {
  const std::size_t levels = shapes.parameters.keyswitch.level_count, n = shapes.small();
  const std::size_t first = bit * levels;
  PublicGenerator masks(seeded.seed);
  masks.seek(KeySizes(shapes.parameters).bootstrap_mask_bytes + first * n * sizeof(std::uint32_t));
  for (std::size_t level = 0; level < levels; ++level, rows += shapes.keyswitch_pitch) {
    masks.fill(std::span(rows, n));
    rows[n] = seeded.keyswitch_bodies[first + level];
  }
}

void check(const SeededEvaluationKeys& seeded) {
  check_parameters(seeded.parameters);
  check_sizes(seeded);
}

template <class Word>
std::span<const std::uint8_t> bytes_of(std::span<const Word> words) {
  return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size_bytes()};
}

template <class Word>
std::span<const Word> words_of(const FileMapping& file, std::size_t offset, std::size_t count) {
  return {reinterpret_cast<const Word*>(file.bytes().data() + offset), count};
}

// Whether make(i, words) writes what stands in `part`, for its first and its last piece.
template <class Word>
bool ends_match(std::span<const Word> part, std::size_t pieces,
                const std::function<void(std::size_t, Word*)>& make) {
  if (pieces == 0) return true;
  AlignedBuffer<Word> piece(part.size() / pieces);
  for (const std::size_t i : {std::size_t{0}, pieces - 1}) {
    make(i, piece.data());
    if (std::memcmp(piece.data(), part.data() + i * piece.size(), piece.size() * sizeof(Word)) != 0)
      return false;
  }
  return true;
}

}  // namespace

MatrixWriter::MatrixWriter(PolynomialSize size, const StepShape& shape, double factor)
    : shape_(shape),
      plan_(fft_plan(size)),
      scale_(factor * 0x1p-64 / static_cast<double>(plan_.points)),
      values_(2 * plan_.points),
      work_(2 * plan_.points),
      transformed_(2 * plan_.points) {}

void MatrixWriter::write(std::span<const Torus> words, std::size_t row, std::size_t column,
                         double* matrix) {
  for (std::size_t j = 0; j < words.size(); ++j) {
    values_[j] = static_cast<double>(static_cast<std::int64_t>(words[j])) * scale_;
  }
  current_kernels().forward(plan_, values_.data(), work_.data(), transformed_.data());
  constexpr std::size_t kCell = 2 * kGroupPoints;
  const std::size_t cells = shape_.keys * shape_.rows * shape_.columns;
  const std::size_t cell = row * shape_.columns + column;
  for (std::size_t group = 0; group < plan_.points / kGroupPoints; ++group) {
    std::copy_n(transformed_.data() + group * kCell, kCell,
                matrix + (group * cells + cell) * kCell);
  }
}

EvaluationKeys::State::State(const TfheParameters& parameters) : parameters(parameters) {
  if (!parameters.has_bootstrap()) return;
  step = {.keys = parameters.keys_per_step(),
          .rows = polynomials() * parameters.bootstrap.level_count,
          .columns = polynomials(),
          .row_pitch = row_pitch(size())};
  keyswitch_pitch = (small() + kPitchWords) / kPitchWords * kPitchWords;
  if (!parameters.has_trace()) return;
  trace_step = {.keys = 1,
                .rows = parameters.trace.level_count,
                .columns = polynomials(),
                .row_pitch = row_pitch(size())};
}

std::size_t EvaluationKeys::State::bootstrap_size() const {
  return parameters.has_bootstrap() ? steps() * step.matrix_doubles(size() / 2) : 0;
}

std::size_t EvaluationKeys::State::keyswitch_size() const {
  return parameters.has_bootstrap() ? keyswitch_rows() * keyswitch_pitch : 0;
}

std::size_t EvaluationKeys::State::trace_size() const {
  if (!parameters.has_trace()) return 0;
  return KeySizes(parameters).trace_keys * trace_step.matrix_doubles(size() / 2);
}

EvaluationKeys EvaluationKeys::prepare(const SeededEvaluationKeys& seeded,
                                       const ProgressCallback& progress) {
  check(seeded);
  auto state = std::make_unique<State>(seeded.parameters);
  if (!seeded.parameters.has_bootstrap()) return EvaluationKeys(std::move(state));

  PreparedBuffers buffers{AlignedBuffer<double>(state->bootstrap_size()),
                          AlignedBuffer<std::uint32_t>(state->keyswitch_size()),
                          AlignedBuffer<double>(state->trace_size())};
  const std::size_t bits = state->big() - state->small();
  const std::size_t points = state->size() / 2;
  ProgressCounter counter(progress, state->steps() + bits);
  parallel_for(state->steps(), [&](std::size_t step) {
    prepare_step(seeded, *state, step,
                 buffers.bootstrap.data() + step * state->step.matrix_doubles(points));
    counter.advance();
  });
  const std::size_t bit_words = state->parameters.keyswitch.level_count * state->keyswitch_pitch;
  parallel_for(bits, [&](std::size_t bit) {
    prepare_keyswitch_bit(seeded, *state, bit, buffers.keyswitch.data() + bit * bit_words);
    counter.advance();
  });
  parallel_for(KeySizes(seeded.parameters).trace_keys, [&](std::size_t key) {
    prepare_trace_key(seeded, *state, key,
                      buffers.trace.data() + key * state->trace_step.matrix_doubles(points));
  });
  state->bootstrap = buffers.bootstrap;
  state->keyswitch = buffers.keyswitch;
  state->trace = buffers.trace;
  state->memory = std::move(buffers);
  return EvaluationKeys(std::move(state));
}

EvaluationKeys EvaluationKeys::over(FileMapping file, const TfheParameters& parameters,
                                    const PartSizes& offsets) {
  auto state = std::make_unique<State>(parameters);
  state->bootstrap = words_of<double>(file, offsets[0], state->bootstrap_size());
  state->keyswitch = words_of<std::uint32_t>(file, offsets[1], state->keyswitch_size());
  state->trace = words_of<double>(file, offsets[2], state->trace_size());
  state->memory = std::move(file);
  return EvaluationKeys(std::move(state));
}

PartSizes EvaluationKeys::part_sizes(const SeededEvaluationKeys& seeded) {
  check(seeded);
  const State shapes(seeded.parameters);
  return {shapes.bootstrap_size() * sizeof(double), shapes.keyswitch_size() * sizeof(std::uint32_t),
          shapes.trace_size() * sizeof(double)};
}

PreparedParts EvaluationKeys::parts() const {
  return {bytes_of(state_->bootstrap), bytes_of(state_->keyswitch), bytes_of(state_->trace)};
}

bool EvaluationKeys::begin_and_end_as(const SeededEvaluationKeys& seeded) const {
  check(seeded);
  const State& state = *state_;
  if (!(seeded.parameters == state.parameters)) return false;
  if (!state.parameters.has_bootstrap()) return true;
  return ends_match<double>(state.bootstrap, state.steps(),
                            [&](std::size_t step, double* matrix) {
                              prepare_step(seeded, state, step, matrix);
                            }) &&
         ends_match<std::uint32_t>(state.keyswitch, state.big() - state.small(),
                                   [&](std::size_t bit, std::uint32_t* rows) {
                                     prepare_keyswitch_bit(seeded, state, bit, rows);
                                   }) &&
         ends_match<double>(state.trace, KeySizes(state.parameters).trace_keys,
                            [&](std::size_t key, double* matrix) {
                              prepare_trace_key(seeded, state, key, matrix);
                            });
}

EvaluationKeys::EvaluationKeys(std::unique_ptr<State> state) : state_(std::move(state)) {}
EvaluationKeys::~EvaluationKeys() = default;
EvaluationKeys::EvaluationKeys(EvaluationKeys&&) noexcept = default;
EvaluationKeys& EvaluationKeys::operator=(EvaluationKeys&&) noexcept = default;

const TfheParameters& EvaluationKeys::parameters() const { return state_->parameters; }

std::size_t EvaluationKeys::bootstrap_bytes() const {
  return (state_->bootstrap.size() + state_->trace.size()) * sizeof(double);
}

std::size_t EvaluationKeys::keyswitch_bytes() const {
  return state_->keyswitch.size() * sizeof(std::uint32_t);
}

}  // namespace torusml
