// Where a server is: "https://fhe.example.org:8443", "http://127.0.0.1:8080/prefix".
//
//   const Url url = parse_url("https://fhe.example.org");
//   url.host;            // "fhe.example.org"
//   url.port;            // "443"
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace torusml {

struct Url {
  bool is_secure = false;         // https
  std::string host;               // a name or an address; one of IPv6 without brackets
  std::string port;               // a number
  std::string path;               // before every path of the server, without a '/' at its end
  std::string authority() const;  // as the header Host has it
  std::string text() const;
};

// Error invalid_argument: another scheme, a user or a query in it, no host, no port.
Url parse_url(const std::string& text);

bool is_address(const std::string& host);   // of IPv4 or IPv6
bool is_loopback(const std::string& host);  // 127.0.0.0/8, ::1, localhost

// A part of a path: bytes other than letters, digits and "-._~" as %XX.
std::string escape_path(std::string_view part);

}  // namespace torusml
