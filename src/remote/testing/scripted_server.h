// A small server for tests that says what a test tells it, right or wrong, over TCP or TLS.
//
//   ScriptedServer server([](Conversation& c) {
//     c.read_body();
//     c.answer(200, "{}");
//   });
//   HttpConnection connection(parse_url(server.url()), {}, {});
//
// The function is called for every request, once its header is there, by the connection's thread.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "remote/testing/test_certificate.h"

namespace torusml {

class Conversation {
 public:
  Conversation(int socket, SSL* tls) : socket_(socket), tls_(tls) {}

  // False when the client went away.
  bool read_head() {
    std::size_t end = 0;
    while ((end = pending_.find("\r\n\r\n")) == std::string::npos) {
      if (!receive()) return false;
    }
    head_ = pending_.substr(0, end + 2);
    pending_.erase(0, end + 4);
    return true;
  }

  std::string method() const { return head_.substr(0, head_.find(' ')); }
  std::string target() const {
    const std::size_t begin = head_.find(' ') + 1;
    return head_.substr(begin, head_.find(' ', begin) - begin);
  }
  std::string header(const std::string& name) const {
    const std::size_t at = head_.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const std::size_t begin = at + name.size() + 4;
    return head_.substr(begin, head_.find("\r\n", begin) - begin);
  }
  // Up to `most` bytes of it.
  std::string read_body(std::size_t most = SIZE_MAX) {
    const std::string length = header("Content-Length");
    const std::size_t size = std::min<std::size_t>(most, length.empty() ? 0 : std::stoul(length));
    while (pending_.size() < size && receive()) {
    }
    std::string body = pending_.substr(0, size);
    pending_.erase(0, size);
    return body;
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const long sent = tls_ != nullptr
                            ? SSL_write(tls_, bytes.data(), static_cast<int>(bytes.size()))
                            : ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        is_closed = true;
        return;
      }
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void answer(int status, const std::string& body = "", const std::string& headers = "") {
    send("HTTP/1.1 " + std::to_string(status) +
         " x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" +
         (method() == "HEAD" ? "" : body));
  }
  void close() { is_closed = true; }

  bool is_closed = false;

 private:
  bool receive() {
    char bytes[65536];
    const long got = tls_ != nullptr ? SSL_read(tls_, bytes, sizeof(bytes))
                                     : ::recv(socket_, bytes, sizeof(bytes), 0);
    if (got <= 0) {
      is_closed = true;
      return false;
    }
    pending_.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  int socket_;
  SSL* tls_;
  std::string head_, pending_;
};

class ScriptedServer {
 public:
  using Script = std::function<void(Conversation&)>;

  explicit ScriptedServer(Script script, const TestCertificate* certificate = nullptr)
      : script_(std::move(script)) {
    if (certificate != nullptr) {
      tls_.reset(SSL_CTX_new(TLS_server_method()));
      SSL_CTX_use_certificate(tls_.get(), certificate->certificate.get());
      SSL_CTX_use_PrivateKey(tls_.get(), certificate->key.get());
    }
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 64) != 0)
      throw std::runtime_error("no port for a scripted server");
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~ScriptedServer() {
    stopping_ = true;
    acceptor_.join();
    ::close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    for (const int socket : sockets_) ::close(socket);
  }

  std::string url(const std::string& host = "127.0.0.1") const {
    return std::string(tls_ ? "https" : "http") + "://" + host + ":" + std::to_string(port_);
  }
  int connections() const { return connections_; }
  int requests() const { return requests_; }

 private:
  void accept_all() {
    while (!stopping_) {
      pollfd waiting{listener_, POLLIN, 0};
      if (::poll(&waiting, 1, 20) != 1) continue;
      const int socket = ::accept(listener_, nullptr, nullptr);
      if (socket < 0) continue;
      ++connections_;
      const std::lock_guard lock(mutex_);
      sockets_.push_back(socket);
      threads_.emplace_back([this, socket] { talk(socket); });
    }
  }

  void talk(int socket) {
    std::unique_ptr<SSL, decltype(&SSL_free)> session(nullptr, &SSL_free);
    if (tls_) {
      session.reset(SSL_new(tls_.get()));
      SSL_set_fd(session.get(), socket);
    }
    if (!session || SSL_accept(session.get()) == 1) {
      Conversation conversation(socket, session.get());
      while (!conversation.is_closed && conversation.read_head()) {
        ++requests_;
        script_(conversation);
      }
    }
    ::shutdown(socket, SHUT_RDWR);
  }

  Script script_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> tls_{nullptr, &SSL_CTX_free};
  int listener_ = -1;
  unsigned port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> connections_ = 0, requests_ = 0;
  std::mutex mutex_;
  std::vector<int> sockets_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace torusml
