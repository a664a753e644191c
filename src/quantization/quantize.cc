#include "quantization/quantize.h"

#include <fmt/format.h>

#include <utility>

#include "quantization/best_quantization.h"
#include "quantization/calibration.h"
#include "quantization/layer_walk.h"
#include "torusml/error.h"

namespace torusml {
namespace {

void check_bits(int bits, const char* role) {
  if (bits >= 1 && bits <= kMaxBits) return;
  throw Error(ErrorCode::unsupported_bits,
              fmt::format("{} has {} bits; 1 to 32 are supported", role, bits), "",
              "2 to 8 bits for most networks");
}

void check_request(const QuantizationBits& bits) {
  check_bits(bits.op_inputs, "op_inputs");
  check_bits(bits.op_weights, "op_weights");
  check_bits(bits.model_inputs, "model_inputs");
  check_bits(bits.model_outputs, "model_outputs");
  if (bits.model_outputs < bits.op_inputs) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("model_outputs ({} bits) must not be below op_inputs ({} bits)",
                            bits.model_outputs, bits.op_inputs),
                "", fmt::format("model_outputs={}", bits.op_inputs));
  }
}

void check_method(const QuantizationRequest& request) {
  if (!(request.percentile > 50 && request.percentile <= 100)) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("percentile is {}; it must be above 50, and 100 at most", request.percentile),
        "percentile", "99.9");
  }
  if (request.accumulator_bits != 0 &&
      (request.accumulator_bits < 2 || request.accumulator_bits > 16)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("accumulator_bits is {}; 2 to 16 are possible, 0 leaves them free",
                            request.accumulator_bits),
                "accumulator_bits", "8");
  }
  if (request.accumulator_bits != 0 && request.method != QuantizationMethod::best) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("accumulators are kept narrow by method best, not by {}",
                            to_string(request.method)),
                "accumulator_bits", "method best");
  }
  if (request.method == QuantizationMethod::compatible) return;
  if (request.import_qat) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("method {} chooses quantizers, and the network is to bring its own",
                            to_string(request.method)),
                "method", "one of the two: no method, or import_qat=False");
  }
  if (request.bits.op_weights < 2) {
    throw Error(ErrorCode::unsupported_bits, "weights of 1 bit have no integer above zero",
                "op_weights", "2 bits or more, or no method");
  }
}

}  // namespace

QuantizedGraph quantize(FloatGraph graph, const std::vector<Tensor<double>>& calibration,
                        const QuantizationRequest& request, const ProgressCallback& progress) {
  check_request(request.bits);
  check_method(request);
  check_calibration(graph, calibration);
  check_not_constant(graph, calibration);
  if (request.method == QuantizationMethod::best)
    return quantize_best(std::move(graph), calibration, request, progress);
  return LayerWalk(std::move(graph), calibration, request).run();
}

}  // namespace torusml
