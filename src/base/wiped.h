// Copies of plaintexts in ordinary containers, which belong to nobody but the function that made
// them.
//
//   const Wiped quantized{client.quantize(floats)};   // wiped at the end of the block
//   client.encrypt(keys, quantized.value);
//
// wipe_elements(x) is there for vectors of numbers, strings, tensors and vectors of tensors. What a
// container left behind when it grew is not wiped: reserve first. Thread rule: as for the
// container.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "torusml/tensor.h"

namespace torusml {

template <class T>
requires std::is_arithmetic_v<T>
void wipe_elements(std::vector<T>& values) noexcept {
  wipe(values.data(), values.size() * sizeof(T));
}
inline void wipe_elements(std::string& text) noexcept { wipe(text.data(), text.size()); }
template <class T>
void wipe_elements(Tensor<T>& tensor) noexcept {
  wipe_elements(tensor.data);
}
template <class T>
void wipe_elements(std::vector<Tensor<T>>& tensors) noexcept {
  for (Tensor<T>& tensor : tensors) wipe_elements(tensor);
}

template <class T>
void wipe_elements(std::vector<std::vector<Tensor<T>>>& parts) noexcept {
  for (std::vector<Tensor<T>>& part : parts) wipe_elements(part);
}

template <class Container>
struct Wiped {
  Container value;

  explicit Wiped(Container contents) : value(std::move(contents)) {}
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  ~Wiped() { wipe_elements(value); }
};

}  // namespace torusml
