// All that a server needs: the circuit with its weights, the plan, and what inputs and outputs are
// called. No quantizers, no scales, no ranges of calibration data.
#pragma once

#include <string>
#include <vector>

#include "circuit/circuit.h"
#include "plan/plan.h"

namespace torusml {

struct TensorName {
  std::string name;
  Shape shape;            // of one sample, without batch axis
  bool is_clear = false;  // of an input: it travels as integers, not encrypted

  friend bool operator==(const TensorName&, const TensorName&) = default;
};

struct ServerSpec {
  std::string model_name;
  Circuit circuit;
  Plan plan;
  std::vector<TensorName> inputs, outputs;
};

}  // namespace torusml
