// Time of linear layers on ciphertexts of dimension 2048, weights of 8 bits.
//
//   linear_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Every result is compared with one axpy over the whole ciphertext per weight, which is also
// measured, as `axpy_*`. Counters: GMAC/s counts a product of a weight other than zero and a word;
// GB/s counts operands and results once.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/threads.h"
#include "tfhe/kernels.h"
#include "tfhe/linear.h"

namespace torusml {
namespace {

constexpr LweDimension kDimension{2048};

struct Case {
  std::size_t rows, columns, of_row;  // of_row: weights other than zero in a row
};

struct Layer {
  std::size_t rows = 0, columns = 0;
  std::vector<std::int64_t> dense, row_start{0}, column, value;
  std::vector<std::uint32_t> pattern;  // each row has its own
  std::vector<std::int64_t> shift;

  DenseMatrix as_dense() const { return {rows, columns, dense}; }
  SparseMatrix as_sparse() const {
    return {rows, columns, row_start, column, value, pattern, shift};
  }
};

Layer make_layer(const Case& c, std::mt19937_64& random) {
  Layer layer{.rows = c.rows, .columns = c.columns};
  layer.dense.resize(c.rows * c.columns);
  for (std::size_t row = 0; row < c.rows; ++row) {
    std::vector<std::size_t> columns(c.columns);
    for (std::size_t i = 0; i < c.columns; ++i) columns[i] = i;
    std::ranges::shuffle(columns, random);
    columns.resize(c.of_row);
    std::ranges::sort(columns);
    for (const std::size_t column : columns) {
      const std::int64_t weight = static_cast<std::int64_t>(random() % 255 + 1) - 128;
      layer.dense[row * c.columns + column] = weight == 0 ? 127 : weight;
      layer.column.push_back(static_cast<std::int64_t>(column));
      layer.value.push_back(layer.dense[row * c.columns + column]);
    }
    layer.row_start.push_back(static_cast<std::int64_t>(layer.column.size()));
    layer.pattern.push_back(static_cast<std::uint32_t>(row));
    layer.shift.push_back(0);
  }
  return layer;
}

void axpy(const Layer& layer, const LweBatch& x, LweBatch& sums) {
  parallel_for(sums.count, [&](std::size_t i) {
    const std::size_t row = i % layer.rows, first = i / layer.rows * layer.columns;
    const std::span<Torus> sum = sums.row(i);
    const auto begin = static_cast<std::size_t>(layer.row_start[row]),
               end = static_cast<std::size_t>(layer.row_start[row + 1]);
    for (std::size_t e = begin; e < end; ++e) {
      const auto source = x.row(first + static_cast<std::size_t>(layer.column[e]));
      const auto factor = static_cast<Torus>(layer.value[e]);
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += factor * source[j];
    }
  });
}

// Arguments: rows, columns, weights of a row, batch, threads.
template <class Product>
void run(benchmark::State& state, const Product& product) {
  const Case c{static_cast<std::size_t>(state.range(0)), static_cast<std::size_t>(state.range(1)),
               static_cast<std::size_t>(state.range(2))};
  const auto batch = static_cast<std::size_t>(state.range(3));
  std::mt19937_64 random(7);
  const Layer layer = make_layer(c, random);
  LweBatch x(kDimension, batch * c.columns), sums(kDimension, batch * c.rows);
  for (Torus& word : x.words) word = random();
  LweBatch expected = sums;
  axpy(layer, x, expected);
  product(layer, x, sums);
  if (!std::ranges::equal(sums.words, expected.words)) state.SkipWithError("a wrong sum");
  for ([[maybe_unused]] auto _ : state) {
    with_threads(static_cast<int>(state.range(4)), [&] { product(layer, x, sums); });
  }
  const auto rate = [&](double count) {
    return benchmark::Counter(count * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  };
  const double words = 2049.0 * static_cast<double>(batch);
  state.counters["GMAC/s"] = rate(words * static_cast<double>(layer.value.size()));
  state.counters["GB/s"] = rate(8 * words * static_cast<double>(c.rows + c.columns));
}

void dense(benchmark::State& state) {
  run(state, [](const Layer& layer, const LweBatch& x, LweBatch& sums) {
    add_product(layer.as_dense(), x, sums);
  });
}

void sparse(benchmark::State& state) {
  run(state, [](const Layer& layer, const LweBatch& x, LweBatch& sums) {
    add_product(layer.as_sparse(), x, sums);
  });
}

void axpy_dense(benchmark::State& state) { run(state, axpy); }
void axpy_sparse(benchmark::State& state) { run(state, axpy); }

void dense_cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "columns", "of_row", "batch", "threads"});
  for (const std::int64_t batch : {1, 32}) {
    for (const std::int64_t threads : {1, 2}) {
      benchmark->Args({92, 92, 92, batch, threads})->Args({128, 784, 784, batch, threads});
    }
  }
  benchmark->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();
}

void sparse_cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "columns", "of_row", "batch", "threads"});
  for (const std::int64_t batch : {1, 32}) {
    for (const std::int64_t threads : {1, 2}) benchmark->Args({100, 100, 30, batch, threads});
  }
  benchmark->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();
}

BENCHMARK(dense)->Apply(dense_cases);
BENCHMARK(sparse)->Apply(sparse_cases);
BENCHMARK(axpy_dense)->Apply(dense_cases);
BENCHMARK(axpy_sparse)->Apply(sparse_cases);

}  // namespace
}  // namespace torusml

int main(int argc, char** argv) {
  benchmark::AddCustomContext("instruction set", torusml::current_kernels().target);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
