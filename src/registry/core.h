// What tokens, keys and jobs of a registry share: folder, database, time, limits. Private to this
// room.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "registry/data_folder.h"
#include "registry/registry.h"
#include "registry/sqlite.h"

namespace torusml {

struct Core {
  Core(const std::string& path, const RegistryLimits& limits, bool serves, WallClock clock);
  ~Core();

  // Error invalid_argument, for what `torusml token` has no business with.
  void check_serves() const;
  std::int64_t now() const;  // seconds since 1970, as the machine's clock has them
  // Seconds that this registry has lived through: every age is a difference of these. mutex is
  // held.
  std::int64_t lived();
  void save_time();  // mutex is held

  const RegistryLimits limits;
  const WallClock clock;
  const bool serves;
  DataFolder folder;
  std::mutex mutex;  // of all below, and of what the stores say
  Database database;

 private:
  std::int64_t lived_ = 0, seen_ = 0;
};

// Letters, digits, '-', '_' and '.', not '.' first: a name of a file that leads nowhere else.
bool is_name(std::string_view text, std::size_t most);
// Error invalid_argument.
void check_tenant(const std::string& tenant);

}  // namespace torusml
