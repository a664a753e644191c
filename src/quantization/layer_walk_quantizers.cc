// Which quantizer a tensor has: the network's own, that of an input, or one of its values.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "quantization/layer_quantization.h"
#include "quantization/layer_walk.h"
#include "quantization/own_quantizers.h"
#include "torusml/error.h"

namespace torusml {
namespace {

// Of quantizers that have another one's step, so that they clip nothing.
constexpr int kSlackBits = 4;

// Integers that stand for themselves.
UniformQuantizer of_whole_numbers(Interval interval) {
  QuantizationOptions options;
  options.is_signed = interval.lower < 0;
  options.n_bits = bit_width(interval);
  return {options, {{1.0}, {0}, options.is_signed ? std::int64_t{1} << (options.n_bits - 1) : 0}};
}

}  // namespace

UniformQuantizer LayerWalk::index_quantizer(std::int64_t rows) {
  return of_whole_numbers({-1, rows});
}

void LayerWalk::check_own_quantizers() const {
  std::vector<std::string> missing;
  for (const LinearLayer& layer : layers_) {
    if (rules_.made.contains(layer.output)) continue;
    for (const FloatTerm& term : layer.terms) {
      if (!own_or_whole(step_giver(term.tensor)))
        missing.push_back(fmt::format("'{}' (read by '{}')", term.tensor, layer.name));
    }
  }
  if (missing.empty()) return;
  throw Error(ErrorCode::missing_quantizer,
              fmt::format("{} linear layers without a quantizer: {}",
                          missing.size() == 1 ? "1 tensor reaches"
                                              : fmt::format("{} tensors reach", missing.size()),
                          fmt::join(missing, ", ")),
              "",
              "a QuantIdentity on each of them (torusml.torch.to_qat puts them where they belong)");
}

const std::string& LayerWalk::step_giver(const std::string& tensor) const {
  const auto giver = rules_.step_of.find(tensor);
  return giver == rules_.step_of.end() ? tensor : giver->second;
}

UniformQuantizer LayerWalk::of_difference(const UniformQuantizer& quantizer,
                                          const std::vector<double>& values) const {
  // A softplus of small differences has more integers than these.
  const double largest = min_max_stats(values).rmax / quantizer.parameters().scale[0];
  const int needed = 1 + static_cast<int>(std::ceil(std::log2(std::max(1.0, largest + 1))));
  QuantizationOptions options = quantizer.options();
  options.is_signed = options.is_narrow = options.is_symmetric = false;
  options.n_bits = std::min(std::max(options.n_bits + kSlackBits, needed), kMaxBits);
  return {options, {quantizer.parameters().scale, {0}, 0}};
}

bool LayerWalk::chooses_step(const LinearLayer& layer) const {
  return !layer.custom && is_sum(layer) && !has_given_step(layer);
}

bool LayerWalk::has_given_step(const LinearLayer& layer) const {
  std::set<std::string> givers;
  bool others_follow = true;
  for (const FloatTerm& term : layer.terms) {
    if (rules_.whole.contains(term.tensor))
      givers.insert("");  // a step of 1
    else if (rules_.contains(term.tensor))
      givers.insert(step_giver(term.tensor));
    else
      others_follow &= !network_.is_input(network_.root(term.tensor)) && !own_or_none(term.tensor);
  }
  return givers.size() == 1 && (others_follow || has_own_steps(layer));
}

bool LayerWalk::has_own_steps(const LinearLayer& layer) const {
  if (mode_ != Mode::own_nodes || layer.custom) return false;
  std::vector<UniformQuantizer> quantizers;
  for (const FloatTerm& term : layer.terms) {
    const std::optional<UniformQuantizer> own = own_or_whole(step_giver(term.tensor));
    if (!own) return false;
    quantizers.push_back(*own);
  }
  return are_in_ratio(quantizers);
}

bool LayerWalk::is_calibrated(const LinearLayer& layer) const {
  if (mode_ == Mode::after_training || rules_.made.contains(layer.output)) return true;
  return mode_ == Mode::own_nodes && chooses_step(layer) && !has_own_steps(layer);
}

std::optional<UniformQuantizer> LayerWalk::shared_own_quantizer(
    const std::vector<Reader>& readers) const {
  std::optional<UniformQuantizer> shared;
  for (const Reader& reader : readers) {
    const std::optional<OwnQuantizer> own = own_quantizer(network_, reader.tensor);
    if (!own || !own->rounds_input || !network_.is_plain(own->input)) return std::nullopt;
    if (shared && !(*shared == own->quantizer)) return std::nullopt;
    shared = own->quantizer;
  }
  return shared;
}

UniformQuantizer LayerWalk::grid_or_throw(const std::string& tensor,
                                          const std::vector<double>& values,
                                          const std::string& layer) const {
  if (std::optional<UniformQuantizer> grid = grid_quantizer(values, bits_.op_inputs)) return *grid;
  throw Error(ErrorCode::missing_quantizer,
              fmt::format("the network has no quantizers, and the values of tensor "
                          "'{}' are not "
                          "multiples of one step that fit into {} bits",
                          tensor, bits_.op_inputs),
              fmt::format("layer '{}'", layer),
              "a QuantIdentity on this tensor (torusml.torch.to_qat), or more bits");
}

std::optional<UniformQuantizer>* LayerWalk::input_quantizer(const std::string& tensor) {
  for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
    if (graph_.inputs[i].name == network_.root(tensor)) return &input_quantizers_[i];
  }
  return nullptr;
}

bool LayerWalk::is_read_as_input(const std::string& tensor) const {
  const std::string& root = network_.root(tensor);
  return network_.is_input(root) && network_.is_plain(tensor) && !root_values_.contains(root);
}

std::optional<UniformQuantizer> LayerWalk::own_or_none(const std::string& tensor) const {
  if (mode_ != Mode::own_nodes) return std::nullopt;
  const std::optional<OwnQuantizer> own = own_quantizer(network_, tensor);
  return own ? std::optional(own->quantizer) : std::nullopt;
}

std::optional<UniformQuantizer> LayerWalk::own_or_whole(const std::string& tensor) const {
  const auto whole = rules_.whole.find(tensor);
  return whole == rules_.whole.end() ? own_or_none(tensor) : of_whole_numbers(whole->second);
}

UniformQuantizer LayerWalk::quantizer_of(const std::string& tensor,
                                         const std::vector<double>& values, int bits) {
  const std::string& giver = step_giver(tensor);
  if (giver != tensor) return of_difference(quantizer_of(giver, values_at(giver), bits), values);
  if (const std::optional<UniformQuantizer> own = own_or_whole(tensor)) return *own;
  if (is_read_as_input(tensor)) return **input_quantizer(tensor);
  const auto more = rules_.more_bits.find(tensor);
  return fit_activation(values, bits + (more == rules_.more_bits.end() ? 0 : more->second));
}

QuantizedLayer LayerWalk::quantize_own(const LinearLayer& layer) {
  std::vector<UniformQuantizer> quantizers;
  for (const FloatTerm& term : layer.terms) {
    const std::string& giver = step_giver(term.tensor);
    const UniformQuantizer quantizer = mode_ == Mode::own_nodes
                                           ? *own_or_whole(giver)
                                           : grid_or_throw(giver, values_at(giver), layer.name);
    quantizers.push_back(giver == term.tensor ? quantizer
                                              : of_difference(quantizer, values_at(term.tensor)));
  }
  return layer.custom ? custom_layer(layer, graph_, quantizers)
                      : own_layer(layer, graph_.shapes.at(layer.output), quantizers);
}

}  // namespace torusml
