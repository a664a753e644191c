#include "tfhe/prepared_keys.h"

#include <fmt/format.h>

#include <algorithm>

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

void prepare_step(const SeededEvaluationKeys& seeded, std::size_t step,
                  EvaluationKeys::State& state) {
  const std::size_t size = state.size(), rows = state.step.keys * state.step.rows;
  PublicGenerator masks(seeded.seed);
  masks.seek(step * rows * (state.polynomials() - 1) * size * sizeof(Torus));
  MatrixWriter writer(seeded.parameters.polynomial_size, state.step);
  const std::size_t body_bytes = seeded.parameters.body_bytes();
  write_rows(masks, seeded.bootstrap_bodies.data() + step * rows * size * body_bytes, body_bytes,
             state.step, size, writer,
             state.bootstrap.data() + step * state.step.matrix_doubles(size / 2));
}

void prepare_trace_key(const SeededEvaluationKeys& seeded, std::size_t key,
                       EvaluationKeys::State& state) {
  const std::size_t size = state.size(), rows = state.trace_step.rows;
  const KeySizes sizes(seeded.parameters);
  PublicGenerator masks(seeded.seed);
  masks.seek(sizes.bootstrap_mask_bytes + sizes.keyswitch_mask_bytes +
             key * rows * size * sizeof(Torus));
  MatrixWriter writer(seeded.parameters.polynomial_size, state.trace_step, kHalfNegated);
  const std::size_t body_bytes = seeded.parameters.body_bytes();
  write_rows(masks, seeded.trace_bodies.data() + key * rows * size * body_bytes, body_bytes,
             state.trace_step, size, writer,
             state.trace.data() + key * state.trace_step.matrix_doubles(size / 2));
}

void prepare_trace(const SeededEvaluationKeys& seeded, EvaluationKeys::State& state) {
  const std::size_t keys = KeySizes(seeded.parameters).trace_keys;
  state.trace_step = {.keys = 1,
                      .rows = seeded.parameters.trace.level_count,
                      .columns = state.polynomials(),
                      .row_pitch = row_pitch(state.size())};
  state.trace = AlignedBuffer<double>(keys * state.trace_step.matrix_doubles(state.size() / 2));
  parallel_for(keys, [&](std::size_t key) { prepare_trace_key(seeded, key, state); });
}

void prepare_keyswitch_bit(const SeededEvaluationKeys& seeded, std::size_t bit,
                           EvaluationKeys::State& state) {
  const std::size_t levels = state.parameters.keyswitch.level_count, n = state.small();
  const std::size_t first = bit * levels;
  PublicGenerator masks(seeded.seed);
  masks.seek(KeySizes(state.parameters).bootstrap_mask_bytes + first * n * sizeof(std::uint32_t));
  for (std::size_t row = first; row < first + levels; ++row) {
    std::uint32_t* out = state.keyswitch.data() + row * state.keyswitch_pitch;
    masks.fill(std::span(out, n));
    out[n] = seeded.keyswitch_bodies[row];
  }
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

EvaluationKeys EvaluationKeys::prepare(const SeededEvaluationKeys& seeded,
                                       const ProgressCallback& progress) {
  check_parameters(seeded.parameters);
  check_sizes(seeded);
  auto state = std::make_unique<State>();
  state->parameters = seeded.parameters;
  if (!seeded.parameters.has_bootstrap()) return EvaluationKeys(std::move(state));

  const std::size_t n = state->small();
  state->step = {.keys = seeded.parameters.keys_per_step(),
                 .rows = state->polynomials() * seeded.parameters.bootstrap.level_count,
                 .columns = state->polynomials(),
                 .row_pitch = row_pitch(state->size())};
  state->bootstrap =
      AlignedBuffer<double>(state->steps() * state->step.matrix_doubles(state->size() / 2));
  state->keyswitch_pitch = (n + kPitchWords) / kPitchWords * kPitchWords;
  state->keyswitch =
      AlignedBuffer<std::uint32_t>(seeded.keyswitch_bodies.size() * state->keyswitch_pitch);
  const std::size_t rest = state->big() - n;
  ProgressCounter counter(progress, state->steps() + rest);
  parallel_for(state->steps(), [&](std::size_t step) {
    prepare_step(seeded, step, *state);
    counter.advance();
  });
  parallel_for(rest, [&](std::size_t bit) {
    prepare_keyswitch_bit(seeded, bit, *state);
    counter.advance();
  });
  if (seeded.parameters.has_circuit_bootstrap()) prepare_trace(seeded, *state);
  return EvaluationKeys(std::move(state));
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
