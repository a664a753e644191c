// What the rewrites of a float graph ask of quantization: which tensors have their own integers,
// and which of these share a step.
#pragma once

#include <map>
#include <set>
#include <string>

#include "circuit/circuit.h"

namespace torusml {

struct StepRules {
  std::set<std::string> operands;  // read as they are, with the quantizer of their values alone
  std::set<std::string> alone;     // read as they are; a sum may choose their step
  std::set<std::string> maxima;    // always written over what they are sums of
  std::map<std::string, std::string> step_of;  // f(x - y) to the operand whose step it has
  std::map<std::string, int> more_bits;        // than other activations have
  // Places in a row: whole numbers on a step of 1, which never leave the interval.
  std::map<std::string, Interval> whole;
  // Differences of elements that decide their order, to the operand on whose step they are: no bias
  // is added to them, and their interval holds those of any two of its integers.
  std::map<std::string, std::string> compared;
  // Elements in their order, to the operand that has them in another one, and whose interval they
  // keep.
  std::map<std::string, std::string> elements_of;
  // Differences whose lookups are exact under any precision, as those of places are: comparisons
  // that contradict each other order nothing.
  std::set<std::string> exact;
  // What rewrites made: a network's own quantizers do not reach it, so it is calibrated.
  std::set<std::string> made;

  bool contains(const std::string& tensor) const {
    return operands.contains(tensor) || step_of.contains(tensor) || whole.contains(tensor);
  }
  // Sums whose weights are integers as they are, and stay so.
  bool is_of_integers(const std::string& tensor) const {
    return whole.contains(tensor) || compared.contains(tensor) || elements_of.contains(tensor);
  }
  bool is_read_as_it_is(const std::string& tensor) const {
    return operands.contains(tensor) || alone.contains(tensor);
  }
};

}  // namespace torusml
