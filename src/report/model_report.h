// A compiled model as one page of HTML for people: the graph, what it costs, what noise does to it,
// and every layer with its ranges and tables. The page holds everything that it shows and loads
// nothing; it needs no script.
//
//   std::string page = html_report(model);
//   write_html_report(model, "net.html");
//
// It shows the tables of the model, that is, its activations and the biases in them; no weight and
// no key. What would make it grow without bounds is drawn in part, and the page says so
// (ReportLimits). Thread rule: pure functions. Cost: one pass over the model's tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "plan/compiled_model.h"

namespace torusml {

// At the defaults a page has a few MB at most.
struct ReportLimits {
  std::size_t layers = 3000;           // that are described
  std::size_t drawn = 1500;            // nodes and bends of edges in the graph
  std::size_t plots = 600;             // tables that are plotted
  std::size_t plots_of_a_lookup = 4;   // the same of one layer
  std::size_t columns = 120;           // of a plot: longer tables are drawn by their extremes
  std::size_t curve_columns = 100000;  // of all plots; the fewer rows of each the more plots
};

std::string html_report(const CompiledModel& model, const ReportLimits& limits = {});

// To a file; its size in bytes. Error file_unwritable.
std::uint64_t write_html_report(const CompiledModel& model, const std::string& path);

}  // namespace torusml
