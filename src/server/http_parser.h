// The header of a request out of bytes as they come: Boost.Beast's parser, within a limit.
//
//   HeaderParser parser(settings.header_bytes);
//   while (!parser.is_done()) buffer.consume(parser.put(received(buffer)));
//   HttpRequest request = parser.request();
//
// Thread rule: one parser, one thread. Cost: O(bytes).
#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>
#include <string_view>

#include "server/http_message.h"

namespace torusml {

class HeaderParser {
 public:
  explicit HeaderParser(std::uint32_t most_bytes);

  // Gives how many of the bytes it took: those that follow are the body's, if it is done, and have
  // to be given again with more behind them, if it is not. Errors request_invalid: 400 for what is
  // no HTTP, 431 for a header that is too large.
  std::size_t put(std::string_view bytes);
  bool is_done() const { return parser_.is_header_done(); }

  // Without id and is_from_loopback.
  HttpRequest request() const;
  bool keeps_open() const { return parser_.keep_alive(); }

 private:
  boost::beast::http::request_parser<boost::beast::http::empty_body> parser_;
  const std::uint32_t most_bytes_;
};

}  // namespace torusml
