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
      seeded.keyswitch_bodies.size() != sizes.keyswitch_bodies) {
    throw Error(ErrorCode::wrong_key,
                fmt::format("the evaluation keys hold {} bytes and {} words where their "
                            "parameters ask for {} and {}",
                            seeded.bootstrap_bodies.size(), seeded.keyswitch_bodies.size(),
                            sizes.bootstrap_bodies, sizes.keyswitch_bodies),
                "evaluation keys");
  }
}

// Transforms polynomials of torus words into their cells of a step's keys.
class MatrixWriter {
 public:
  explicit MatrixWriter(const EvaluationKeys::State& state)
      : shape_(state.step),
        plan_(fft_plan(state.parameters.polynomial_size)),
        values_(2 * plan_.points),
        work_(2 * plan_.points),
        transformed_(2 * plan_.points) {}

  // `row` counts the rows of all keys of the step.
  void write(std::span<const Torus> words, std::size_t row, std::size_t column, double* matrix) {
    const double scale = 0x1p-64 / static_cast<double>(plan_.points);
    for (std::size_t j = 0; j < words.size(); ++j) {
      values_[j] = static_cast<double>(static_cast<std::int64_t>(words[j])) * scale;
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

 private:
  const StepShape shape_;
  const FftPlan& plan_;
  AlignedBuffer<double> values_, work_, transformed_;
};

Torus body_from_bytes(const std::uint8_t* bytes, std::size_t count) {
  Torus word = 0;
  for (std::size_t i = 0; i < count; ++i) word |= Torus{bytes[i]} << (64 - 8 * (count - i));
  return word;
}

void prepare_step(const SeededEvaluationKeys& seeded, std::size_t step,
                  EvaluationKeys::State& state) {
  const std::size_t size = state.size(), k = state.polynomials() - 1;
  const std::size_t rows = state.step.keys * state.step.rows;
  PublicGenerator masks(seeded.seed);
  masks.seek(step * rows * k * size * sizeof(Torus));
  MatrixWriter writer(state);
  AlignedBuffer<Torus> mask(size), body(size);
  const std::size_t body_bytes = seeded.parameters.body_bytes();
  const std::uint8_t* bytes = seeded.bootstrap_bodies.data() + step * rows * size * body_bytes;
  double* matrix = state.bootstrap.data() + step * state.step.matrix_doubles(size / 2);
  for (std::size_t row = 0; row < rows; ++row) {
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
  return EvaluationKeys(std::move(state));
}

EvaluationKeys::EvaluationKeys(std::unique_ptr<State> state) : state_(std::move(state)) {}
EvaluationKeys::~EvaluationKeys() = default;
EvaluationKeys::EvaluationKeys(EvaluationKeys&&) noexcept = default;
EvaluationKeys& EvaluationKeys::operator=(EvaluationKeys&&) noexcept = default;

const TfheParameters& EvaluationKeys::parameters() const { return state_->parameters; }

std::size_t EvaluationKeys::bootstrap_bytes() const {
  return state_->bootstrap.size() * sizeof(double);
}

std::size_t EvaluationKeys::keyswitch_bytes() const {
  return state_->keyswitch.size() * sizeof(std::uint32_t);
}

}  // namespace torusml
