// All that a client needs: shapes, quantizers, encodings and key parameters; no weights.
#pragma once

#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"
#include "tfhe/types.h"
#include "torusml/quantizer.h"

namespace torusml {

struct InputSpec {
  std::string name;
  Shape shape;                 // of one sample, without batch axis
  UniformQuantizer quantizer;  // floats to integers
  Interval interval;           // of the integers
  double torus_scale = 0;      // phase = torus_scale * (integer - center)
  double center = 0;
  bool is_clear = false;  // travels as integers, not encrypted
};

struct OutputSpec {
  std::string name;
  Shape shape;  // of one sample
  // float = scale * (integer - zero_point). Each has one entry, or one per channel of the last
  // axis, or one per element. A zero point may have a fraction (lowering/lower.h).
  std::vector<double> scale, zero_point;
  Interval interval;
  double torus_scale = 0;
  double center = 0;
};

struct ClientSpec {
  std::string model_name;
  std::vector<TfheParameters> key_sets;  // the plan's
  PlanOptions options;                   // precision, profile, p_error, security
  std::vector<InputSpec> inputs;
  std::vector<OutputSpec> outputs;

  LweDimension big_dimension() const { return key_sets.front().big_dimension(); }
};

// Encoding, shared by the client, the simulator and the encrypted executor.
// Nearest torus word to torus_scale * units.
Torus encode_units(long double units, double torus_scale);
// Nearest torus word to torus_scale * (value - center).
Torus encode(std::int64_t value, double torus_scale, double center);
// Nearest integer of the interval to phase / torus_scale + center; a phase beyond the interval
// gives its end.
std::int64_t decode(Torus phase, double torus_scale, double center, Interval interval);

// Floats of integers that left the circuit, for a batch: (batch, shape...).
Tensor<double> dequantize_output(const OutputSpec& spec, const Tensor<std::int64_t>& integers);
// Integers of floats. Errors: wrong_shape (expects (batch, shape...)), non_finite_value.
Tensor<std::int64_t> quantize_input(const InputSpec& spec, const Tensor<double>& values);

}  // namespace torusml
