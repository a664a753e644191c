#include "report/model_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>

#include "artifact/files.h"
#include "base/human.h"
#include "parameters/cost.h"
#include "report/graph_layout.h"
#include "report/markup.h"
#include "report/plots.h"
#include "report/style.h"
#include "runtime/clear_part.h"
#include "runtime/memory.h"

namespace torusml {
namespace {

constexpr std::size_t kLongestName = 120, kNameInGraph = 21;
constexpr double kLeastShare = 0.01;  // of the time, for a piece of its own in the bar

constexpr const char* kWords =
    "<details><summary>What the words mean</summary><dl><dt>calibrated, declared, guaranteed</dt>"
    "<dd>the interval that the calibration data reached, the one that the encoding is built for, "
    "and "
    "the one that the weights allow</dd><dt>effective bits</dt><dd>log2(interval / standard "
    "deviation "
    "of the noise) where the value is read</dd><dt>flip</dt><dd>probability that noise changes the "
    "result of a table, for a value drawn uniformly from the interval</dd><dt>step</dt><dd>that "
    "the table is read at another entry than the value's</dd><dt>wrap</dt><dd>that noise carries "
    "an end of "
    "the interval over its guard band, which gives a wrong answer</dd><dt>the bar under a "
    "table</dt>"
    "<dd>one standard deviation of the noise to either side</dd></dl></details>";

const char* kind_of(const Node& node) {
  constexpr const char* kKinds[] = {"input", "linear", "lookup", "output"};
  return kKinds[node.op.index()];
}

std::vector<ValueId> operands_of(const Node& node) {
  std::vector<ValueId> operands;
  if (const auto* linear = std::get_if<Linear>(&node.op)) {
    for (const LinearTerm& term : linear->terms) operands.push_back(term.operand);
  }
  if (const auto* lut = std::get_if<Lut>(&node.op)) operands = {lut->operand};
  if (const auto* output = std::get_if<Output>(&node.op)) operands = {output->operand};
  return operands;
}

std::vector<ValueId> results_of(const Node& node) {
  if (const auto* input = std::get_if<Input>(&node.op)) return {input->result};
  if (const auto* linear = std::get_if<Linear>(&node.op)) return {linear->result};
  if (const auto* lut = std::get_if<Lut>(&node.op)) return lut->results;
  return {};
}

std::string probability(double p) { return with_powers(human_probability(p)); }
std::string bytes(double count) { return human_bytes(static_cast<std::uint64_t>(count)); }
std::string milliseconds(double ms) { return human_seconds(ms / 1000); }
std::string per_cent(double share) {
  return share < 0.0005 ? "below 0.1 %"
                        : fmt::format("{:.{}f} %", 100 * share, share < 0.0995 ? 1 : 0);
}

// Nonzero weights of a map, and products of a weight and a number that it takes.
struct WeightCount {
  std::int64_t nonzero = 0, all = 0;
};

WeightCount count_weights(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    const std::int64_t zeros = std::ranges::count(dense->data, 0);
    return {static_cast<std::int64_t>(dense->data.size()) - zeros,
            static_cast<std::int64_t>(dense->data.size())};
  }
  if (const auto* sparse = std::get_if<SparseWeight>(&weight)) {
    return {sparse->entries(), sparse->entries()};
  }
  return {1, 1};
}

class Page {
 public:
  Page(const CompiledModel& model, const ReportLimits& limits)
      : circuit_(model.circuit),
        plan_(model.plan),
        is_clear_(clear_values(model.circuit)),
        model_(model),
        limits_(limits),
        costs_(cost_by_lookup(model.circuit, model.plan)),
        linear_cost_(torusml::linear_cost(model.circuit, model.plan)) {
    producer_.resize(circuit_.values.size());
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) {
      for (const ValueId result : results_of(circuit_.nodes[n])) producer_[result] = n;
    }
    for (const RangeReport& range : model.ranges) ranges_.emplace(range.name, &range);
    std::size_t plots = 0;
    for (const Node& node : circuit_.nodes) {
      if (const auto* lut = std::get_if<Lut>(&node.op))
        plots += std::min(lut->tables.size(), limits.plots_of_a_lookup);
    }
    plots = std::clamp<std::size_t>(plots, 1, limits.plots);
    rows_of_a_plot_ =
        std::clamp<std::size_t>(limits.curve_columns / (plots * limits.columns), 1, 8);
  }

  std::string run() {
    begin();
    summary();
    time();
    key_sets();
    graph();
    layers();
    add("</div>");
    add("<footer>Sizes and times are of one sample. Milliseconds are predicted, on one core, from "
        "times of the kernels; they rank layers and give the order of magnitude. Probabilities "
        "are for values drawn uniformly from the interval.</footer></main></body></html>\n");
    return std::move(page_);
  }

 private:
  template <class... Arguments>
  void add(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(page_), text, std::forward<Arguments>(arguments)...);
  }

  static std::string name(const std::string& text) { return escape(shorten(text, kLongestName)); }

  void begin() {
    const std::string title =
        name(model_.client.model_name.empty() ? circuit_.name : model_.client.model_name);
    add("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        "<meta name=\"color-scheme\" content=\"light dark\">"
        "<title>{} - TorusML</title><style>{}</style></head><body><main>",
        title, kReportStyle);
    add("<header><p class=\"kicker\">TorusML model</p><h1>{}</h1><p class=\"tags\">"
        "<span>{}</span><span>{}</span><span>{} bits of security</span></p></header>",
        title, to_string(plan_.options.precision), to_string(plan_.options.profile),
        plan_.options.security_bits);
  }

  void tile(const std::string& label, const std::string& value, const std::string& note = "") {
    add("<div class=\"tile\"><dt>{}</dt><dd>{}</dd>", label, value);
    if (!note.empty()) add("<dd class=\"note\">{}</dd>", note);
    add("</div>");
  }

  void summary() {
    const BootstrapCount count = count_bootstraps(circuit_, plan_);
    const KeyBytes keys = key_bytes(plan_.key_sets);
    const MemoryEstimate memory = estimate_memory(circuit_, plan_, {});
    add("<section><h2>One sample</h2><dl class=\"tiles\">");
    tile("time on one core", milliseconds(plan_.cost_ms_per_core), "predicted");
    tile("table lookups", grouped(plan_.lookup_count));
    tile("blind rotations", grouped(count.rotations));
    tile("keyswitches", grouped(count.keyswitches));
    tile("anything goes wrong", probability(plan_.sample_p_error),
         plan_.options.precision == Precision::tolerant ? "flips of tolerant lookups apart" : "");
    tile("p_error", probability(plan_.options.p_error), "of a lookup, of an output");
    if (plan_.options.precision == Precision::tolerant)
      tile("tolerance", tolerance(), "noise over interval, at most");
    tile("widest value", fmt::format("{} bits", maximum_bit_width(circuit_)));
    tile("evaluation keys", bytes(keys.wire), "on the wire");
    tile("in memory", bytes(keys.memory), "keys, prepared");
    tile("memory of a run", human_bytes(memory.total()), "on one thread, at most");
    tile("linear maps", grouped(linear_multiplications(circuit_)), "products");
    add("</dl></section>");
  }

  std::string tolerance() const {
    return with_powers(fmt::format("2^{:.4g}", std::log2(plan_.options.tolerance)));
  }

  // One bar of all the time, and what its pieces are.
  void time() {
    if (plan_.cost_ms_per_core <= 0) return;
    add("<section><h2>Where the time goes</h2><div class=\"shares\" role=\"img\" "
        "aria-label=\"shares of "
        "the predicted time, in the order of layers\">");
    double small = 0;
    for (const auto& [node, cost] : costs_) {
      if (cost < kLeastShare * plan_.cost_ms_per_core)
        small += cost;
      else
        share("lookup", name(circuit_.nodes[node].name), cost);
    }
    if (small > 0) share("rest", "smaller lookups", small);
    share("linear", "linear maps", linear_cost_);
    const double lookups = plan_.cost_ms_per_core - linear_cost_;
    add("</div><p class=\"legend\"><span><i class=\"lookup\"></i>lookups {} ({})</span><span>"
        "<i class=\"linear\"></i>linear maps {} ({})</span></p></section>",
        milliseconds(lookups), per_cent(lookups / plan_.cost_ms_per_core),
        milliseconds(linear_cost_), per_cent(linear_cost_ / plan_.cost_ms_per_core));
  }

  void share(const char* style, const std::string& label, double cost) {
    const double part = cost / plan_.cost_ms_per_core;
    add("<span class=\"{}\" style=\"flex-grow:{:.4f}\" title=\"{}: {}, {}\"></span>", style, part,
        label, milliseconds(cost), per_cent(part));
  }

  static std::string gadget(const Gadget& gadget) {
    return fmt::format("{} \xc3\x97 2<sup>{}</sup>", gadget.level_count, gadget.base_log2);
  }

  void key_sets() {
    const std::vector<std::int64_t> lookups = lookups_by_key_set(plan_, circuit_);
    add("<section><h2>{}</h2><div class=\"scroll\"><table><thead><tr><th>name</th><th>lookups</th>"
        "<th>n</th><th>k</th><th>N</th><th>bootstrap</th><th>keyswitch</th><th>bits a step</th>"
        "<th>accumulator</th><th>security</th><th>on the wire</th><th>in "
        "memory</th></tr></thead><tbody>",
        plan_.key_sets.size() == 1 ? "Key set" : "Key sets, under one secret key");
    for (std::size_t s = 0; s < plan_.key_sets.size(); ++s) {
      const TfheParameters& p = plan_.key_sets[s].parameters;
      const KeyBytes keys = key_bytes(p);
      add("<tr><td class=\"name\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
          "<td>{}</td><td>{}</td><td>{} bits</td><td>{} bits</td><td>{}</td><td>{}</td></tr>",
          name(plan_.key_sets[s].name), grouped(lookups[s]), p.small_dimension.value,
          p.glwe_dimension.value, p.polynomial_size.value, gadget(p.bootstrap), gadget(p.keyswitch),
          p.grouping_factor, p.accumulator_bits, plan_.options.security_bits, bytes(keys.wire),
          bytes(keys.memory));
    }
    add("</tbody></table></div>");
    if (const auto& one = plan_.one_key_set) {
      add("<p class=\"note\">One key set for all would be {}: {} on one core, {} on the wire, {} "
          "in "
          "memory.</p>",
          name(one->name), milliseconds(one->cost_ms_per_core), bytes(one->key_bytes.wire),
          bytes(one->key_bytes.memory));
    }
    add("</section>");
  }

  // The graph.

  static constexpr double kPitchX = 196, kPitchY = 82, kBoxWidth = 178, kBoxHeight = 48,
                          kMargin = 8;
  static constexpr double kWidestBesideLayers = 2.3;  // nodes; wider graphs stand above the layers

  static double x_of(const GraphPoint& point) { return kMargin + kPitchX * point.x; }
  static double top_of(const GraphPoint& point) {
    return kMargin + kPitchY * static_cast<double>(point.layer);
  }

  void graph() {
    std::vector<std::vector<std::size_t>> operands;
    for (const Node& node : circuit_.nodes) {
      operands.emplace_back();
      for (const ValueId value : operands_of(node)) operands.back().push_back(producer_[value]);
    }
    const std::optional<GraphLayout> layout = lay_out(operands, limits_.drawn);
    const bool is_narrow = layout && layout->width <= kWidestBesideLayers;
    add("<div class=\"net{}\"><section class=\"graph\"><h2>Network</h2>",
        is_narrow ? " narrow" : "");
    if (!layout) {
      add("<p class=\"note\">The network has {} nodes: too many to draw. Its layers "
          "follow.</p></section>",
          grouped(static_cast<std::int64_t>(circuit_.nodes.size())));
      return;
    }
    const double width = 2 * kMargin + kPitchX * layout->width;
    const double height =
        2 * kMargin + kPitchY * (static_cast<double>(layout->layers) - 1) + kBoxHeight;
    add("<div class=\"canvas\" tabindex=\"0\"><svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" "
        "role=\"group\" aria-label=\"the network from inputs to outputs\">",
        coordinate(width), coordinate(height));
    for (const GraphEdge& edge : layout->edges) draw_edge(*layout, edge);
    for (std::size_t n = 0; n < circuit_.nodes.size(); ++n) draw_node(n, layout->nodes[n]);
    add("</svg></div></section>");
  }

  void draw_edge(const GraphLayout& layout, const GraphEdge& edge) {
    const GraphPoint& from = layout.nodes[edge.from];
    double x = x_of(from), y = top_of(from) + kBoxHeight;
    std::string path = fmt::format("M{} {}", coordinate(x), coordinate(y));
    const auto curve_to = [&](double to_x, double to_y) {
      const double middle = 0.5 * (y + to_y);
      path += fmt::format("C{} {} {} {} {} {}", coordinate(x), coordinate(middle), coordinate(to_x),
                          coordinate(middle), coordinate(to_x), coordinate(to_y));
      x = to_x, y = to_y;
    };
    for (const GraphPoint& bend : edge.bends) {
      curve_to(x_of(bend), top_of(bend));
      y += kBoxHeight;
      path += fmt::format("V{}", coordinate(y));
    }
    curve_to(x_of(layout.nodes[edge.to]), top_of(layout.nodes[edge.to]));
    add("<path class=\"edge\" d=\"{}\"/>", path);
  }

  void draw_node(std::size_t n, const GraphPoint& point) {
    const Node& node = circuit_.nodes[n];
    const bool is_described = n < limits_.layers;
    const double x = x_of(point), y = top_of(point);
    if (is_described) add("<a href=\"#layer-{}\">", n + 1);
    add("<g class=\"node {}\"><title>{} {}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" "
        "height=\"{}\" "
        "rx=\"7\"/>",
        kind_of(node), kind_of(node), name(node.name), coordinate(x - 0.5 * kBoxWidth),
        coordinate(y), kBoxWidth, kBoxHeight);
    add("<text class=\"name\" x=\"{0}\" y=\"{1}\">{2}</text><text class=\"fact\" x=\"{0}\" "
        "y=\"{3}\">{4}</text></g>",
        coordinate(x), coordinate(y + 20), escape(shorten(node.name, kNameInGraph)),
        coordinate(y + 37), escape(shorten(fact(n), 30)));
    if (is_described) add("</a>");
  }

  // A node in a few words.
  std::string fact(std::size_t n) const {
    const Node& node = circuit_.nodes[n];
    const TensorType& type = type_of(node);
    const std::string shape = to_string(type.shape);
    if (plan_.lookups.contains(n))
      return fmt::format("{} lookups \xc2\xb7 {}", grouped(lookups_of(node)),
                         milliseconds(costs_.at(n)));
    return fmt::format("{} {} \xc2\xb7 {}", kind_of(node), shape,
                       is_clear_node(node, is_clear_)
                           ? "clear"
                           : fmt::format("{} bits", bit_width(type.interval)));
  }

  // Of a lookup's or output's operand, of another node's result.
  const TensorType& type_of(const Node& node) const {
    const bool reads =
        std::holds_alternative<Lut>(node.op) || std::holds_alternative<Output>(node.op);
    return circuit_.values[reads ? operands_of(node)[0] : results_of(node)[0]];
  }

  std::int64_t lookups_of(const Node& node) const {
    const Lut& lut = std::get<Lut>(node.op);
    return static_cast<std::int64_t>(lut.tables.size()) *
           number_of_elements(circuit_.values[lut.operand].shape);
  }

  // The layers.

  void layers() {
    const std::size_t count = circuit_.nodes.size(), shown = std::min(count, limits_.layers);
    add("<section class=\"layers\"><h2>Layers</h2>{}", kWords);
    for (std::size_t n = 0; n < shown; ++n) layer(n);
    if (shown < count) {
      add("<p class=\"note\">{} more layers are left out, to keep this page small; torusml inspect "
          "lists them.</p>",
          grouped(static_cast<std::int64_t>(count - shown)));
    }
    add("</section>");
  }

  void layer(std::size_t n) {
    const Node& node = circuit_.nodes[n];
    add("<article id=\"layer-{}\" class=\"{}\"><h3><span class=\"kind\">{}</span> {}</h3><div "
        "class=\"body\"><div class=\"facts\">",
        n + 1, kind_of(node), kind_of(node), name(node.name));
    if (std::holds_alternative<Input>(node.op)) input(node);
    if (const auto* linear = std::get_if<Linear>(&node.op)) this->linear(node, *linear);
    if (const auto* lut = std::get_if<Lut>(&node.op)) lookup(n, *lut);
    if (std::holds_alternative<Output>(node.op)) output(n);
    add("</div></article>");
  }

  void fact(const char* label, const std::string& value) {
    add("<div><dt>{}</dt><dd>{}</dd></div>", label, value);
  }

  void facts_of(const TensorType& type, const char* what) {
    fact("shape", to_string(type.shape));
    fact(what, text(type.interval));
    fact("bits", fmt::format("{}", bit_width(type.interval)));
  }

  void input(const Node& node) {
    add("<dl>");
    facts_of(type_of(node), "integers");
    for (const InputSpec& spec : model_.client.inputs) {
      if (spec.name != node.name) continue;
      const UniformQuantizationParameters& q = spec.quantizer.parameters();
      fact("scale", fmt::format("{:.4g}", q.scale[0]));
      if (spec.is_clear) fact("travels", "in the clear");
    }
    add("</dl></div>");
  }

  void linear(const Node& node, const Linear& linear) {
    WeightCount weights;
    for (const LinearTerm& term : linear.terms) {
      const WeightCount count = count_weights(term.weight);
      weights.nonzero += count.nonzero;
      weights.all += count.all;
    }
    add("<dl>");
    facts_of(type_of(node), "accumulator");
    fact("weights", grouped(weights.all));
    if (weights.nonzero != weights.all)
      fact("not zero",
           per_cent(static_cast<double>(weights.nonzero) / static_cast<double>(weights.all)));
    add("</dl></div>");
    if (const auto found = ranges_.find(node.name); found != ranges_.end()) ranges(*found->second);
  }

  void ranges(const RangeReport& range) {
    const std::vector<RangeBar> bars = {{"calibrated", "calibrated", range.calibrated},
                                        {"declared", "declared", range.declared},
                                        {"guaranteed", "guaranteed", range.guaranteed}};
    add("<div class=\"drawing\"><ul>");
    for (const RangeBar& bar : bars)
      add("<li><i class=\"{0}\"></i>{0} <b>{1}</b></li>", bar.label, text(bar.interval));
    add("</ul>{}</div>", range_bars(bars));
  }

  void noise_facts(std::size_t n, Variance noise, const TensorPlan& tensor) {
    if (const std::optional<double> bits = effective_bits(circuit_, plan_, n))
      fact("effective bits", fmt::format("{:.1f}", *bits));
    fact("noise, in integers", fmt::format("{:.3g}", std::sqrt(noise.value) / tensor.scale));
  }

  // Computed on integers: exact, and at no cost.
  void clear_lookup(std::size_t n, const Lut& lut) {
    add("<dl>");
    facts_of(circuit_.values[lut.operand], "domain");
    if (lut.results.size() == 1) fact("results", text(circuit_.values[lut.results[0]].interval));
    fact("table reads", grouped(lookups_of(circuit_.nodes[n])));
    fact("done by", "integers, in the clear");
    add("</dl></div>");
    tables(lut, 0);
  }

  void lookup(std::size_t n, const Lut& lut) {
    if (is_clear_[lut.operand]) return clear_lookup(n, lut);
    const LookupPlan& lookup = plan_.lookups.at(n);
    const TensorType& type = circuit_.values[lut.operand];
    const double cost = costs_.at(n);
    add("<dl>");
    facts_of(type, "domain");
    if (lut.results.size() == 1) fact("results", text(circuit_.values[lut.results[0]].interval));
    fact("lookups", grouped(lookups_of(circuit_.nodes[n])));
    fact("time",
         fmt::format("{} ({})", milliseconds(cost), per_cent(cost / plan_.cost_ms_per_core)));
    fact("policy", to_string(lookup.policy));
    noise_facts(n, lookup.noise, plan_.tensors[lut.operand]);
    fact("flip", probability(lookup.flip_probability));
    fact("step", probability(lookup.step_probability));
    fact("wrap", probability(lookup.wrap_probability));
    fact("done by", way(lookup));
    add("</dl><p class=\"note\">key set <span class=\"name\">{}</span></p></div>",
        name(plan_.key_set_of(lookup).name));
    tables(lut, std::sqrt(lookup.noise.value) / plan_.tensors[lut.operand].scale);
  }

  std::string way(const LookupPlan& lookup) const {
    if (lookup.wide.index_bits != 0)
      return fmt::format("{} bits, {} a rotation", lookup.wide.index_bits,
                         lookup.wide.bits_per_rotation);
    const std::size_t entries =
        lookup.rotation.table_size(plan_.key_set_of(lookup).parameters.polynomial_size);
    return fmt::format(
        "{} entries{}{}", grouped(static_cast<std::int64_t>(entries)),
        lookup.is_odd ? ", whole torus" : "",
        lookup.rotation.tables_log2 == 0
            ? ""
            : fmt::format(", {} tables a rotation", 1u << lookup.rotation.tables_log2));
  }

  void tables(const Lut& lut, double sigma) {
    const std::size_t here = std::min(lut.tables.size(), limits_.plots_of_a_lookup);
    std::size_t drawn = 0;
    add("<div class=\"drawing\">");
    for (; drawn < here && plots_ < limits_.plots; ++drawn, ++plots_)
      table(lut.tables[drawn], sigma);
    if (drawn < lut.tables.size()) {
      add("<p class=\"note\">{} of {} tables are drawn.</p>", drawn, lut.tables.size());
    }
    add("</div>");
  }

  void table(const Table& table, double sigma) {
    const std::size_t rows = plotted_rows(table, rows_of_a_plot_).size();
    add("<figure>{}<figcaption>", table_plot(table, {rows_of_a_plot_, limits_.columns, sigma}));
    add("table <span class=\"name\">{}</span>, ", name(table.name));
    if (table.rows == 1)
      add("one row for all elements");
    else if (static_cast<std::int64_t>(rows) == table.rows)
      add("{} rows", table.rows);
    else
      add("{} of {} rows", rows, grouped(table.rows));
    if (table.domain.size() > limits_.columns)
      add("; {} entries in {} columns", grouped(static_cast<std::int64_t>(table.domain.size())),
          limits_.columns);
    add("</figcaption></figure>");
  }

  void output(std::size_t n) {
    const OutputPlan& output = plan_.outputs.at(n);
    const ValueId operand = std::get<Output>(circuit_.nodes[n].op).operand;
    add("<dl>");
    facts_of(circuit_.values[operand], "integers");
    noise_facts(n, output.noise, plan_.tensors[operand]);
    fact("bits of a word on the wire",
         fmt::format("{}{}", output.wire_bits, output.packed ? ", packed" : ""));
    fact("flip", probability(output.flip_probability));
    fact("wrap", probability(output.wrap_probability));
    add("</dl></div>");
  }

  const Circuit& circuit_;
  const Plan& plan_;
  const std::vector<bool> is_clear_;  // by value
  const CompiledModel& model_;
  const ReportLimits limits_;
  const std::map<std::size_t, double> costs_;  // by node
  const double linear_cost_;
  std::vector<std::size_t> producer_;  // by value
  std::map<std::string, const RangeReport*> ranges_;
  std::size_t rows_of_a_plot_ = 1, plots_ = 0;
  std::string page_;
};

}  // namespace

std::string html_report(const CompiledModel& model, const ReportLimits& limits) {
  return Page(model, limits).run();
}

std::uint64_t write_html_report(const CompiledModel& model, const std::string& path) {
  const std::string page = html_report(model);
  OutputFile file(path, {});
  file.write(page);
  file.commit();
  return page.size();
}

}  // namespace torusml
