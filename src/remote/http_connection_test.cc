#include "remote/http_connection.h"

#include <gtest/gtest.h>

#include "base/testing/temporary_folder.h"
#include "remote/testing/scripted_server.h"

namespace torusml {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Long enough for a machine that does other work.
HttpTimeouts quick() { return {milliseconds(10000), milliseconds(1500)}; }

HttpConnection connection_to(const ScriptedServer& server, const HttpTimeouts& timeouts = quick()) {
  return HttpConnection(parse_url(server.url()), {}, timeouts);
}

template <class Failure>
Failure failure_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Failure& failure) {
    return failure;
  }
  throw std::runtime_error("no failure");
}

ErrorCode code_of(const std::function<void()>& action) { return failure_of<Error>(action).code(); }

TEST(HttpConnection, ConnectionsAreUsedAgain) {
  ScriptedServer server([](Conversation& c) {
    c.answer(200, c.method() + " " + c.target() + " " + c.read_body(), "X-Of: test\r\n");
  });
  HttpConnection connection = connection_to(server);
  const std::string text = "body";
  const MemorySource body(text, "body");
  for (int i = 0; i < 3; ++i) {
    const HttpAnswer answer = connection.exchange(
        {.method = "POST", .target = "/v2/x", .body = &body, .body_bytes = 4}, {});
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "POST /v2/x body");
    EXPECT_EQ(answer.header("x-oF"), "test");
    EXPECT_EQ(answer.header("missing"), "");
  }
  EXPECT_EQ(server.connections(), 1);
  EXPECT_GT(connection.bytes_sent(), 3 * (4 + 60u));
  EXPECT_GT(connection.bytes_received(), 3 * 40u);
}

TEST(HttpConnection, HeadersAreSent) {
  std::string token, length, range;
  ScriptedServer server([&](Conversation& c) {
    token = c.header("Authorization");
    length = c.header("Content-Length");
    range = c.header("Content-Range");
    EXPECT_EQ(c.read_body(), "cd");
    c.answer(202);
  });
  HttpConnection connection = connection_to(server);
  const std::string text = "abcdef";
  const MemorySource body(text, "body");
  connection.exchange({.method = "PUT",
                       .headers = {{"Content-Range", "bytes 2-3/6"}},
                       .body = &body,
                       .body_offset = 2,
                       .body_bytes = 2,
                       .token = "tml_1_2"},
                      {});
  EXPECT_EQ(token, "Bearer tml_1_2");
  EXPECT_EQ(length, "2");
  EXPECT_EQ(range, "bytes 2-3/6");
}

TEST(HttpConnection, HeadersCannotBeForged) {
  ScriptedServer server([](Conversation& c) { c.answer(200); });
  HttpConnection connection = connection_to(server);
  EXPECT_EQ(code_of([&] { connection.exchange({.token = "a\r\nX-Evil: 1"}, {}); }),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { connection.exchange({.target = "/ HTTP/1.1\r\n\r\n"}, {}); }),
            ErrorCode::invalid_argument);
  EXPECT_EQ(server.requests(), 0);
}

TEST(HttpConnection, AnswersOfEveryFormAreRead) {
  std::vector<std::string> forms{
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
      "HTTP/1.0 200 OK\r\n\r\nhello",  // to the end of the connection
  };
  for (const std::string& form : forms) {
    ScriptedServer server([&](Conversation& c) {
      c.send(form);
      c.close();
    });
    EXPECT_EQ(connection_to(server).exchange({}, {}).body, "hello") << form;
  }
  ScriptedServer head([](Conversation& c) { c.answer(404, "never sent", "Upload-Offset: 3\r\n"); });
  HttpConnection connection = connection_to(head);
  for (int i = 0; i < 2; ++i) {
    const HttpAnswer answer = connection.exchange({.method = "HEAD"}, {});
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(answer.body, "");
    EXPECT_EQ(answer.header("Upload-Offset"), "3");
  }
  EXPECT_EQ(head.connections(), 1);
}

TEST(HttpConnection, CutAnswersAreFailuresOfTheConnection) {
  for (const std::string& form : {
           std::string(""),
           std::string("HTTP/1.1 200 OK\r\nContent-Le"),
           std::string("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
           std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhe"),
       }) {
    ScriptedServer server([&](Conversation& c) {
      c.send(form);
      c.close();
    });
    HttpConnection connection = connection_to(server);
    EXPECT_TRUE(
        failure_of<ConnectionFailure>([&] { connection.exchange({}, {}); }).request_was_sent)
        << form;
  }
}

TEST(HttpConnection, WhatIsNotHttpIsRefused) {
  for (const std::string& form : {
           std::string("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
           "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n",
       }) {
    ScriptedServer server([&](Conversation& c) {
      c.send(form);
      c.close();
    });
    HttpConnection connection = connection_to(server);
    const Error error = failure_of<Error>([&] { connection.exchange({}, {}); });
    EXPECT_EQ(error.code(), ErrorCode::server_refused);
    EXPECT_EQ(std::string(error.what()).find("broke"), std::string::npos) << error.what();
  }
}

TEST(HttpConnection, AnswersHaveALimit) {
  const std::string body(5000, 'x');
  for (const std::string& form : {
           "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + body,
           std::string("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n"),
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + body + "\r\n0\r\n\r\n",
           "HTTP/1.0 200 OK\r\n\r\n" + body,
       }) {
    ScriptedServer server([&](Conversation& c) {
      c.send(form);
      c.close();
    });
    HttpConnection connection = connection_to(server);
    const Error error =
        failure_of<Error>([&] { connection.exchange({}, {.max_body_bytes = 4999}); });
    EXPECT_EQ(error.code(), ErrorCode::server_refused);
    EXPECT_NE(error.message().find("4999"), std::string::npos) << error.what();
  }
}

TEST(HttpConnection, SilenceEndsAnExchangeUnlessTheServerComputes) {
  ScriptedServer server([](Conversation& c) {
    c.read_body();
    std::this_thread::sleep_for(milliseconds(2500));
    c.answer(200, "late");
  });
  HttpConnection connection = connection_to(server);
  const Error silent = failure_of<ConnectionFailure>([&] { connection.exchange({}, {}); });
  EXPECT_NE(silent.message().find("silent"), std::string::npos);
  EXPECT_EQ(connection.exchange({}, {.answer_takes_long = true}).body, "late");
  const ExchangeOptions short_of_time{.until = Clock::now() + milliseconds(150),
                                      .answer_takes_long = true};
  EXPECT_EQ(code_of([&] { connection.exchange({}, short_of_time); }), ErrorCode::deadline_exceeded);
}

TEST(HttpConnection, ASlowAnswerIsNoSilence) {
  ScriptedServer server([](Conversation& c) {
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
    for (int i = 0; i < 6; ++i) {
      std::this_thread::sleep_for(milliseconds(300));
      c.send("x");
    }
  });
  EXPECT_EQ(connection_to(server).exchange({}, {}).body, "xxxxxx");
}

TEST(HttpConnection, WhatAliveThrowsStopsIt) {
  std::atomic<bool> went_away = false;
  ScriptedServer server([&](Conversation& c) {
    c.read_body();
    went_away = !c.read_head();
  });
  {
    HttpConnection connection = connection_to(server);
    const ExchangeOptions options{.answer_takes_long = true,
                                  .alive = [](std::uint64_t) { throw std::runtime_error("stop"); }};
    EXPECT_THROW(connection.exchange({}, options), std::runtime_error);
    for (int i = 0; i < 1000 && !went_away; ++i) std::this_thread::sleep_for(milliseconds(10));
    EXPECT_TRUE(went_away);
  }
}

TEST(HttpConnection, AnEarlyAnswerEndsAnUpload) {
  ScriptedServer server([](Conversation& c) {
    c.answer(413, "too much");
    c.close();
  });
  const std::string much(std::size_t{64} << 20, 'x');
  const MemorySource body(much, "body");
  HttpConnection connection = connection_to(server);
  // The end of the connection may overtake the answer, which is a failure of the connection then.
  try {
    const HttpAnswer answer =
        connection.exchange({.method = "PUT", .body = &body, .body_bytes = much.size()}, {});
    EXPECT_EQ(answer.status, 413);
  } catch (const ConnectionFailure&) {
  }
  EXPECT_LT(connection.bytes_sent(), much.size());
}

TEST(HttpConnection, BytesOfAnUploadAreReported) {
  ScriptedServer server([](Conversation& c) {
    for (int i = 0; i < 32; ++i) {
      c.read_body(1 << 20);
      std::this_thread::sleep_for(milliseconds(5));
    }
    c.answer(201);
  });
  const std::string much(std::size_t{32} << 20, 'x');
  const MemorySource body(much, "body");
  std::vector<std::uint64_t> reports;
  HttpConnection connection = connection_to(server);
  const ExchangeOptions options{.alive = [&](std::uint64_t sent) { reports.push_back(sent); }};
  EXPECT_EQ(
      connection.exchange({.method = "PUT", .body = &body, .body_bytes = much.size()}, options)
          .status,
      201);
  EXPECT_TRUE(std::ranges::is_sorted(reports));
  ASSERT_FALSE(reports.empty());
  EXPECT_GT(reports.back(), 0u);
}

TEST(HttpConnection, AConnectionThatTheServerClosedIsMadeAnew) {
  ScriptedServer server([](Conversation& c) {
    c.answer(200, "once");
    c.close();
  });
  HttpConnection connection = connection_to(server);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(connection.exchange({}, {}).body, "once");
    std::this_thread::sleep_for(milliseconds(200));
  }
  EXPECT_EQ(server.connections(), 3);
}

TEST(HttpConnection, NobodyThereIsToldAtOnce) {
  std::string url;
  {
    url = ScriptedServer([](Conversation&) {}).url();
  }
  HttpConnection connection(parse_url(url), {}, quick());
  const auto failure = failure_of<ConnectionFailure>([&] { connection.exchange({}, {}); });
  EXPECT_FALSE(failure.request_was_sent);
  EXPECT_EQ(failure.where(), url);
  HttpConnection elsewhere(parse_url("http://192.0.2.1:9"), {}, quick(), /*loopback_only=*/true);
  EXPECT_FALSE(failure_of<ConnectionFailure>([&] { elsewhere.exchange({}, {}); }).request_was_sent);
}

class Tls : public testing::Test {
 protected:
  std::string file(const TestCertificate& certificate) {
    certificate.write(folder_ / "authority.pem");
    return folder_ / "authority.pem";
  }
  std::string refusal(const ScriptedServer& server, const std::string& host,
                      const std::string& ca_file) {
    HttpConnection connection(parse_url(server.url(host)), {ca_file}, quick());
    return failure_of<Error>([&] { connection.exchange({}, {}); }).what();
  }

 private:
  const TemporaryFolder folder_;
};

TEST_F(Tls, ATrustedCertificateOfTheHostIsTaken) {
  for (const auto& [subject, host] :
       {std::pair("IP:127.0.0.1", "127.0.0.1"), std::pair("DNS:localhost", "localhost")}) {
    const TestCertificate certificate = make_certificate(subject);
    ScriptedServer server([](Conversation& c) { c.answer(200, c.header("Host")); }, &certificate);
    HttpConnection connection(parse_url(server.url(host)), {file(certificate)}, quick());
    for (int i = 0; i < 3; ++i)
      EXPECT_TRUE(connection.exchange({}, {}).body.starts_with(host)) << subject;
    EXPECT_EQ(server.connections(), 1);
  }
}

TEST_F(Tls, OthersAreRefused) {
  const TestCertificate certificate = make_certificate("IP:127.0.0.1");
  ScriptedServer server([](Conversation& c) { c.answer(200); }, &certificate);
  EXPECT_NE(refusal(server, "127.0.0.1", "").find("self-signed"), std::string::npos);
  EXPECT_NE(refusal(server, "localhost", file(certificate)).find("ostname mismatch"),
            std::string::npos);
  const TestCertificate other = make_certificate("IP:127.0.0.1");
  EXPECT_NE(refusal(server, "127.0.0.1", file(other)).find("certificate is not accepted"),
            std::string::npos);
  const TestCertificate old = make_certificate("IP:127.0.0.1", -60);
  ScriptedServer expired([](Conversation& c) { c.answer(200); }, &old);
  EXPECT_NE(refusal(expired, "127.0.0.1", file(old)).find("expired"), std::string::npos);
  EXPECT_EQ(server.requests() + expired.requests(), 0);
}

TEST_F(Tls, AFileWithoutCertificatesIsUnreadable) {
  EXPECT_EQ(code_of([] { HttpConnection(parse_url("https://x"), {"/missing.pem"}, {}); }),
            ErrorCode::file_unreadable);
}

TEST_F(Tls, AServerWithoutTlsIsAFailure) {
  ScriptedServer server([](Conversation& c) { c.answer(200); });
  std::string url = server.url();
  HttpConnection connection(parse_url("https" + url.substr(4)), {}, quick());
  EXPECT_EQ(code_of([&] { connection.exchange({}, {}); }), ErrorCode::server_refused);
}

}  // namespace
}  // namespace torusml
