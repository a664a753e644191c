#include "remote/server_api.h"

#include <gtest/gtest.h>

#include "base/testing/errors.h"
#include "remote/server_error.h"
#include "remote/testing/scripted_server.h"

namespace torusml {
namespace {

using std::chrono::milliseconds;

const std::string kBusy =
    R"({"error": "x", "code": "TML-E036 server-busy", "message": "full", "where": "", "hint": ""})";

RemoteSettings quick() {
  RemoteSettings settings;
  settings.connect_timeout_s = 2;
  settings.idle_timeout_s = 1;
  settings.patience_s = 5;
  return settings;
}

HttpAnswer answer_with(int status, const std::string& body) { return {status, {}, body}; }

TEST(Url, PartsAreFound) {
  const Url plain = parse_url("http://127.0.0.1:8080/");
  EXPECT_FALSE(plain.is_secure);
  EXPECT_EQ(plain.authority(), "127.0.0.1:8080");
  EXPECT_EQ(plain.text(), "http://127.0.0.1:8080");
  const Url secure = parse_url("https://fhe.example.org/under/this/");
  EXPECT_EQ(secure.port, "443");
  EXPECT_EQ(secure.authority(), "fhe.example.org");
  EXPECT_EQ(secure.path, "/under/this");
  const Url v6 = parse_url("http://[::1]:81");
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.authority(), "[::1]:81");
  for (const char* const text :
       {"", "fhe.example.org", "ftp://x", "http://", "http://:80", "http://x:", "http://x:0",
        "http://x:65536", "http://x:8o", "http://user@x", "http://x/?a=1", "http://x#a",
        "http://x y", "http://[::1", "http://[x]", "http://[::1]x", "http://x/\r\nEvil: 1"}) {
    EXPECT_EQ(error_of([&] { parse_url(text); }).code(), ErrorCode::invalid_argument) << text;
  }
  EXPECT_EQ(escape_path("a/b ?\n"), "a%2Fb%20%3F%0A");
}

TEST(Url, LoopbackIsKnown) {
  for (const char* const host : {"localhost", "127.0.0.1", "127.8.9.1", "::1"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* const host : {"127.example.org", "10.0.0.1", "::2", "localhost.example.org"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(Backoff, GrowsWaitsAsAskedAndEnds) {
  Backoff::Clock::time_point now{};
  Backoff backoff(10, [&] { return now; });
  double sum = 0, last = 0;
  while (const auto wait = backoff.next()) {
    EXPECT_GE(*wait, last / 4);
    last = *wait;
    sum += *wait;
    now +=
        std::chrono::duration_cast<Backoff::Clock::duration>(std::chrono::duration<double>(*wait));
  }
  EXPECT_GT(sum, 4);
  EXPECT_LE(sum, 10);
  backoff.succeeded();
  EXPECT_GE(backoff.next(3.0).value(), 3);
  EXPECT_FALSE(backoff.next(60.0).has_value());
}

TEST(ServerError, TheServersWordsAreKept) {
  const Error known = error_of(
      answer_with(404, R"({"code": "TML-E034 not-found", "message": "no key", "where": "key",
                           "hint": "upload it", "error": "...", "request_id": "1"})"),
      "http://x");
  EXPECT_EQ(known.code(), ErrorCode::not_found);
  EXPECT_EQ(known.message(), "no key");
  EXPECT_EQ(known.where(), "key");
  EXPECT_EQ(known.hint(), "upload it");
}

TEST(ServerError, OthersAreServerRefusedWithTheirStatus) {
  for (const std::string& body : {
           std::string("<html>bad gateway</html>"),
           std::string(),
           std::string("[]"),
           std::string("{}"),
           std::string(R"({"code": 3, "message": []})"),
           std::string(R"({"code": "TML-E998 of-the-future", "message": "m", "error": "E998: m"})"),
           std::string(100'000, '['),
           std::string("\xff\xfe"),
       }) {
    const Error error = error_of(answer_with(502, body), "http://x");
    EXPECT_EQ(error.code(), ErrorCode::server_refused);
    EXPECT_NE(error.message().find("status 502"), std::string::npos) << error.what();
    EXPECT_LT(error.message().size(), 3000u);
  }
  const Error hostile = error_of(
      answer_with(400, R"({"code": "TML-E039 request-invalid", "message": "a\u001b[2Jb\n"})"), "");
  EXPECT_EQ(hostile.message(), "a [2Jb ");
}

TEST(ServerApi, ATokenGoesOverHttpToThisMachineOnly) {
  RemoteSettings settings = quick();
  settings.token = "tml_a_b";
  const Error error = error_of([&] { ServerApi("http://fhe.example.org", settings); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_EQ(std::string(error.what()).find("tml_a_b"), std::string::npos);
  EXPECT_NO_THROW(ServerApi("http://127.0.0.1:1", settings));
  EXPECT_NO_THROW(ServerApi("https://fhe.example.org", settings));
  settings.allow_plain_http = true;
  EXPECT_NO_THROW(ServerApi("http://fhe.example.org", settings));
}

TEST(ServerApi, RedirectsAreNotFollowed) {
  ScriptedServer other([](Conversation& c) { c.answer(200, "{}"); });
  ScriptedServer server(
      [&](Conversation& c) { c.answer(307, "", "Location: " + other.url() + "\r\n"); });
  RemoteSettings settings = quick();
  settings.token = "tml_a_b";
  const ServerApi api(server.url(), settings);
  const Error error = error_of([&] { api.client_half("net", "", api.begin_call()); });
  EXPECT_EQ(error.code(), ErrorCode::server_refused);
  EXPECT_NE(error.message().find("status 307"), std::string::npos);
  EXPECT_EQ(other.requests(), 0);
}

TEST(ServerApi, NamesAreEscaped) {
  std::string target;
  ScriptedServer server([&](Conversation& c) {
    target = c.target();
    c.answer(200, "{}");
  });
  const ServerApi api(server.url() + "/at", quick());
  EXPECT_EQ(api.metadata("a/../b", "1 2", api.begin_call()), "{}");
  EXPECT_EQ(target, "/at/v2/models/a%2F..%2Fb/versions/1%202");
}

TEST(ServerApi, BusyIsWaitedForAsAsked) {
  ScriptedServer server([count = 0](Conversation& c) mutable {
    if (++count < 3) return c.answer(429, kBusy, "Retry-After: 0\r\n");
    c.answer(200, "{}");
  });
  const ServerApi api(server.url(), quick());
  EXPECT_EQ(api.metadata("net", "", api.begin_call()), "{}");
  EXPECT_EQ(server.requests(), 3);
  EXPECT_EQ(api.counts().repeats, 2u);
  EXPECT_EQ(api.counts().requests, 3u);
}

TEST(ServerApi, PatienceAndDeadlineEnd) {
  ScriptedServer server([](Conversation& c) { c.answer(503, kBusy, "Retry-After: 1000\r\n"); });
  const ServerApi api(server.url(), quick());
  EXPECT_EQ(error_of([&] { api.metadata("net", "", api.begin_call()); }).code(),
            ErrorCode::server_busy);
  EXPECT_EQ(server.requests(), 1);
  RemoteSettings settings = quick();
  settings.deadline_s = 0.3;
  settings.patience_s = 5000;
  const ServerApi hurried(server.url(), settings);
  EXPECT_EQ(error_of([&] { hurried.metadata("net", "", hurried.begin_call()); }).code(),
            ErrorCode::deadline_exceeded);
}

TEST(ServerApi, LostConnectionsAreRepeatedWhereItIsSafe) {
  std::vector<std::string> names;
  const auto cut_once = [&](Conversation& c) {
    c.read_body();
    names.push_back(c.header("Idempotency-Key"));
    if (c.target() == "/v2/models/net") return c.answer(200, "{}");
    if (names.size() % 2 == 0) return c.close();
    if (c.header("Prefer").empty()) return c.answer(200, "{}");
    c.answer(202, "{}", "Location: /v2/jobs/ab-1\r\n");
  };
  const InferenceBody body = inference_request("key", 1, "ciphertext");
  {
    ScriptedServer server(cut_once);
    const ServerApi api(server.url(), quick());
    const CallContext call = api.begin_call();
    api.metadata("net", "", call);  // reached once, so that failures are passing ones
    EXPECT_EQ(api.submit("net", "", body, "once", call), "ab-1");
    EXPECT_EQ(names, (std::vector<std::string>{"", "once", "once"}));
  }
  names.clear();
  ScriptedServer server(cut_once);
  const ServerApi api(server.url(), quick());
  const CallContext call = api.begin_call();
  api.metadata("net", "", call);
  EXPECT_EQ(error_of([&] { api.infer("net", "", body, 100, call); }).code(),
            ErrorCode::server_refused);
  EXPECT_EQ(server.requests(), 2);  // not a second time
}

TEST(ServerApi, ASynchronousInferenceIsRepeatedOnTheServersWordAlone) {
  const InferenceBody body = inference_request("key", 1, "ciphertext");
  const std::string header =
      R"({"outputs": [{"name": "encrypted_outputs", "parameters": {"binary_data_size": 3}}]})";
  std::string busy = kBusy;
  int wait = 1;
  ScriptedServer server([&](Conversation& c) {
    c.read_body();
    if (wait-- > 0) return c.answer(503, busy, "Retry-After: 0\r\n");
    c.answer(200, header + "abc",
             "Inference-Header-Content-Length: " + std::to_string(header.size()) + "\r\n");
  });
  const ServerApi api(server.url(), quick());
  EXPECT_EQ(api.infer("net", "", body, 100, api.begin_call()), "abc");
  EXPECT_EQ(server.requests(), 2);
  busy = R"({"code": "TML-E044 rate-limited", "message": "too many"})";
  wait = 1;
  EXPECT_EQ(api.infer("net", "", body, 100, api.begin_call()), "abc");
  EXPECT_EQ(server.requests(), 4);
  busy = "<html>";
  wait = 1;
  EXPECT_EQ(error_of([&] { api.infer("net", "", body, 100, api.begin_call()); }).code(),
            ErrorCode::server_refused);
  EXPECT_EQ(server.requests(), 5);
}

TEST(ServerApi, WrongResultsAreRefused) {
  const std::string good =
      R"({"outputs": [{"name": "encrypted_outputs", "parameters": {"binary_data_size": 3}}]})";
  struct Case {
    std::string length, body;
  };
  const std::string size = std::to_string(good.size());
  for (const Case& bad : std::vector<Case>{
           {"", good + "abc"},
           {"many", good + "abc"},
           {"-1", good + "abc"},
           {"99999999999999999999", good + "abc"},
           {"100000", good + "abc"},
           {size, good + "ab"},
           {size, good + "abcd"},
           {"2", "{}abc"},
           {"0", "abc"},
           {"4", "nullabc"},
           {"14", R"({"outputs":3 }abc)"},
           {"15", R"({"outputs":[3]}abc)"},
       }) {
    HttpAnswer answer{200, {}, bad.body};
    if (!bad.length.empty()) answer.headers = {{"inference-header-content-length", bad.length}};
    EXPECT_EQ(error_of([&] { inference_result(answer, "x"); }).code(), ErrorCode::server_refused)
        << bad.length << " " << bad.body;
  }
  EXPECT_EQ(inference_result({200, {{"Inference-Header-Content-Length", size}}, good + "abc"}, "x"),
            "abc");
}

TEST(ServerApi, NonsenseInPlaceOfRecordsIsRefused) {
  std::string headers, body;
  int status = 200;
  ScriptedServer server([&](Conversation& c) { c.answer(status, body, headers); });
  const ServerApi api(server.url(), quick());
  const CallContext call = api.begin_call();
  for (const auto& [given_headers, given_body] : std::vector<std::pair<std::string, std::string>>{
           {"", ""},
           {"Upload-Offset: 5\r\nUpload-Length: 4\r\n", "{"},
           {"Upload-Offset: x\r\n", "[1]"},
           {"Upload-Length: 5\r\n", R"({"state": 3})"}}) {
    headers = given_headers;
    body = given_body;
    EXPECT_EQ(error_of([&] { api.key_state("ab", call); }).code(), ErrorCode::server_refused);
    EXPECT_EQ(error_of([&] { api.job("ab", call); }).code(), ErrorCode::server_refused);
    if (given_body.find("state") == std::string::npos) {
      EXPECT_EQ(error_of([&] { api.metadata("net", "", call); }).code(), ErrorCode::server_refused);
    }
  }
  status = 202;
  for (const char* const location :
       {"", "Location: /v2/jobs/\r\n", "Location: /v2/jobs/../keys\r\n",
        "Location: http://elsewhere/x\r\n"}) {
    headers = location;
    EXPECT_EQ(
        error_of([&] { api.submit("net", "", inference_request("k", 1, ""), "a", call); }).code(),
        ErrorCode::server_refused)
        << location;
  }
  status = 404;
  EXPECT_FALSE(api.key_state("ab", call).has_value());
  EXPECT_FALSE(api.delete_job("ab", call));
  EXPECT_FALSE(api.delete_key("ab", call));
}

TEST(ServerApi, CallsRunSideBySide) {
  std::atomic<int> inside = 0, most = 0;
  ScriptedServer server([&](Conversation& c) {
    const int now = ++inside;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::sleep_for(milliseconds(300));
    --inside;
    c.answer(200, "{}");
  });
  const ServerApi api(server.url(), quick());
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i)
    threads.emplace_back([&] { api.metadata("net", "", api.begin_call()); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(most, 2);
  EXPECT_EQ(api.counts().requests, 6u);
}

}  // namespace
}  // namespace torusml
