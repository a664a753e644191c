#include <algorithm>
#include <cmath>
#include <numbers>

#include "importer/operator_functions.h"

namespace torusml::scalar {

double celu(double x, double alpha, double) {
  return std::max(0.0, x) + std::min(0.0, alpha * std::expm1(x / alpha));
}

double elu(double x, double alpha, double) { return x < 0 ? alpha * std::expm1(x) : x; }

double gelu(double x) { return 0.5 * x * std::erfc(-x / std::numbers::sqrt2); }

double gelu_tanh(double x) {
  const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

double hard_sigmoid(double x, double alpha, double beta) {
  return std::clamp(alpha * x + beta, 0.0, 1.0);
}

double hard_swish(double x, double, double) { return x * hard_sigmoid(x, 1.0 / 6, 0.5); }

double mish(double x, double, double) { return x * std::tanh(softplus(x, 0, 0)); }

double selu(double x, double alpha, double gamma) {
  return gamma * (x < 0 ? alpha * std::expm1(x) : x);
}

double shrink(double x, double bias, double lambda) {
  if (x < -lambda) return x + bias;
  return x > lambda ? x - bias : 0;
}

double sigmoid(double x, double, double) {
  if (x >= 0) return 1 / (1 + std::exp(-x));
  const double e = std::exp(x);
  return e / (1 + e);
}

double softplus(double x, double, double) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

}  // namespace torusml::scalar
