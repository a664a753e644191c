#include "cli/key_set_text.h"

#include <fmt/format.h>

#include "cli/human.h"

namespace torusml {

std::string one_key_set_text(const OneKeySet& one) {
  return fmt::format(
      "one key set, {}, would take about {} on one core, with evaluation keys of {} in memory, {} "
      "on the wire",
      one.name, human_seconds(one.cost_ms_per_core / 1000),
      human_bytes(static_cast<std::uint64_t>(one.key_bytes.memory)),
      human_bytes(static_cast<std::uint64_t>(one.key_bytes.wire)));
}

}  // namespace torusml
