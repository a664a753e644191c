#include "runtime/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/human.h"
#include "base/threads.h"
#include "runtime/clear_part.h"
#include "runtime/lookup_table.h"
#include "tfhe/linear.h"
#include "tfhe/memory_use.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Ciphertexts of one tensor that are worked on at a time (16 KiB each at N = 2048): enough for all
// cores of a large machine.
constexpr std::size_t kCiphertextsAtOnce = 2048;

std::uint64_t size_of(const Circuit& circuit, ValueId value) {
  return static_cast<std::uint64_t>(number_of_elements(circuit.values[value].shape));
}

std::size_t columns_of(const Circuit& circuit, const LinearTerm& term) {
  if (const auto* dense = std::get_if<DenseWeight>(&term.weight))
    return static_cast<std::size_t>(dense->columns);
  return std::holds_alternative<SparseWeight>(term.weight) ? size_of(circuit, term.operand) : 0;
}

std::vector<ValueId> results_of(const Node& node) {
  if (const auto* input = std::get_if<Input>(&node.op)) return {input->result};
  if (const auto* linear = std::get_if<Linear>(&node.op)) return {linear->result};
  if (const auto* lut = std::get_if<Lut>(&node.op)) return lut->results;
  return {};
}

// Goes through the nodes as the executor does.
class MemoryWalk {
 public:
  MemoryWalk(const Circuit& circuit, const Plan& plan, const RunSize& size)
      : circuit_(circuit),
        plan_(plan),
        size_(size),
        is_clear_(clear_values(circuit)),
        last_use_(last_uses(circuit)),
        alive_(circuit.values.size(), false) {}

  MemoryEstimate peak() {
    const std::uint64_t ends = inputs_and_outputs(), constants = constant_bytes();
    MemoryEstimate highest;
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      MemoryEstimate here = at(n);
      for (const KeySet& set : plan_.key_sets) here.keys += prepared_key_bytes(set.parameters);
      here.ciphertexts += ends;
      here.tables += constants;
      if (n == 0 || here.total() > highest.total()) highest = std::move(here);
      for (std::size_t v = 0; v < alive_.size(); ++v) alive_[v] = alive_[v] && last_use_[v] > n;
    }
    return highest;
  }

 private:
  // A clear value is an integer.
  std::uint64_t of_value(ValueId value, std::size_t samples) const {
    if (is_clear_[value]) return samples * size_of(circuit_, value) * sizeof(std::int64_t);
    return of_ciphertexts(value, samples);
  }

  std::uint64_t of_ciphertexts(ValueId value, std::size_t samples) const {
    return ciphertext_bytes(plan_.key_sets.front().parameters, samples * size_of(circuit_, value));
  }

  std::uint64_t inputs_and_outputs() const {
    std::uint64_t bytes = 0;
    for (const Node& node : circuit_.nodes) {
      if (const auto* input = std::get_if<Input>(&node.op))
        bytes += of_value(input->result, size_.batch);
      else if (const auto* output = std::get_if<Output>(&node.op))
        bytes += of_ciphertexts(output->operand, size_.batch);
    }
    return bytes;
  }

  std::uint64_t constant_bytes() const {
    std::uint64_t words = 0;
    for (const Node& node : circuit_.nodes) {
      if (const auto* linear = std::get_if<Linear>(&node.op))
        words += size_of(circuit_, linear->result);
    }
    return words * sizeof(Torus);
  }

  MemoryEstimate at(std::size_t n) {
    const Node& node = circuit_.nodes[n];
    for (const ValueId result : results_of(node)) alive_[result] = true;
    MemoryEstimate estimate{.layer = node.name};
    for (ValueId v = 0; v < alive_.size(); ++v) {
      if (alive_[v]) estimate.ciphertexts += of_value(v, size_.at_once);
    }
    if (is_clear_node(node, is_clear_)) return estimate;
    if (const auto* output = std::get_if<Output>(&node.op); output && is_clear_[output->operand])
      estimate.ciphertexts += of_ciphertexts(output->operand, size_.at_once);  // made to leave
    if (const auto* linear = std::get_if<Linear>(&node.op)) {
      for (const LinearTerm& term : linear->terms) {
        if (is_clear_[term.operand]) continue;
        const std::uint64_t of_thread = product_scratch_bytes(columns_of(circuit_, term));
        estimate.scratch =
            std::max(estimate.scratch, of_thread * static_cast<std::uint64_t>(size_.threads));
      }
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      add_lookup(*lut, n, estimate);
    }
    return estimate;
  }

  void add_lookup(const Lut& lut, std::size_t n, MemoryEstimate& estimate) const {
    const LookupPlan& lookup = plan_.lookups.at(n);
    const TfheParameters& parameters = plan_.key_set_of(lookup).parameters;
    const std::uint64_t count = size_.at_once * size_of(circuit_, lut.operand);
    const std::uint64_t reads = count * lut.tables.size();
    std::uint64_t rows = 0;
    for (const Table& table : lut.tables) rows += static_cast<std::uint64_t>(table.rows);
    if (last_use_[lut.operand] > n)  // then the executor works on a copy
      estimate.ciphertexts += of_value(lut.operand, size_.at_once);
    if (lookup.wide.index_bits != 0) {
      estimate.tables = rows * wide_table_bytes(parameters.polynomial_size, lookup.wide);
      estimate.scratch = reads * sizeof(const WideTable*) +
                         wide_lookup_scratch_bytes(parameters, lookup.wide, count, size_.threads);
      return;
    }
    estimate.tables = rows * table_size(plan_, lookup) * sizeof(Torus);
    estimate.scratch =
        reads * sizeof(const Torus*) +
        bootstrap_scratch_bytes(parameters, lookup.rotation.extension_log2, count, size_.threads,
                                lookup.rotation.turns(lut.tables.size()));
  }

  const Circuit& circuit_;
  const Plan& plan_;
  const RunSize size_;
  const std::vector<bool> is_clear_;
  const std::vector<std::size_t> last_use_;
  std::vector<bool> alive_;
};

std::size_t samples_for_all_cores(const Circuit& circuit) {
  const std::vector<bool> is_clear = clear_values(circuit);
  std::size_t largest = 1;
  for (ValueId v = 0; v < circuit.values.size(); ++v) {
    if (!is_clear[v]) largest = std::max<std::size_t>(largest, size_of(circuit, v));
  }
  return std::max<std::size_t>(1, kCiphertextsAtOnce / largest);
}

// The largest number in [1, highest] for which `fits` holds, which holds for all below one for
// which it does; 0 if there is none.
template <class Fits>
std::size_t largest_that(std::size_t highest, const Fits& fits) {
  std::size_t good = 0, bad = highest + 1;
  while (bad - good > 1) {
    const std::size_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

std::string way_out(const Circuit& circuit, const Plan& plan, std::size_t batch, int threads,
                    std::uint64_t limit) {
  const auto fits = [&](std::size_t samples, int with_threads) {
    return estimate_memory(circuit, plan, {samples, 1, with_threads}).total() <= limit;
  };
  const std::size_t smaller = largest_that(batch, [&](std::size_t b) { return fits(b, threads); });
  if (smaller != 0) return fmt::format("a batch of {} or less", smaller);
  if (threads > 1 && fits(1, 1)) return "fewer threads and a smaller batch";
  return fmt::format("a limit of {} or more: one sample on one thread takes that much",
                     human_bytes(estimate_memory(circuit, plan, {}).total()));
}

}  // namespace

std::vector<std::size_t> last_uses(const Circuit& circuit) {
  std::vector<std::size_t> last(circuit.values.size(), 0);
  for (std::size_t n = 0; n < circuit.nodes.size(); ++n) {
    const Node& node = circuit.nodes[n];
    if (const auto* linear = std::get_if<Linear>(&node.op)) {
      for (const LinearTerm& term : linear->terms) last[term.operand] = n;
    } else if (const auto* lut = std::get_if<Lut>(&node.op)) {
      last[lut->operand] = n;
    } else if (const auto* output = std::get_if<Output>(&node.op)) {
      last[output->operand] = n;
    }
  }
  return last;
}

MemoryEstimate estimate_memory(const Circuit& circuit, const Plan& plan, const RunSize& size) {
  return MemoryWalk(circuit, plan, size).peak();
}

std::size_t choose_samples_at_once(const Circuit& circuit, const Plan& plan, std::size_t batch,
                                   const Limits& limits) {
  const std::size_t wanted = std::clamp<std::size_t>(batch, 1, samples_for_all_cores(circuit));
  const std::uint64_t limit = limits.memory_limit_bytes;
  const int threads = threads_used(limits.threads);
  if (limit == 0) return wanted;
  const std::size_t chosen = largest_that(wanted, [&](std::size_t at_once) {
    return estimate_memory(circuit, plan, {batch, at_once, threads}).total() <= limit;
  });
  if (chosen != 0) return chosen;
  const MemoryEstimate least = estimate_memory(circuit, plan, {batch, 1, threads});
  throw Error(ErrorCode::memory_limit_exceeded,
              fmt::format("a batch of {} on {} takes about {} at least ({} of keys, {} of "
                          "ciphertexts, {} of tables, {} of scratch), the limit is {}",
                          batch, threads == 1 ? "one thread" : fmt::format("{} threads", threads),
                          human_bytes(least.total()), human_bytes(least.keys),
                          human_bytes(least.ciphertexts), human_bytes(least.tables),
                          human_bytes(least.scratch), human_bytes(limit)),
              fmt::format("layer '{}'", least.layer),
              way_out(circuit, plan, batch, threads, limit));
}

void check_key_memory(const std::vector<TfheParameters>& key_sets, std::uint64_t held,
                      const Limits& limits) {
  std::uint64_t wire = 0, ready = 0;
  for (const TfheParameters& parameters : key_sets) {
    wire += seeded_key_bytes(parameters);
    ready += prepared_key_bytes(parameters);
  }
  if (limits.memory_limit_bytes == 0 || held + wire + ready <= limits.memory_limit_bytes) return;
  throw Error(ErrorCode::memory_limit_exceeded,
              fmt::format("the keys take {} as they came, {} as the kernels read them{}; the limit "
                          "is {}",
                          human_bytes(wire), human_bytes(ready),
                          held == 0 ? "" : ", and " + human_bytes(held) + " of earlier keys",
                          human_bytes(limits.memory_limit_bytes)),
              "evaluation keys",
              fmt::format("a limit of {} or more", human_bytes(held + wire + ready)));
}

}  // namespace torusml
