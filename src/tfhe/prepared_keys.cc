#include "tfhe/prepared_keys.h"

#include <fmt/format.h>

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
                fmt::format("the evaluation keys hold {} and {} words where their parameters ask "
                            "for {} and {}",
                            seeded.bootstrap_bodies.size(), seeded.keyswitch_bodies.size(),
                            sizes.bootstrap_bodies, sizes.keyswitch_bodies),
                "evaluation keys");
  }
}

// Transforms one polynomial of torus words into its cell of a matrix.
class MatrixWriter {
 public:
  explicit MatrixWriter(const EvaluationKeys::State& state)
      : shape_(state.product),
        plan_(fft_plan(state.parameters.polynomial_size)),
        work_(2 * shape_.points),
        transformed_(2 * shape_.points) {}

  void write(std::span<const Torus> words, std::size_t row, std::size_t column, double* matrix) {
    const double scale = 0x1p-64 / static_cast<double>(shape_.points);
    for (std::size_t j = 0; j < words.size(); ++j) {
      work_[j] = static_cast<double>(static_cast<std::int64_t>(words[j])) * scale;
    }
    current_kernels().forward(plan_, work_.data(), transformed_.data());
    const std::size_t cell = (row * shape_.columns + column) * 2 * kGroupPoints;
    for (std::size_t j = 0; j < shape_.points; ++j) {
      double* group = matrix + j / kGroupPoints * shape_.group_doubles() + cell;
      group[j % kGroupPoints] = transformed_[j];
      group[kGroupPoints + j % kGroupPoints] = transformed_[shape_.points + j];
    }
  }

 private:
  const ProductShape shape_;
  const FftPlan& plan_;
  AlignedBuffer<double> work_, transformed_;
};

void prepare_bootstrap_bit(const SeededEvaluationKeys& seeded, std::size_t bit,
                           EvaluationKeys::State& state) {
  const std::size_t size = state.size(), k = state.polynomials() - 1;
  PublicGenerator masks(seeded.seed);
  masks.seek(bit * state.product.rows * k * size * sizeof(Torus));
  MatrixWriter writer(state);
  AlignedBuffer<Torus> mask(size);
  double* matrix = state.bootstrap.data() + bit * state.product.matrix_doubles();
  for (std::size_t row = 0; row < state.product.rows; ++row) {
    for (std::size_t column = 0; column < k; ++column) {
      masks.fill(mask);
      writer.write(mask, row, column, matrix);
    }
    const std::size_t body = (bit * state.product.rows + row) * size;
    writer.write({seeded.bootstrap_bodies.data() + body, size}, row, k, matrix);
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
  state->product = {state->size() / 2,
                    state->polynomials() * seeded.parameters.bootstrap.level_count,
                    state->polynomials()};
  state->bootstrap = AlignedBuffer<double>(n * state->product.matrix_doubles());
  state->keyswitch_pitch = (n + kPitchWords) / kPitchWords * kPitchWords;
  state->keyswitch =
      AlignedBuffer<std::uint32_t>(seeded.keyswitch_bodies.size() * state->keyswitch_pitch);
  ProgressCounter counter(progress, n + state->big());
  parallel_for(n, [&](std::size_t bit) {
    prepare_bootstrap_bit(seeded, bit, *state);
    counter.advance();
  });
  parallel_for(state->big(), [&](std::size_t bit) {
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
