// How far a quantized network's outputs are from the float network's.
//
//   OutputLoss loss(float_outputs, samples, is_classifier);
//   double l = loss.of(found);
//
// The mean squared error. Of a classifier (one output of several elements), four fifths of the loss
// are how far the classes' probabilities (softmax) are: their squared differences, which count a
// sample little that is lost anyway, and a fifth of the Kullback-Leibler divergence. All parts are
// relative to those of a first attempt, so that neither outputs nor classes are given up for the
// other. Thread rule: const use is concurrent.
#pragma once

#include <Eigen/Core>
#include <vector>

namespace torusml {

class OutputLoss {
 public:
  // Sample after sample.
  OutputLoss(const std::vector<double>& outputs, std::int64_t samples, bool is_classifier);

  Eigen::Index samples() const { return samples_; }
  Eigen::Index elements() const { return expected_.cols(); }

  // A loss of 1 is that of these outputs, from here on.
  void relate_to(const Eigen::ArrayXXf& found);

  // found: samples x elements. Means over samples.
  double of(const Eigen::ArrayXXf& found) const;
  double of(const std::vector<double>& outputs) const { return of(to_array(outputs)); }
  // Sample after sample, of this loss's samples.
  Eigen::ArrayXXf to_array(const std::vector<double>& outputs) const;

 private:
  double squared_error(const Eigen::ArrayXXf& found) const;
  double class_error(const Eigen::ArrayXXf& found) const;

  std::int64_t samples_;
  bool is_classifier_;
  Eigen::ArrayXXf expected_, probability_;
  double entropy_ = 0;  // mean of sum p log p
  double squared_unit_ = 1, class_unit_ = 1;
};

}  // namespace torusml
