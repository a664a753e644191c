#include "cli/decision_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "cli/human.h"
#include "plan/reader_facts.h"

namespace torusml {
namespace {

std::string policy_text(const ReaderFacts& d) {
  if (d.policy == Precision::exact) return "exact";
  return fmt::format("tolerant 2^{:.1f}", std::log2(d.tolerance));
}

std::string share(double value) {
  return value < 5e-5 ? "< 0.01 %" : fmt::format("{:.2f} %", 100 * value);
}

std::vector<std::string> row_of(const ReaderFacts& d) {
  const std::string flip = share(d.measured_flip.value_or(d.flip));
  return {d.is_lookup ? d.name : d.name + " (output)",
          d.is_lookup ? std::to_string(d.tables) : "",
          std::to_string(d.bits),
          policy_text(d),
          d.effective_bits ? fmt::format("{:.1f}", *d.effective_bits) : "",
          flip,
          d.is_lookup ? human_seconds(d.ms / 1000) : "",
          d.key_set};
}

// Rows below a heading, columns as wide as they need; `is_text`: of the columns that are not
// numbers.
std::string table_of(const std::vector<std::vector<std::string>>& rows,
                     const std::set<std::size_t>& is_text) {
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const std::vector<std::string>& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line = " ";
    for (std::size_t c = 0; c < row.size(); ++c) {
      line += is_text.contains(c) ? fmt::format(" {:<{}}", row[c], widths[c])
                                  : fmt::format(" {:>{}}", row[c], widths[c]);
      if (c + 1 < row.size()) line += " ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

// How near a search came to its target, and how near it was to come. `how`: on which samples.
std::string outcome_text(Criterion criterion, double loss, double most_loss,
                         const std::string& beside, const std::string& how) {
  if (criterion == Criterion::argmax) {
    return fmt::format("{:.4g} % of predictions as {}, {} (asked for {:.4g} %)", 100 * (1 - loss),
                       beside, how, 100 * (1 - most_loss));
  }
  return fmt::format("{} {:.3g} beside {}, {} (at most {:.3g})",
                     criterion == Criterion::metric ? "the metric loses" : "relative error", loss,
                     beside, how, most_loss);
}

}  // namespace

std::string bits_text(const BitsReport& report) {
  const std::string how =
      fmt::format("in the clear on {} held out", counted(report.samples, "sample"));
  std::string text = fmt::format(
      "  bits auto: {}\n",
      outcome_text(report.criterion, report.loss, report.most_loss, "the float network's", how));
  std::vector<std::vector<std::string>> rows{{"layer", "bits of inputs", "of weights"}};
  for (const BitsReport::Layer& layer : report.layers) {
    rows.push_back(
        {layer.name, std::to_string(layer.bits.inputs), std::to_string(layer.bits.weights)});
  }
  return text + table_of(rows, {0});
}

nlohmann::json bits_json(const BitsReport& report) {
  nlohmann::json layers = nlohmann::json::array();
  for (const BitsReport::Layer& layer : report.layers) {
    layers.push_back(
        {{"name", layer.name}, {"inputs", layer.bits.inputs}, {"weights", layer.bits.weights}});
  }
  return {{"criterion", to_string(report.criterion)},
          {"most_loss", report.most_loss},
          {"loss", report.loss},
          {"samples", report.samples},
          {"trials", report.trials},
          {"layers", std::move(layers)}};
}

std::string decision_table(const CompiledModel& model) {
  std::vector<std::vector<std::string>> rows{
      {"layer", "tables", "bits", "precision", "effective bits", "flips", "one core", "key set"}};
  for (const ReaderFacts& d : describe_readers(model)) rows.push_back(row_of(d));
  return table_of(rows, {0, 3, 7});
}

nlohmann::json decision_json(const CompiledModel& model) {
  nlohmann::json layers = nlohmann::json::array();
  for (const ReaderFacts& d : describe_readers(model)) {
    nlohmann::json layer{{"name", d.name},
                         {"kind", d.is_lookup ? "lookup" : "output"},
                         {"bits", d.bits},
                         {"precision", to_string(d.policy)},
                         {"tolerance", d.tolerance},
                         {"flip_probability", d.flip},
                         {"wrap_probability", d.wrap}};
    if (d.effective_bits) layer["effective_bits"] = *d.effective_bits;
    if (d.measured_flip) layer["flip_rate"] = *d.measured_flip;
    if (d.is_lookup) {
      layer["tables"] = d.tables;
      layer["step_probability"] = d.step;
      layer["far_probability"] = d.far;
      layer["cost_ms_per_core"] = d.ms;
      layer["key_set"] = d.key_set;
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

std::string precision_text(const PrecisionReport& report) {
  if (report.draws == 0) return "auto: exact everywhere";
  const std::string how =
      fmt::format("simulated on {} held out", counted(report.samples, "sample"));
  return "auto: " + outcome_text(report.criterion, report.loss, report.most_loss,
                                 report.criterion == Criterion::argmax ? "under exact" : "exact",
                                 how);
}

std::string looser_text(const PrecisionReport& report) {
  if (report.looser.empty()) return "";
  std::string text = "  a looser target would take less:";
  for (const auto& [loss, ms_per_core] : report.looser) {
    const std::string target = report.criterion == Criterion::argmax
                                   ? fmt::format("{:.3g} %", 100 * (1 - loss))
                                   : fmt::format("{:.2g}", loss);
    text += fmt::format("{} {} about {}", &loss == &report.looser.front().loss ? "" : ",", target,
                        human_seconds(ms_per_core / 1000));
  }
  return text + "\n";
}

}  // namespace torusml
