// What goes wrong at lookups, counted node by node: the same judge for simulated and encrypted
// runs.
//
//   FlipCounts counts;
//   run_simulated(circuit, plan, inputs, seed, {}, &counts);
//   const double rate = counts[node].flip_rate();
//
// An event is one table read of one value. It is judged by two phases alone. v is the integer of
// the domain nearest to the phase that the operand has before keyswitch and modulus switch, and
// T(v) what the table has there, so that errors of earlier layers do not count again. r is the
// integer of the result's interval nearest to the phase that the lookup gives.
//
//   flips  r is not T(v).
//   far    r is none of T(v - 1), T(v), T(v + 1); neighbours beyond the domain are its ends. The
//          wrong answers that a neighbouring value does not explain; some of the flips.
//   wraps  of the far ones, those that are what is read beyond the table: the negative of the entry
//          at the other end of the domain, or, of an odd lookup, that entry itself; unless the
//          table has r nearer to v than the end of v's guard band is. Wide lookups have none.
//
// So a read of the wrong index is no event to count where entries are equal, and one beyond the
// guard band none where its negative happens to be right: what is counted can be seen in results.
// Both executors round what they judge in doubles.
//
// Where the noise of the result is not small beside one integer of it, r may differ without a wrong
// index. run_simulated leaves that noise out and counts what is read; a run on ciphertexts cannot.
// Thread rule: const use is concurrent. Cost: some 10 ns an event.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "tfhe/types.h"

namespace torusml {

struct LookupCounts {
  std::uint64_t events = 0, flips = 0, far = 0, wraps = 0;

  double flip_rate() const { return rate(flips); }
  double far_rate() const { return rate(far); }
  LookupCounts& operator+=(const LookupCounts& other);
  friend bool operator==(const LookupCounts&, const LookupCounts&) = default;

 private:
  double rate(std::uint64_t count) const {
    return events == 0 ? 0 : static_cast<double>(count) / static_cast<double>(events);
  }
};

using FlipCounts = std::map<std::size_t, LookupCounts>;  // by index of the lookup's node
FlipCounts& operator+=(FlipCounts& counts, const FlipCounts& other);
LookupCounts total(const FlipCounts& counts);

// The judge of one lookup node. Circuit and plan must outlive it.
class LookupJudge {
 public:
  LookupJudge(const Circuit& circuit, const Plan& plan, std::size_t node);

  // Phases of one element: operands[i] of its value in some sample, results[i] of what table
  // `table` gave for it.
  void count(std::size_t element, std::size_t table, std::span<const Torus> operands,
             std::span<const Torus> results, LookupCounts& counts) const;

 private:
  // Phases to the nearest integer of an interval.
  struct Grid {
    double units_per_word = 0, center = 0, lower = 0, upper = 0;

    Grid(const TensorPlan& tensor, Interval interval);
    std::int64_t nearest(Torus phase) const;
  };

  // Of a far event, at index v of the row.
  bool is_wrap(const std::int64_t* entries, std::int64_t size, std::int64_t v, std::int64_t r,
               std::size_t table) const;

  const Lut& lut_;
  Grid operand_;
  std::vector<Grid> results_;          // by table
  std::vector<std::int64_t> mirrors_;  // by table: entry a becomes mirror - a beyond the table
  bool is_odd_ = false, is_wide_ = false;
  double guard_ = 0;
};

}  // namespace torusml
