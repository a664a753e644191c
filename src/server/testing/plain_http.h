// HTTP by hand over a socket, so that tests can send what no client would. Tests only.
//
//   PlainHttp http(server.port());
//   http.send("GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n");
//   HttpReply reply = http.receive();
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace torusml {

struct HttpReply {
  int status = 0;                              // 0: the connection was closed before there was one
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

class PlainHttp {
 public:
  explicit PlainHttp(std::uint16_t port) : descriptor_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{60, 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    is_open_ = connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  PlainHttp(const PlainHttp&) = delete;
  PlainHttp& operator=(const PlainHttp&) = delete;
  ~PlainHttp() { close(); }

  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }
  bool send(std::string_view bytes) {
    while (is_open_ && !bytes.empty()) {
      const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return is_open_;
  }
  HttpReply receive(bool has_body = true) {
    HttpReply reply;
    std::size_t end = 0;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!more()) return reply;
    }
    std::string head = received_.substr(0, end + 2);
    received_.erase(0, end + 4);
    reply.status = std::stoi(head.substr(9, 3));
    for (std::size_t line = head.find("\r\n") + 2; line < head.size();) {
      const std::size_t line_end = head.find("\r\n", line), colon = head.find(':', line);
      std::string name = head.substr(line, colon - line);
      std::ranges::transform(name, name.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      });
      reply.headers[name] = head.substr(colon + 2, line_end - colon - 2);
      line = line_end + 2;
    }
    const std::size_t length = has_body && reply.headers.contains("content-length")
                                   ? std::stoul(reply.headers["content-length"])
                                   : 0;
    while (received_.size() < length && more()) {
    }
    reply.body = received_.substr(0, length);
    received_.erase(0, length);
    return reply;
  }
  // Whether the server closes within the time that a test has.
  bool is_closed() {
    while (more()) {
    }
    return true;
  }

 private:
  bool more() {
    char block[65536];
    const ssize_t bytes = recv(descriptor_, block, sizeof(block), 0);
    if (bytes <= 0) return false;
    received_.append(block, static_cast<std::size_t>(bytes));
    return true;
  }

  int descriptor_;
  bool is_open_ = false;
  std::string received_;
};

}  // namespace torusml
