// The cost table of this machine: what the cost model assumes of the kernels, measured.
//
//   CostTable table = measure_cost_table(progress);
//   save_cost_table(table, "costs.json");          // artifact/cost_table_file.h
//
// Steps of the blind rotation are timed at both grouping factors, in batches, with keys beyond the
// caches; a step's time is 4 transforms and 6 (one GGSW) or 18 (three) multiplications at k = 1 and
// l = 1, so the two times give both. Cost: about half a minute on one core.
// Thread rule: runs on the calling thread, which should have a core to itself.
#pragma once

#include "parameters/cost_table.h"
#include "torusml/progress.h"

namespace torusml {

// progress counts polynomial sizes.
CostTable measure_cost_table(const ProgressCallback& progress = {});

}  // namespace torusml
