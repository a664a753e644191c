// The server's log: one JSON object a line. Never payloads, tokens or keys.
//
//   Log log([](const std::string& line) { std::fputs(line.c_str(), stderr); });
//   log.write("info", "started", {{"models", 3}});
//
// Thread rule: concurrent.
#pragma once

#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

namespace torusml {

using LogSink = std::function<void(const std::string& line)>;  // with its end

class Log {
 public:
  explicit Log(LogSink sink) : sink_(std::move(sink)) {}
  // level: info, warning or error. `fields` follow time, level and event. Never throws.
  void write(const char* level, const char* event, const nlohmann::ordered_json& fields) noexcept;

 private:
  LogSink sink_;
  std::mutex mutex_;
};

// One line on stderr.
LogSink stderr_sink();

}  // namespace torusml
