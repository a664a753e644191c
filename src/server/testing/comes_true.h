// Waits for what other threads bring about.
#pragma once

#include <chrono>
#include <thread>

namespace torusml {

// Whether the condition holds within a minute; it is asked every 5 ms.
template <class Condition>
bool comes_true(Condition condition) {
  for (int i = 0; i < 12000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace torusml
