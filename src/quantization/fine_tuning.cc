#include "quantization/fine_tuning.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <span>

#include "base/progress.h"

namespace torusml {
namespace {

using Eigen::ArrayXf;
using Eigen::ArrayXXf;
using Eigen::Index;

constexpr double kLeastGain = 1e-7;  // of a move, relative
constexpr double kLastGain = 3e-3;   // of a pass that another one follows
constexpr double kTypicalPasses = 4;
constexpr std::uint64_t kShaken = 16;  // one weight of as many
constexpr double kExponential = 20;    // as many operations

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// Column e of `to` takes the value of `from`'s for each of `columns`.
void copy(const ArrayXXf& from, const std::vector<Index>& columns, ArrayXXf& to) {
  for (const Index e : columns) to.col(e) = from.col(e);
}

// Everything that a stage computes, and a copy of it in which moves are tried.
class Stage {
 public:
  explicit Stage(TunedStage& tuned) : tuned(tuned) {
    const TiedWeights& tied = tuned.tied;
    pattern_of.resize(size(tied.channels));
    for (std::size_t i = 0; i < tied.patterns.size(); ++i) {
      for (const std::int64_t c : tied.patterns[i].channels) pattern_of[size(c)] = i;
    }
  }

  std::int64_t element(std::int64_t channel, std::int64_t position) const {
    return tuned.tied.element[size(channel * tuned.tied.positions + position)];
  }

  void set_operand(ArrayXXf values) {
    operand = std::move(values);
    const TiedWeights& tied = tuned.tied;
    sums = ArrayXXf::Zero(operand.rows(), tied.channels * tied.positions);
    readers.assign(size(operand.cols()), {});
    for (std::size_t i = 0; i < tied.patterns.size(); ++i) {
      for (std::int64_t p = 0; p < tied.positions; ++p) {
        for (std::int64_t k = 0; k < tied.parameters; ++k) {
          const std::int64_t column = tied.patterns[i].column[size(p * tied.parameters + k)];
          if (column >= 0) readers[size(column)].push_back({i, p, k});
        }
      }
    }
    for (Index column = 0; column < operand.cols(); ++column)
      add(column, operand.col(column), sums, [](std::int64_t) {});
    tried_operand = operand;
    tried_sums = sums;
    is_touched.assign(size(sums.cols()), false);
    channel_of.resize(size(sums.cols()));
    for (std::size_t i = 0; i < tied.element.size(); ++i)
      channel_of[size(tied.element[i])] = static_cast<std::int64_t>(i) / tied.positions;
  }

  // sums += what a change of an operand's element does.
  template <class Touch>
  void add(Index column, const ArrayXf& change, ArrayXXf& to, const Touch& touch) const {
    const TiedWeights& tied = tuned.tied;
    for (const Reader& reader : readers[size(column)]) {
      for (const std::int64_t c : tied.patterns[reader.pattern].channels) {
        const auto weight =
            static_cast<float>(tuned.integers[size(c * tied.parameters + reader.parameter)]);
        if (weight == 0) continue;
        const std::int64_t e = element(c, reader.position);
        touch(e);
        to.col(e) += weight * change;
      }
    }
  }

  ArrayXf values(std::int64_t channel, std::int64_t e, const ArrayXXf& from) const {
    const double shift = tuned.shift[size(channel)] + tuned.bias[size(e)];
    return static_cast<float>(tuned.scale[size(channel)]) * from.col(e) + static_cast<float>(shift);
  }

  // What the next stage reads of an element.
  ArrayXf next(std::int64_t channel, std::int64_t e, const ArrayXXf& from) const {
    const ArrayXf y = values(channel, e, from);
    ArrayXf result = ArrayXf::Constant(y.size(), tuned.lowest);
    float* out = result.data();
    for (Index i = 0; i < tuned.thresholds.cols(); ++i) {
      const float threshold = tuned.thresholds(e, i);
      for (Index s = 0; s < y.size(); ++s) out[s] += y[s] >= threshold ? 1.0F : 0.0F;
    }
    return result;
  }

  ArrayXf output(std::int64_t channel, std::int64_t e, const ArrayXXf& from) const {
    return static_cast<float>(tuned.slope[size(e)]) * values(channel, e, from) +
           static_cast<float>(tuned.offset[size(e)]);
  }

  double work_of_sums() const {
    return double(tuned.tied.channels) * double(tuned.tied.positions) *
           double(tuned.tied.parameters);
  }
  double work_of_tables() const {
    return double(tuned.tied.channels) * double(tuned.tied.positions) *
           (tuned.is_last() ? kExponential : double(tuned.thresholds.cols()));
  }

  struct Reader {
    std::size_t pattern;
    std::int64_t position, parameter;
  };

  TunedStage& tuned;
  std::vector<std::size_t> pattern_of;
  std::vector<std::vector<Reader>> readers;  // by element of the operand
  ArrayXXf operand, sums;                    // samples x elements
  ArrayXXf tried_operand, tried_sums;
  std::vector<Index> touched_operand, touched_sums;
  std::vector<bool> is_touched;          // by element of the sums
  std::vector<std::int64_t> channel_of;  // the same
};

class Tuner {
 public:
  Tuner(std::vector<TunedStage>& stages, const ArrayXXf& inputs, const OutputLoss& loss,
        const FineTuning& options)
      : loss_(loss),
        options_(options),
        lowest_(-(std::int64_t{1} << (options.bits - 1))),
        highest_((std::int64_t{1} << (options.bits - 1)) - 1) {
    for (TunedStage& stage : stages) stages_.emplace_back(stage);
    for (std::size_t s = 0; s < stages_.size(); ++s)
      has_pairs_.push_back(work(s, true) <= options_.most_work_of_pairs);
    ArrayXXf operand = inputs;
    for (Stage& stage : stages_) {
      stage.set_operand(std::move(operand));
      operand = results(stage);
    }
    outputs_ = tried_outputs_ = std::move(operand);
    least_ = loss_.of(outputs_);
  }

  const ArrayXXf& outputs() const { return outputs_; }

  // Of one pass.
  double work() const {
    double sum = 0;
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      const double own = work(s, has_pairs_[s]);
      if (own <= options_.most_work) sum += own;
    }
    return sum;
  }

  double run(const ProgressCallback& progress) {
    std::vector<std::size_t> order;
    std::size_t channels = 0;
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      if (work(s, false) > options_.most_work) continue;
      order.push_back(s);
      channels += size(stages_[s].tuned.tied.channels);
    }
    const double affordable = options_.most_work_of_all / std::max(work(), 1.0);
    const int passes = std::clamp(static_cast<int>(std::min(affordable, 1e6)), 2, options_.passes);
    ProgressCounter counter(progress, channels * size(passes));
    for (int pass = 0; pass < passes; ++pass) {
      const double before = least_;
      for (const std::size_t s : order) {
        for (std::int64_t c = 0; c < stages_[s].tuned.tied.channels; ++c) {
          tune_channel(s, c);
          counter.advance();
        }
        if (stages_[s].tuned.is_last()) tune_scale(s);
      }
      if (before - least_ < kLastGain * before) break;
    }
    return least_;
  }

 private:
  static ArrayXXf results(const Stage& stage) {
    ArrayXXf result(stage.sums.rows(), stage.sums.cols());
    for (std::int64_t c = 0; c < stage.tuned.tied.channels; ++c) {
      for (std::int64_t p = 0; p < stage.tuned.tied.positions; ++p) {
        const std::int64_t e = stage.element(c, p);
        result.col(e) =
            stage.tuned.is_last() ? stage.output(c, e, stage.sums) : stage.next(c, e, stage.sums);
      }
    }
    return result;
  }

  // Of one pass, in operations.
  double work(std::size_t s, bool with_pairs) const {
    const Stage& stage = stages_[s];
    const TiedWeights& tied = stage.tuned.tied;
    const auto channels = double(tied.channels);
    double move = (2 * double(tied.positions) + stage.work_of_tables() / channels);
    for (std::size_t t = s + 1; t < stages_.size(); ++t) {
      const double sums = stages_[t].work_of_sums();
      move += (t == s + 1 ? sums / channels : sums) + stages_[t].work_of_tables();
    }
    const auto parameters = double(tied.parameters);
    const double pairs = with_pairs ? 2 * parameters * (parameters - 1) : 0;
    const double moves = channels * (4 * parameters + pairs + 12);
    return moves * move * static_cast<double>(loss_.samples());
  }

  // Carries a channel whose sums, step or shift are changed to the output, and keeps the change if
  // the loss falls.
  bool try_channel(std::size_t s, std::int64_t channel) {
    Stage& first = stages_[s];
    std::vector<Index> changed;  // outputs
    const auto finish = [&](Stage& stage, std::int64_t c, std::int64_t e, std::size_t at) {
      if (stage.tuned.is_last()) {
        tried_outputs_.col(e) = stage.output(c, e, stage.tried_sums);
        changed.push_back(e);
        return;
      }
      Stage& next = stages_[at + 1];
      next.tried_operand.col(e) = stage.next(c, e, stage.tried_sums);
      next.touched_operand.push_back(e);
    };
    for (std::int64_t p = 0; p < first.tuned.tied.positions; ++p)
      finish(first, channel, first.element(channel, p), s);
    for (std::size_t t = s + 1; t < stages_.size(); ++t) {
      carry(stages_[t]);
      for (const Index e : stages_[t].touched_sums)
        finish(stages_[t], stages_[t].channel_of[size(e)], e, t);
    }
    const double found = loss_.of(tried_outputs_);
    const bool is_better = found < least_ * (1 - kLeastGain);
    if (is_better) least_ = found;
    settle(s, channel, changed, is_better);
    return is_better;
  }

  static void carry(Stage& stage) {
    for (const Index column : stage.touched_operand) {
      const ArrayXf change = stage.tried_operand.col(column) - stage.operand.col(column);
      if ((change == 0).all()) continue;
      stage.add(column, change, stage.tried_sums, [&](std::int64_t e) {
        if (stage.is_touched[size(e)]) return;
        stage.is_touched[size(e)] = true;
        stage.touched_sums.push_back(e);
      });
    }
  }

  void settle(std::size_t s, std::int64_t channel, const std::vector<Index>& changed, bool keep) {
    Stage& first = stages_[s];
    for (std::int64_t p = 0; p < first.tuned.tied.positions; ++p)
      first.touched_sums.push_back(first.element(channel, p));
    for (std::size_t t = s; t < stages_.size(); ++t) {
      Stage& stage = stages_[t];
      copy(keep ? stage.tried_operand : stage.operand, stage.touched_operand,
           keep ? stage.operand : stage.tried_operand);
      copy(keep ? stage.tried_sums : stage.sums, stage.touched_sums,
           keep ? stage.sums : stage.tried_sums);
      for (const Index e : stage.touched_sums) stage.is_touched[size(e)] = false;
      stage.touched_operand.clear();
      stage.touched_sums.clear();
    }
    copy(keep ? tried_outputs_ : outputs_, changed, keep ? outputs_ : tried_outputs_);
  }

  void tune_channel(std::size_t s, std::int64_t channel) {
    TunedStage& tuned = stages_[s].tuned;
    const TiedWeights& tied = tuned.tied;
    std::vector<std::int64_t> free;  // but those that were pruned
    for (std::int64_t k = 0; k < tied.parameters; ++k) {
      if (tied.value[size(channel * tied.parameters + k)] != 0) free.push_back(k);
    }
    for (const std::int64_t k : free) {
      for (const std::int64_t by : {1, -1}) {
        const Move move[]{{k, by}};
        if (!move_weights(s, channel, move, false) && !tuned.is_last())
          move_weights(s, channel, move, true);
      }
    }
    for (std::size_t i = 0; i < free.size() && has_pairs_[s]; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        for (const std::int64_t by : {1, -1}) {
          for (const std::int64_t other : {1, -1}) {
            const Move moves[]{{free[i], by}, {free[j], other}};
            move_weights(s, channel, moves, !tuned.is_last());
          }
        }
      }
    }
    const double step = step_of(tuned, channel);
    for (const double by : {-0.5, -0.15, 0.15, 0.5})
      change_values(s, channel, 1, 1, tuned.is_last() ? (by < 0 ? -step : step) : by * step);
    if (tuned.is_last()) return;
    for (const double by : {0.9, 0.97, 1.03, 1.1}) change_values(s, channel, by, 1, 0);
    for (const double by : {0.8, 0.9, 1.1, 1.25}) change_values(s, channel, by, by, 0);
  }

  // Between two thresholds; of outputs a step of their accumulators.
  static double step_of(const TunedStage& tuned, std::int64_t channel) {
    if (tuned.is_last()) return std::abs(tuned.scale[size(channel)]);
    const std::int64_t e = tuned.tied.element[size(channel * tuned.tied.positions)];
    std::vector<float> finite;
    for (Index i = 0; i < tuned.thresholds.cols(); ++i) {
      if (std::isfinite(tuned.thresholds(e, i))) finite.push_back(tuned.thresholds(e, i));
    }
    if (finite.size() < 2) return std::abs(tuned.scale[size(channel)]);
    return double(finite.back() - finite.front()) / double(finite.size() - 1);
  }

  bool change_values(std::size_t s, std::int64_t channel, double scale_by, double shift_by,
                     double add) {
    TunedStage& tuned = stages_[s].tuned;
    double &scale = tuned.scale[size(channel)], &shift = tuned.shift[size(channel)];
    const double old_scale = scale, old_shift = shift;
    scale *= scale_by;
    shift = shift * shift_by + add;
    if (try_channel(s, channel)) return true;
    scale = old_scale;
    shift = old_shift;
    return false;
  }

  struct Move {
    std::int64_t parameter, by;
  };

  bool move_weights(std::size_t s, std::int64_t channel, std::span<const Move> moves,
                    bool with_refit) {
    Stage& stage = stages_[s];
    TunedStage& tuned = stage.tuned;
    std::int64_t* integers = tuned.integers.data() + channel * tuned.tied.parameters;
    const auto is_outside = [&](const Move& move) {
      const std::int64_t integer = integers[move.parameter] + move.by;
      return integer < lowest_ || integer > highest_;
    };
    if (std::ranges::any_of(moves, is_outside)) return false;
    double &scale = tuned.scale[size(channel)], &shift = tuned.shift[size(channel)];
    const double old_scale = scale, old_shift = shift;
    for (const Move& move : moves) {
      integers[move.parameter] += move.by;
      add_to_sums(stage, channel, move);
    }
    const bool is_possible = (!with_refit || refit(stage, channel)) && is_narrow(stage, channel);
    if (is_possible && try_channel(s, channel)) return true;
    for (const Move& move : moves) integers[move.parameter] -= move.by;
    scale = old_scale;
    shift = old_shift;
    if (!is_possible) settle(s, channel, {}, false);
    return false;
  }

  static void add_to_sums(Stage& stage, std::int64_t channel, const Move& move) {
    const TiedWeights& tied = stage.tuned.tied;
    const std::vector<std::int64_t>& column = tied.patterns[stage.pattern_of[size(channel)]].column;
    for (std::int64_t p = 0; p < tied.positions; ++p) {
      const std::int64_t from = column[size(p * tied.parameters + move.parameter)];
      if (from < 0) continue;
      stage.tried_sums.col(stage.element(channel, p)) +=
          static_cast<float>(move.by) * stage.operand.col(from);
    }
  }

  bool is_narrow(const Stage& stage, std::int64_t channel) const {
    if (options_.most_width == 0 || stage.tuned.is_last()) return true;
    double lower = HUGE_VAL, upper = -HUGE_VAL;
    for (std::int64_t p = 0; p < stage.tuned.tied.positions; ++p) {
      const auto sums = stage.tried_sums.col(stage.element(channel, p));
      lower = std::min(lower, double(sums.minCoeff()));
      upper = std::max(upper, double(sums.maxCoeff()));
    }
    return upper - lower <= options_.most_width;
  }

  // The step and shift under which the channel is nearest to the float network's.
  static bool refit(Stage& stage, std::int64_t channel) {
    TunedStage& tuned = stage.tuned;
    double n = 0, sum = 0, target = 0, squares = 0, product = 0;
    for (std::int64_t p = 0; p < tuned.tied.positions; ++p) {
      const std::int64_t e = stage.element(channel, p);
      const auto v = stage.tried_sums.col(e).cast<double>();
      const auto y = tuned.targets.col(e).cast<double>() - tuned.bias[size(e)];
      n += static_cast<double>(v.size());
      sum += v.sum();
      target += y.sum();
      squares += v.square().sum();
      product += (v * y).sum();
    }
    const double variance = squares - sum * sum / n;
    const double scale = variance > 0 ? (product - sum * target / n) / variance : 0;
    if (scale == 0) return false;
    tuned.scale[size(channel)] = scale;
    tuned.shift[size(channel)] = (target - scale * sum) / n;
    return true;
  }

  // Of the outputs, whose channels share it.
  void tune_scale(std::size_t s) {
    Stage& stage = stages_[s];
    for (const double by : {0.8, 0.9, 0.97, 1.03, 1.1, 1.25}) {
      const std::vector<double> before = stage.tuned.scale;
      for (double& scale : stage.tuned.scale) scale *= by;
      const ArrayXXf found = results(stage);
      const double value = loss_.of(found);
      if (value < least_ * (1 - kLeastGain)) {
        least_ = value;
        outputs_ = tried_outputs_ = found;
      } else {
        stage.tuned.scale = before;
      }
    }
  }

  std::vector<Stage> stages_;
  std::vector<bool> has_pairs_;  // moves of two weights, too
  const OutputLoss& loss_;
  const FineTuning options_;
  const std::int64_t lowest_, highest_;
  ArrayXXf outputs_, tried_outputs_;
  double least_ = 0;
};

// Some weights moved by +-1.
void shake(std::vector<TunedStage>& stages, int bits, std::mt19937_64& random) {
  const std::int64_t lowest = -(std::int64_t{1} << (bits - 1)), highest = -lowest - 1;
  for (TunedStage& stage : stages) {
    for (std::size_t i = 0; i < stage.integers.size(); ++i) {
      if (random() % kShaken != 0 || stage.tied.value[i] == 0) continue;
      const std::int64_t by = random() % 2 == 0 ? 1 : -1;
      stage.integers[i] = std::clamp(stage.integers[i] + by, lowest, highest);
    }
  }
}

}  // namespace

double fine_tune(std::vector<TunedStage>& stages, const ArrayXXf& inputs, OutputLoss loss,
                 const FineTuning& options, const ProgressCallback& progress) {
  loss.relate_to(Tuner(stages, inputs, loss, options).outputs());
  Tuner first(stages, inputs, loss, options);
  const double work = first.work() * kTypicalPasses;
  const int starts =
      std::clamp(static_cast<int>(std::min(options.most_work_of_all / std::max(work, 1.0), 1e6)), 1,
                 options.starts);
  const auto report = [&](int start) -> ProgressCallback {
    if (!progress) return {};
    return [&progress, start, starts](std::size_t done, std::size_t total) {
      progress(done + static_cast<std::size_t>(start) * total,
               total * static_cast<std::size_t>(starts));
    };
  };
  double least = first.run(report(0));
  std::mt19937_64 random(options.seed);
  for (int start = 1; start < starts; ++start) {
    std::vector<TunedStage> shaken = stages;
    shake(shaken, options.bits, random);
    const double found = Tuner(shaken, inputs, loss, options).run(report(start));
    if (found >= least) continue;
    least = found;
    stages = std::move(shaken);
  }
  return least;
}

}  // namespace torusml
