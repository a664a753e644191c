// NumPy's .npy files: versions 1 to 3, C order, little-endian numbers.
//
//   Tensor<double> x = read_npy("x.npy");
//   write_npy("y.npy", floats);            // dtype <f8
//
// Read: f4, f8, i1, i2, i4, i8, u1, u2, u4. Written: f8 and i8, version 1.0, the bytes that NumPy
// writes. The header is bounded, and sizes are checked against the file before anything is
// allocated. Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "torusml/tensor.h"

namespace torusml {

// Errors: file_unreadable, file_foreign, file_version, file_truncated, file_corrupt, wrong_dtype,
// not_supported (Fortran order), invalid_argument (an integer that float64 does not hold).
Tensor<double> read_npy(const std::string& path);

// Errors: file_unwritable.
void write_npy(const std::string& path, const Tensor<double>& tensor);
void write_npy(const std::string& path, const Tensor<std::int64_t>& tensor);

}  // namespace torusml
