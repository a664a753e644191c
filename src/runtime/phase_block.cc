#include "runtime/phase_block.h"

#include "tfhe/linear.h"

namespace torusml {

void add_term(const Weight& weight, const LweBatch& x, LweBatch& sums,
              const ProgressCallback& progress) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    add_product(DenseMatrix{static_cast<std::size_t>(dense->rows),
                            static_cast<std::size_t>(dense->columns), dense->data},
                x, sums, progress);
  } else if (const auto* sparse = std::get_if<SparseWeight>(&weight)) {
    add_product(SparseMatrix{static_cast<std::size_t>(sparse->rows),
                             static_cast<std::size_t>(sparse->columns), sparse->pattern_start,
                             sparse->offset, sparse->value, sparse->pattern, sparse->shift},
                x, sums, progress);
  } else {
    add_multiple(std::get<ScaleWeight>(weight).factor, x, sums);
  }
}

}  // namespace torusml
