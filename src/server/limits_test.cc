// Every limit, hit: status, code and text.
#include <gtest/gtest.h>

#include <future>

#include "server/testing/comes_true.h"
#include "server/testing/running_server.h"

namespace torusml {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

void expect_refusal(const HttpReply& reply, int status, const std::string& code,
                    const std::string& text) {
  EXPECT_EQ(reply.status, status) << reply.body;
  const json body = json::parse(reply.body, nullptr, false);
  ASSERT_TRUE(body.is_object()) << reply.body;
  EXPECT_EQ(body.value("code", ""), code);
  EXPECT_NE(body.value("message", "").find(text), std::string::npos) << reply.body;
  EXPECT_EQ(body.value("request_id", ""),
            reply.headers.contains("x-request-id") ? reply.headers.at("x-request-id") : "");
}

const char* const kInvalid = "TML-E039 request-invalid";
const char* const kBusy = "TML-E036 server-busy";
const char* const kQuota = "TML-E035 quota-exceeded";

// Takes some seconds, unless it is cancelled.
constexpr std::int64_t kManySamples = 30000;
const std::string& long_request() {
  static const std::string text =
      RunningServer::infer_text(to_bytes(shared_client().encrypt(kManySamples)), kManySamples);
  return text;
}
void allow_long_requests(ServerSettings& settings) { settings.samples_per_request = 1'000'000; }

void wait_until_running(RunningServer& server, const std::string& what = "running_requests 1") {
  const std::string line = "torusml_" + what + "\n";
  EXPECT_TRUE(comes_true([&] {
    return server.request("GET", "/metrics").body.find(line) != std::string::npos;
  })) << line;
}

TEST(Limits, BodyOfInference) {
  RunningServer server([](ServerSettings& s) { s.infer_bytes = 1000; });
  // Refused by its length alone: there is no body.
  PlainHttp http(server.port());
  http.send(
      "POST /v2/models/net/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
      "1001\r\nInference-Header-Content-Length: 100\r\n\r\n");
  expect_refusal(http.receive(), 413, kInvalid, "the body has 1001 bytes, at most 1000 are taken");
}

TEST(Limits, BodyOfAKey) {
  RunningServer server([](ServerSettings& s) { s.registry.one_key_bytes = 1000; });
  const std::string path = "/v2/keys/" + shared_client().key_id;
  expect_refusal(server.upload(), 413, kInvalid, "at most 1000 are taken for PUT /v2/keys/{id}");
  expect_refusal(server.request("PUT", path, "Content-Range: bytes 0-9/1001\r\n", "0123456789"),
                 413, kInvalid, "the key has 1001 bytes, at most 1000");
}

TEST(Limits, BodyWhereNoneBelongs) {
  RunningServer server;
  expect_refusal(server.request("GET", "/v2/models", "", "body"), 413, kInvalid,
                 "at most 0 are taken for GET /v2/models");
}

TEST(Limits, Header) {
  RunningServer server;
  expect_refusal(server.request("GET", "/v2", "X-Long: " + std::string(20000, 'x') + "\r\n"), 431,
                 kInvalid, "header is too large");
}

TEST(Limits, JsonOfARequest) {
  RunningServer server([](ServerSettings& s) { s.json_bytes = 100; });
  expect_refusal(server.infer("abc", 1), 413, kInvalid, "at most 100 are taken");
}

TEST(Limits, Samples) {
  RunningServer server([](ServerSettings& s) { s.samples_per_request = 3; });
  server.upload();
  const std::string inputs = to_bytes(shared_client().encrypt(4));
  expect_refusal(server.infer(inputs, 4), 413, kInvalid, "4 samples were sent, at most 3");
  expect_refusal(server.infer(inputs, 3), 422, kInvalid, "3 samples were announced, 4 came");
}

TEST(Limits, SizesAreCheckedAgainstTheModel) {
  RunningServer server;
  server.upload();
  expect_refusal(server.infer(std::string(10, 'x'), 1), 422, kInvalid,
                 "10 bytes are not 1 samples of this model, which take 16 bytes each");
  expect_refusal(server.infer(std::string(70000, 'x'), 1), 422, kInvalid, "70000 bytes are not");
  expect_refusal(server.infer(std::string(1000, 'x'), std::int64_t{1} << 62), 413, kInvalid,
                 "samples were sent");
}

TEST(Limits, BodiesInMemory) {
  RunningServer server([](ServerSettings& s) { s.bodies_bytes = 10; });
  server.upload();
  const HttpReply reply = server.infer(to_bytes(shared_client().encrypt(1)), 1);
  expect_refusal(reply, 503, kBusy, "the bodies of other requests");
  EXPECT_EQ(reply.headers.at("retry-after"), "2");
}

TEST(Limits, MemoryOfARun) {
  RunningServer server([](ServerSettings& s) { s.memory_per_run = 1000; });
  server.upload();
  expect_refusal(server.infer(to_bytes(shared_client().encrypt(1)), 1), 413,
                 "TML-E030 memory-limit-exceeded", "the limit is 1.00 kB");
}

TEST(Limits, Queue) {
  RunningServer server([](ServerSettings& s) {
    allow_long_requests(s);
    s.queue = 1;
    s.samples_per_batch = 1;
  });
  server.upload();
  PlainHttp running(server.port()), waiting(server.port());
  running.send(long_request());
  wait_until_running(server);
  waiting.send(long_request());
  wait_until_running(server, "queue_length 1");
  const HttpReply reply = server.infer(to_bytes(shared_client().encrypt(1)), 1);
  expect_refusal(reply, 429, kBusy, "1 requests of 1 are waiting");
  EXPECT_EQ(reply.headers.at("retry-after"), "2");
}

TEST(Limits, Deadline) {
  RunningServer server([](ServerSettings& s) {
    allow_long_requests(s);
    s.deadline = Seconds(0);
  });
  server.upload();
  PlainHttp http(server.port());
  http.send(long_request());
  expect_refusal(http.receive(), 504, "TML-E037 deadline-exceeded", "of 90000 lookups were done");
  wait_until_running(server, "running_requests 0");
}

TEST(Limits, DeadlineOfAJob) {
  RunningServer server([](ServerSettings& s) {
    allow_long_requests(s);
    s.job_deadline = Seconds(0);
  });
  server.upload();
  const HttpReply accepted = server.infer(to_bytes(shared_client().encrypt(kManySamples)),
                                          kManySamples, "Prefer: respond-async\r\n");
  ASSERT_EQ(accepted.status, 202);
  json job;
  EXPECT_TRUE(comes_true([&] {
    job = json::parse(server.request("GET", accepted.headers.at("location")).body);
    return job["state"] == "failed";
  }));
  EXPECT_EQ(job["error"]["code"], "TML-E037 deadline-exceeded") << job.dump();
  expect_refusal(server.request("GET", accepted.headers.at("location") + "/result"), 504,
                 "TML-E037 deadline-exceeded", "time is up");
}

TEST(Limits, AClientThatGoesAwayEndsItsRun) {
  RunningServer server(allow_long_requests);
  server.upload();
  {
    PlainHttp http(server.port());
    http.send(long_request());
    wait_until_running(server);
  }
  wait_until_running(server, "running_requests 0");
  // The connection writes it when it hears of the run's end.
  EXPECT_TRUE(comes_true([&] { return server.log().find("\"status\":499") != std::string::npos; }))
      << server.log();
}

TEST(Limits, ADeletedJobEndsItsRun) {
  RunningServer server(allow_long_requests);
  server.upload();
  const HttpReply accepted = server.infer(to_bytes(shared_client().encrypt(kManySamples)),
                                          kManySamples, "Prefer: respond-async\r\n");
  wait_until_running(server);
  const std::string path = accepted.headers.at("location");
  expect_refusal(server.request("GET", path + "/result"), 409, kInvalid, "");
  EXPECT_EQ(server.request("DELETE", path).status, 204);
  wait_until_running(server, "running_requests 0");
  EXPECT_EQ(server.request("GET", path).status, 404);
}

TEST(Limits, Connections) {
  RunningServer server([](ServerSettings& s) { s.connections = 2; });
  PlainHttp first(server.port()), second(server.port());
  for (PlainHttp* http : {&first, &second}) {
    http->send("GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_EQ(http->receive().status, 200);
  }
  PlainHttp third(server.port());
  const HttpReply reply = third.receive();
  expect_refusal(reply, 503, kBusy, "as many connections");
  EXPECT_EQ(reply.headers.at("retry-after"), "5");
  first.close();
  EXPECT_TRUE(comes_true([&] { return server.request("GET", "/v2").status == 200; }));
}

TEST(Limits, QuotasOfATenant) {
  RunningServer server([](ServerSettings& s) {
    s.registry.keys_per_tenant = 1;
    s.registry.jobs_per_tenant = 1;
  });
  server.upload();
  const std::string other = "/v2/keys/" + std::string(64, 'a');
  expect_refusal(server.request("PUT", other, "", "0123456789"), 403, kQuota, "");
  const std::string inputs = to_bytes(shared_client().encrypt(1));
  EXPECT_EQ(server.infer(inputs, 1, "Prefer: respond-async\r\n").status, 202);
  expect_refusal(server.infer(inputs, 1, "Prefer: respond-async\r\n"), 403, kQuota, "");
}

// At a rate that gives nobody a second chance within the test.
void allow_three_requests(ServerSettings& settings) {
  settings.tenant_rate = 0.001;
  settings.tenant_burst = 3;
}

TEST(Limits, RequestsOfATenantASecond) {
  RunningServer server(allow_three_requests);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(server.request("GET", "/v2/models").status, 200);
  const HttpReply reply = server.infer(to_bytes(shared_client().encrypt(1)), 1);
  expect_refusal(reply, 429, "TML-E044 rate-limited",
                 "a tenant has 0.001 requests a second, and 3 at once");
  const int seconds = std::stoi(reply.headers.at("retry-after"));
  EXPECT_GT(seconds, 900);
  EXPECT_LE(seconds, 1000);
  expect_refusal(server.upload(), 429, "TML-E044 rate-limited", "");
  // What belongs to no tenant is as it was.
  EXPECT_EQ(server.request("GET", "/v2/health/ready").status, 200);
  const std::string metrics = server.request("GET", "/metrics").body;
  EXPECT_NE(metrics.find("torusml_rate_limited_total 2\n"), std::string::npos) << metrics;
}

TEST(Limits, OneTenantsRequestsAreNotAnothers) {
  RunningServer server(allow_three_requests);
  const auto status = [&](const NewToken& token) {
    return server.request("GET", "/v2/models", "Authorization: Bearer " + token.text + "\r\n")
        .status;
  };
  const NewToken alice = server.add_token({.tenant = "alice"}),
                 bob = server.add_token({.tenant = "bob"});
  const NewToken second = server.add_token({.tenant = "alice"});
  EXPECT_EQ(status(alice), 200);
  EXPECT_EQ(status(second), 200);
  EXPECT_EQ(status(alice), 200);
  EXPECT_EQ(status(alice), 429);
  EXPECT_EQ(status(second), 429);
  EXPECT_EQ(status(bob), 200);
}

TEST(Limits, ARateOfZeroIsNone) {
  RunningServer server([](ServerSettings& s) {
    s.tenant_rate = 0;
    s.tenant_burst = 1;
  });
  for (int i = 0; i < 10; ++i) EXPECT_EQ(server.request("GET", "/v2/models").status, 200);
}

TEST(Limits, BytesOfATenant) {
  RunningServer server([](ServerSettings& s) { s.registry.key_bytes_per_tenant = 1000; });
  expect_refusal(server.upload(), 403, kQuota, "");
}

TEST(Limits, BytesOfATenantsJobs) {
  RunningServer server([](ServerSettings& s) { s.registry.job_bytes_per_tenant = 100; });
  server.upload();
  expect_refusal(server.infer(to_bytes(shared_client().encrypt(1)), 1, "Prefer: respond-async\r\n"),
                 403, kQuota, "100 are the most");
}

TEST(Limits, Jobs) {
  RunningServer server([](ServerSettings& s) { s.jobs = 0; });
  server.upload();
  expect_refusal(server.infer(to_bytes(shared_client().encrypt(1)), 1, "Prefer: respond-async\r\n"),
                 429, kBusy, "jobs of 0 are unfinished");
}

TEST(Limits, SlowClients) {
  RunningServer server([](ServerSettings& s) {
    s.header_timeout = Seconds(1);
    s.idle_timeout = Seconds(1);
    s.body_timeout = Seconds(1);
  });
  server.upload();
  // Made before a connection is open, whose first bytes are waited for no longer than the others.
  const std::string request = RunningServer::infer_text(to_bytes(shared_client().encrypt(1)), 1);
  PlainHttp silent(server.port()), header(server.port()), body(server.port()), key(server.port()),
      idle(server.port());
  header.send("GET /v2 HTT");
  body.send(request.substr(0, request.size() - 1));
  key.send("PUT /v2/keys/" + std::string(64, 'a') + " HTTP/1.1\r\nHost: localhost\r\n" +
           "Content-Length: 100\r\n\r\n0123");
  idle.send("GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(idle.receive().status, 200);
  const char* const late = "TML-E037 deadline-exceeded";
  expect_refusal(header.receive(), 408, late, "took too long to send the header");
  expect_refusal(body.receive(), 408, late, "took too long to send the body");
  expect_refusal(key.receive(), 408, late, "took too long to send the body");
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(idle.is_closed());
}

TEST(Limits, Batching) {
  RunningServer server([](ServerSettings& s) {
    s.batch_window = milliseconds(2000);
    s.concurrent_runs = 3;  // the others leave alone what goes into the first one's batch
  });
  server.upload();
  const SmallClient& client = shared_client();
  // One that is wrong does not harm the others.
  const std::string of_stranger = to_bytes(SmallClient(shared_model()).encrypt(2));
  // Made before the first one is sent: all have to come within the window.
  std::vector<std::string> inputs;
  for (int i = 0; i < 5; ++i) inputs.push_back(to_bytes(client.encrypt(i + 1, i)));
  std::vector<std::future<HttpReply>> replies;
  for (int i = 0; i < 5; ++i) {
    replies.push_back(
        std::async(std::launch::async, [&, i] { return server.infer(inputs[i], i + 1); }));
  }
  const HttpReply wrong = server.infer(of_stranger, 2);
  expect_refusal(wrong, 422, "TML-E020 wrong-key", "");
  for (int i = 0; i < 5; ++i) {
    const HttpReply reply = replies[i].get();
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(client.decrypt(RunningServer::outputs_of(reply)), SmallClient::expected(i + 1, i));
  }
  const std::string metrics = server.request("GET", "/metrics").body;
  EXPECT_NE(metrics.find("torusml_batches_total 1\n"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("torusml_batched_samples_total 15\n"), std::string::npos) << metrics;
}

}  // namespace
}  // namespace torusml
