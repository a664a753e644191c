#include "server/http_parser.h"

#include <boost/asio/buffer.hpp>
#include <limits>
#include <string>

namespace torusml {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

HttpError bad_header(const error_code& error) {
  const bool is_too_large =
      error == http::error::header_limit || error == http::error::buffer_overflow;
  return bad_request(is_too_large ? 431 : 400, is_too_large
                                                   ? "the request's header is too large"
                                                   : "the request is not HTTP: " + error.message());
}

}  // namespace

HeaderParser::HeaderParser(std::uint32_t most_bytes) : most_bytes_(most_bytes) {
  parser_.header_limit(most_bytes);
  parser_.body_limit(std::numeric_limits<std::uint64_t>::max());  // handlers have their own
}

std::size_t HeaderParser::put(std::string_view bytes) {
  error_code error;
  const std::size_t used = parser_.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) throw bad_header(error);
  if (!is_done() && bytes.size() - used > most_bytes_) throw bad_header(http::error::header_limit);
  return used;
}

HttpRequest HeaderParser::request() const {
  const auto& header = parser_.get();
  HttpRequest request;
  request.method = std::string(header.method_string());
  request.target = std::string(header.target());
  for (const auto& field : header)
    request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  if (const auto length = parser_.content_length()) request.content_length = *length;
  request.is_chunked = parser_.chunked() || !request.header("Transfer-Encoding").empty();
  return request;
}

}  // namespace torusml
