#include "specs.h"

namespace torusml::python {

nb::tuple to_python(Interval interval) { return nb::make_tuple(interval.lower, interval.upper); }

nb::dict to_python(const InputSpec& input) {
  nb::dict result;
  result["name"] = input.name;
  result["shape"] = input.shape;
  result["quantizer"] = input.quantizer;
  result["interval"] = to_python(input.interval);
  result["is_clear"] = input.is_clear;
  return result;
}

nb::dict to_python(const OutputSpec& output) {
  nb::dict result;
  result["name"] = output.name;
  result["shape"] = output.shape;
  result["scale"] = output.scale;
  result["zero_point"] = output.zero_point;
  result["interval"] = to_python(output.interval);
  result["bits"] = bit_width(output.interval);
  return result;
}

nb::dict to_python(const RangeReport& range) {
  nb::dict result;
  result["name"] = range.name;
  result["range"] = to_python(range.declared);
  result["calibrated"] = to_python(range.calibrated);
  result["guaranteed"] = to_python(range.guaranteed);
  result["bitwidth"] = range.bits;
  result["feeds_table"] = range.feeds_table;
  return result;
}

}  // namespace torusml::python
