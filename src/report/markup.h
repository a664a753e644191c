// Text on its way into a page. What comes from a model may hold anything; what comes out of here is
// plain text for HTML, for attributes in double quotes and for SVG.
//
//   page += fmt::format("<b title=\"{}\">{}</b>", escape(name), escape(shorten(name, 20)));
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "circuit/circuit.h"

namespace torusml {

// & < > " ' as entities; bytes that are no UTF-8, control characters and those that turn the
// direction of writing as U+FFFD.
std::string escape(std::string_view text);

// At most so many characters, three or more, the middle left out. Cuts between characters.
std::string shorten(std::string_view text, std::size_t most);

// 12,345,678, with a true minus sign.
std::string grouped(std::int64_t value);
// [-12, 1,234]
std::string text(Interval interval);
// A power "2^-40" becomes 2<sup>-40</sup>; other text stays.
std::string with_powers(const std::string& text);
// A coordinate, to a tenth of a pixel.
std::string coordinate(double value);

}  // namespace torusml
