#include "server/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>

namespace torusml {

void Log::write(const char* level, const char* event,
                const nlohmann::ordered_json& fields) noexcept {
  try {
    const auto now = std::chrono::system_clock::now();
    const auto milliseconds =
        std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() %
        1000;
    nlohmann::ordered_json line = {
        {"time", fmt::format("{:%FT%T}.{:03}Z",
                             fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds)},
        {"level", level},
        {"event", event}};
    line.update(fields);
    const std::string text =
        line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    const std::lock_guard lock(mutex_);
    sink_(text);
  } catch (...) {  // a log that cannot be written must not end a request
  }
}

LogSink stderr_sink() {
  return [](const std::string& line) { std::fwrite(line.data(), 1, line.size(), stderr); };
}

}  // namespace torusml
