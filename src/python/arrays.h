// NumPy arrays to tensors and back. Arrays come in as C-contiguous float64 or int64: the Python
// side converts.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "torusml/tensor.h"

namespace torusml::python {

namespace nb = nanobind;

template <class T>
using Array = nb::ndarray<const T, nb::numpy, nb::c_contig, nb::device::cpu>;

template <class T>
std::span<const T> view(const Array<T>& array) {
  return {array.data(), array.size()};
}

template <class T>
Shape shape_of(const Array<T>& array) {
  Shape shape(array.ndim());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    shape[axis] = static_cast<std::int64_t>(array.shape(axis));
  }
  return shape;
}

template <class T>
Tensor<T> to_tensor(const Array<T>& array) {
  const std::span<const T> values = view(array);
  return {shape_of(array), std::vector<T>(values.begin(), values.end())};
}

template <class T>
std::vector<Tensor<T>> to_tensors(const std::vector<Array<T>>& arrays) {
  std::vector<Tensor<T>> tensors;
  tensors.reserve(arrays.size());
  for (const Array<T>& array : arrays) {
    tensors.push_back(to_tensor(array));
  }
  return tensors;
}

// The array owns the data, which is not copied.
template <class T>
nb::object to_numpy(const Shape& shape, std::vector<T> data) {
  auto holder = std::make_unique<std::vector<T>>(std::move(data));
  T* values = holder->data();
  nb::capsule owner(holder.get(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  static_cast<void>(holder.release());  // the capsule owns it now
  const std::vector<std::size_t> sizes(shape.begin(), shape.end());
  return nb::cast(nb::ndarray<nb::numpy, T>(values, sizes.size(), sizes.data(), owner));
}

template <class T>
nb::object to_numpy(Tensor<T> tensor) {
  return to_numpy(tensor.shape, std::move(tensor.data));
}

template <class T>
nb::list to_numpy(std::vector<Tensor<T>> tensors) {
  nb::list arrays;
  for (Tensor<T>& tensor : tensors) {
    arrays.append(to_numpy(std::move(tensor)));
  }
  return arrays;
}

}  // namespace torusml::python
