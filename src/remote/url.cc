#include "remote/url.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "torusml/error.h"

namespace torusml {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::invalid_argument, what, "url",
              "such as https://fhe.example.org:8443 or http://127.0.0.1:8080");
}

bool is_v6(const std::string& host) {
  std::array<unsigned char, 16> bytes;
  return inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

bool is_v4(const std::string& host) {
  std::array<unsigned char, 4> bytes;
  return inet_pton(AF_INET, host.c_str(), bytes.data()) == 1;
}

bool is_plain(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

void check_port(const std::string& port) {
  unsigned number = 0;
  const char* const end = port.data() + port.size();
  const auto [stop, error] = std::from_chars(port.data(), end, number);
  if (error != std::errc{} || stop != end || number == 0 || number > 65535)
    refuse("its port is no number from 1 to 65535");
}

// "host", "host:port", "[address]:port" to its two parts.
void split_authority(std::string_view authority, Url& url) {
  std::string_view rest;
  if (authority.starts_with('[')) {
    const std::size_t close = authority.find(']');
    if (close == authority.npos) refuse("an address of IPv6 ends with ']'");
    url.host = authority.substr(1, close - 1);
    if (!is_v6(url.host)) refuse("there is no address of IPv6 in the brackets");
    rest = authority.substr(close + 1);
  } else {
    const std::size_t colon = authority.find(':');
    url.host = authority.substr(0, colon);
    if (colon != authority.npos) rest = authority.substr(colon);
    if (!std::ranges::all_of(url.host, is_plain))
      refuse("its host has other than letters, digits, '-' and '.'");
  }
  if (url.host.empty()) refuse("there is no host in it");
  if (!rest.empty() && rest.front() != ':') refuse("after the host comes a port or a path");
  url.port = rest.empty() ? (url.is_secure ? "443" : "80") : std::string(rest.substr(1));
  check_port(url.port);
}

}  // namespace

std::string Url::authority() const {
  const std::string name = is_v6(host) ? fmt::format("[{}]", host) : host;
  const bool is_default = port == (is_secure ? "443" : "80");
  return is_default ? name : fmt::format("{}:{}", name, port);
}

std::string Url::text() const {
  return fmt::format("{}://{}{}", is_secure ? "https" : "http", authority(), path);
}

Url parse_url(const std::string& text) {
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    url.is_secure = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    refuse("it begins with neither https:// nor http://");
  }
  if (rest.find('@') != rest.npos) refuse("there is a user in it, which is never sent");
  if (rest.find_first_of("?#") != rest.npos) refuse("there is a query or a fragment in it");
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  split_authority(rest.substr(0, slash), url);
  url.path = rest.substr(slash);
  if (!std::ranges::all_of(url.path, [](char c) {
        return is_plain(static_cast<unsigned char>(c)) || c == '/' || c == '%';
      }))
    refuse("its path has characters that are to be escaped");
  while (url.path.ends_with('/')) url.path.pop_back();
  return url;
}

bool is_address(const std::string& host) { return is_v4(host) || is_v6(host); }

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  return is_v4(host) ? host.starts_with("127.") : host == "::1";
}

std::string escape_path(std::string_view part) {
  std::string escaped;
  for (const char c : part) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_plain(byte)) {
      escaped += c;
    } else {
      escaped += fmt::format("%{:02X}", byte);
    }
  }
  return escaped;
}

}  // namespace torusml
