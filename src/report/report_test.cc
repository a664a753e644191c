#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "artifact/sample_model.h"
#include "report/graph_layout.h"
#include "report/markup.h"
#include "report/model_report.h"
#include "report/plots.h"
#include "torusml/error.h"

namespace torusml {
namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

TEST(Markup, EscapesWhatHtmlReads) {
  EXPECT_EQ(escape("<script>alert('1' & \"2\")</script>"),
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;");
  EXPECT_EQ(escape("größe 中"), "größe 中");
}

TEST(Markup, ReplacesBytesThatAreNoText) {
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(escape("a\xff"
                   "b"),
            "a" + bad + "b");
  EXPECT_EQ(escape(std::string("a\0b", 3)), "a" + bad + "b");
  EXPECT_EQ(escape("\xc0\xbc"), bad + bad);            // '<', written too long
  EXPECT_EQ(escape("\xed\xa0\x80"), bad + bad + bad);  // a surrogate
  EXPECT_EQ(escape("\xe2\x80"), bad + bad);            // cut off
  EXPECT_EQ(escape("x\xe2\x80\xae"
                   "fdp"),
            "x" + bad + "fdp");  // turns the direction
  EXPECT_EQ(escape("\n\t\x7f"), bad + bad + bad);
}

TEST(Markup, ShortensBetweenCharacters) {
  EXPECT_EQ(shorten("abcdef", 6), "abcdef");
  EXPECT_EQ(shorten("abcdefghij", 7), "abcd\xe2\x80\xa6ij");
  EXPECT_EQ(shorten("ääääääääää", 4), "ää\xe2\x80\xa6ä");
}

TEST(Markup, Numbers) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1234567), "1,234,567");
  EXPECT_EQ(grouped(-1234),
            "\xe2\x88\x92"
            "1,234");
  EXPECT_EQ(with_powers("2^-40"),
            "2<sup>\xe2\x88\x92"
            "40</sup>");
  EXPECT_EQ(with_powers("1.4 %"), "1.4 %");
  EXPECT_EQ(coordinate(-0.01), "0");
  EXPECT_EQ(coordinate(12.34), "12.3");
}

// Edges lead downwards, bends fill the layers between, and nothing of a layer overlaps.
void check_layout(const std::vector<std::vector<std::size_t>>& operands) {
  const auto layout = lay_out(operands, 100000);
  ASSERT_TRUE(layout.has_value());
  ASSERT_EQ(layout->nodes.size(), operands.size());
  std::vector<std::pair<std::size_t, double>> places;
  for (const GraphPoint& node : layout->nodes) {
    EXPECT_LT(node.layer, layout->layers);
    EXPECT_GE(node.x, 0.5 - 1e-9);
    EXPECT_LE(node.x, layout->width - 0.5 + 1e-9);
    places.emplace_back(node.layer, node.x);
  }
  std::sort(places.begin(), places.end());
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (places[i].first == places[i - 1].first) {
      EXPECT_GE(places[i].second - places[i - 1].second, 1 - 1e-9);
    }
  }
  std::set<std::pair<std::size_t, std::size_t>> edges;
  for (std::size_t n = 0; n < operands.size(); ++n) {
    for (const std::size_t source : operands[n]) edges.emplace(source, n);
  }
  EXPECT_EQ(layout->edges.size(), edges.size());
  for (const GraphEdge& edge : layout->edges) {
    EXPECT_TRUE(edges.contains({edge.from, edge.to}));
    std::size_t layer = layout->nodes[edge.from].layer;
    for (const GraphPoint& bend : edge.bends) EXPECT_EQ(bend.layer, ++layer);
    EXPECT_EQ(layout->nodes[edge.to].layer, layer + 1);
  }
}

TEST(GraphLayout, ChainIsStraight) {
  const auto layout = lay_out({{}, {0}, {1}, {2}}, 100);
  for (std::size_t n = 0; n < 4; ++n) {
    EXPECT_EQ(layout->nodes[n].layer, n);
    EXPECT_NEAR(layout->nodes[n].x, 0.5, 1e-9);
  }
  EXPECT_EQ(layout->width, 1);
}

TEST(GraphLayout, BranchesStandSideBySide) {
  const auto layout = lay_out({{}, {0}, {0}, {1, 2}}, 100);
  EXPECT_EQ(layout->nodes[1].layer, layout->nodes[2].layer);
  EXPECT_NEAR(std::abs(layout->nodes[1].x - layout->nodes[2].x), 1, 1e-9);
  check_layout({{}, {0}, {0}, {1, 2}});
}

TEST(GraphLayout, ResidualsLeaveTheChainStraight) {
  std::vector<std::vector<std::size_t>> operands{{}};
  for (std::size_t n = 1; n <= 60; ++n) {
    operands.push_back({n - 1});
    if (n % 4 == 3) operands[n].push_back(n - 3);
  }
  check_layout(operands);
  const auto layout = lay_out(operands, 1000);
  for (const GraphPoint& node : layout->nodes) EXPECT_NEAR(node.x, layout->nodes[0].x, 0.05);
  EXPECT_LT(layout->width, 2);
}

TEST(GraphLayout, RandomGraphs) {
  check_layout({});
  check_layout({{}, {}, {0, 0}, {1}, {}});
  std::uint64_t state = 1;
  const auto below = [&](std::size_t limit) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return static_cast<std::size_t>(state >> 33) % limit;
  };
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<std::vector<std::size_t>> operands{{}};
    for (std::size_t n = 1; n < 3 + below(40); ++n) {
      operands.emplace_back();
      for (std::size_t i = below(4); i > 0; --i)
        operands.back().push_back(below(2) == 0 ? n - 1 : below(n));
    }
    check_layout(operands);
  }
}

TEST(GraphLayout, TooMany) {
  std::vector<std::vector<std::size_t>> operands{{}};
  for (std::size_t n = 1; n < 50; ++n) operands.push_back({n - 1});
  EXPECT_TRUE(lay_out(operands, 50).has_value());
  EXPECT_FALSE(lay_out(operands, 49).has_value());
  operands.push_back({0, 49});  // 49 bends
  EXPECT_TRUE(lay_out(operands, 100).has_value());
  EXPECT_FALSE(lay_out(operands, 98).has_value());
}

Table ramp(std::int64_t lower, std::int64_t upper, std::int64_t rows) {
  Table table{"ramp", {lower, upper}, rows, {}, {}};
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t v = lower; v <= upper; ++v)
      table.entries.push_back(std::max<std::int64_t>(v, row));
  }
  return table;
}

TEST(Plots, RowsAtEvenDistances) {
  EXPECT_EQ(plotted_rows(ramp(0, 1, 3), 8), (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(plotted_rows(ramp(0, 1, 9), 3), (std::vector<std::size_t>{0, 4, 8}));
  EXPECT_EQ(plotted_rows(ramp(0, 1, 9), 1), (std::vector<std::size_t>{0}));
}

TEST(Plots, LongTablesStaySmallAndKeepTheirPeaks) {
  Table table = ramp(-30000, 29999, 1);
  table.entries[12345] = 40000;
  const std::string plot = table_plot(table, {.columns = 120});
  EXPECT_LT(plot.size(), 10000u);
  EXPECT_NE(plot.find(">40,000<"), std::string::npos);
  EXPECT_NE(plot.find("V10"), std::string::npos) << "the peak reaches the top";
}

TEST(Plots, OneValueOneEntry) {
  const Table table{"one", {3, 3}, 1, {-7}, {}};
  EXPECT_EQ(table_plot(table, {}).find("nan"), std::string::npos);
  EXPECT_EQ(range_bars({{"declared", "declared", {3, 3}}}).find("nan"), std::string::npos);
}

TEST(Report, HoldsEveryLayerAndItsFigures) {
  const std::string page = html_report(sample_model());
  for (const char* part : {"fc1", "relu1", "x &quot;1&quot;",
                           "[\xe2\x88\x92"
                           "40, 40]",
                           "id=\"layer-4\"", "href=\"#layer-4\"", "effective bits", "guaranteed"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(count(page, "<article"), 4u);
  EXPECT_EQ(count(page, "http"), 0u);
  EXPECT_EQ(count(page, "<script"), 0u);
  EXPECT_EQ(count(page, "nan"), 0u);
}

TEST(Report, ModelWithoutLookups) {
  const std::string page = html_report(sample_model(false));
  EXPECT_EQ(count(page, "<article"), 3u);
  EXPECT_EQ(count(page, "nan"), 0u);
}

TEST(Report, NamesCannotBecomeMarkup) {
  const std::string evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
  CompiledModel model = sample_model();
  model.client.model_name = evil;
  model.plan.key_sets[0].name = evil;
  for (Node& node : model.circuit.nodes) node.name = evil;
  for (RangeReport& range : model.ranges) range.name = evil;
  std::get<Lut>(model.circuit.nodes[2].op).tables[0].name = evil;
  const std::string page = html_report(model);
  EXPECT_EQ(count(page, "<script"), 0u);
  EXPECT_EQ(count(page, "<img"), 0u);
  EXPECT_EQ(count(page, "\"><"), count(html_report(sample_model()), "\"><"));
}

// A chain of lookups with a table of so many values and rows each.
CompiledModel long_model(std::size_t layers, std::int64_t values, std::int64_t rows) {
  CompiledModel model = sample_model();
  Circuit& circuit = model.circuit;
  circuit = {};
  circuit.values = {{{rows}, {0, values - 1}}};
  circuit.nodes = {{"x", Input{0}}};
  model.plan.lookups.clear();
  model.plan.outputs.clear();
  for (std::size_t l = 0; l < layers; ++l) {
    const auto operand = static_cast<ValueId>(l);
    Table table{"t", {0, values - 1}, rows, {}, {}};
    for (std::int64_t i = 0; i < values * rows; ++i)
      table.entries.push_back(i * 7919 % values);  // jumps at every entry
    for (std::int64_t r = 0; r < rows; ++r)
      table.row_of_element.push_back(static_cast<std::uint32_t>(r));
    circuit.values.push_back(circuit.values[0]);
    circuit.nodes.push_back({"lookup " + std::to_string(l), Lut{operand, {table}, {operand + 1}}});
    model.plan.lookups[l + 1] = {.guard = 0.5, .noise = {1e-10}};
  }
  circuit.nodes.push_back({"y", Output{static_cast<ValueId>(layers)}});
  model.plan.outputs[layers + 1] = {.guard = 0.5, .noise = {1e-20}};
  model.plan.tensors.assign(layers + 1, {0.25 / static_cast<double>(values), 0, {1e-20}});
  return model;
}

TEST(Report, LongTablesAndManyLayersGiveASmallPage) {
  const std::string few = html_report(long_model(3, 60000, 4));
  EXPECT_LT(few.size(), 200'000u);
  EXPECT_NE(few.find("60,000 entries in 120 columns"), std::string::npos);
  const std::string many = html_report(long_model(2000, 64, 8));
  EXPECT_LT(many.size(), 8'000'000u);
  EXPECT_EQ(count(many, "<article"), 2002u);
  EXPECT_NE(many.find("too many to draw"), std::string::npos);
  EXPECT_NE(many.find("0 of 1 tables are drawn"), std::string::npos);
}

TEST(Report, LayersBeyondTheLimitAreSaid) {
  const std::string page = html_report(long_model(50, 16, 1), {.layers = 10});
  EXPECT_EQ(count(page, "<article"), 10u);
  EXPECT_NE(page.find("42 more layers are left out"), std::string::npos);
  EXPECT_EQ(page.find("#layer-11"), std::string::npos);
}

TEST(Report, UnwritableFile) {
  try {
    write_html_report(sample_model(), "/nowhere/report.html");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::file_unwritable);
  }
}

}  // namespace
}  // namespace torusml
