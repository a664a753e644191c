// Models that change while the server runs, and servers that stop and start again.
#include <gtest/gtest.h>

#include <fstream>

#include "server/testing/comes_true.h"
#include "server/testing/running_server.h"

namespace torusml {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

TEST(Models, AreFollowedWhileTheyChange) {
  RunningServer server;
  const auto hash = [&](const std::string& path) -> std::string {
    const HttpReply reply = server.request("GET", "/v2/models/" + path);
    return reply.status == 200 ? json::parse(reply.body)["torusml"]["model_hash"] : "";
  };
  const auto place = [&](const StoredModel& model, const std::string& name) {
    save_model(model.model, server.file("new.tml"));
    std::filesystem::rename(server.file("new.tml"), server.file("models/" + name));
  };
  const StoredModel second = small_model(8), third = small_model(9);
  EXPECT_EQ(hash("net"), to_hex(shared_model().hash));
  place(second, "net.tml");
  EXPECT_TRUE(comes_true([&] { return hash("net") == to_hex(second.hash); }));
  // What is wrong changes nothing, and the log says so.
  std::ofstream(server.file("models/net.tml")) << "no model";
  EXPECT_TRUE(
      comes_true([&] { return server.log().find("\"level\":\"error\"") != std::string::npos; }));
  EXPECT_EQ(hash("net"), to_hex(second.hash));
  // Versions by number; a server's half without and with its client's.
  std::filesystem::create_directory(server.file("models/many"));
  place(second, "many/9.tml");
  place(third, "many/10.tml");
  EXPECT_TRUE(comes_true([&] { return hash("many") == to_hex(third.hash); }));
  EXPECT_EQ(hash("many/versions/9"), to_hex(second.hash));
  save_server_half(server_half(third), server.file("models/half.tms"));
  EXPECT_TRUE(comes_true([&] { return hash("half") == to_hex(third.hash); }));
  EXPECT_EQ(server.request("GET", "/v2/models/half/client").status, 404);
  save_client_half(client_half(third), server.file("models/half.tmc"));
  EXPECT_TRUE(
      comes_true([&] { return server.request("GET", "/v2/models/half/client").status == 200; }));
  std::filesystem::remove(server.file("models/half.tms"));
  EXPECT_TRUE(comes_true([&] { return server.request("GET", "/v2/models/half").status == 404; }));
  EXPECT_EQ(json::parse(server.request("GET", "/v2/models").body)["models"],
            json::array({{{"name", "many"}, {"versions", {"9", "10"}}},
                         {{"name", "net"}, {"versions", {"1"}}}}));
}

TEST(Models, OneKeyServesSeveral) {
  RunningServer server;
  const StoredModel other = small_model(8);
  save_model(other.model, server.file("models/other.tml"));
  server.upload();
  const SmallClient& client = shared_client();
  const ModelClient second(other.model.client, other.hash);
  const Tensor<std::int64_t> x{{1, 2}, {3, 4}};
  ASSERT_TRUE(comes_true([&] { return server.request("GET", "/v2/models/other").status == 200; }));
  EXPECT_EQ(server.infer(to_bytes(client.client.encrypt(client.secret, {x})), 1).status, 200);
  const HttpReply reply =
      server.infer(to_bytes(second.encrypt(client.secret, {x})), 1, "", client, "other");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const auto outputs = encrypted_outputs_from_bytes(RunningServer::outputs_of(reply));
  EXPECT_EQ(second.decrypt(client.secret, outputs)[0].data, (std::vector<std::int64_t>{1, 1, 0}));
}

constexpr std::int64_t kManySamples = 10000;

void submit_long_job(RunningServer& server) {
  const HttpReply reply = server.infer(to_bytes(shared_client().encrypt(kManySamples)),
                                       kManySamples, "Prefer: respond-async\r\n");
  ASSERT_EQ(reply.status, 202) << reply.body;
}

TEST(Drain, RequestsEndAndNewOnesAreRefused) {
  RunningServer server([](ServerSettings& s) { s.batch_window = milliseconds(3000); });
  server.upload();
  PlainHttp running(server.port());
  const SmallClient& client = shared_client();
  running.send(RunningServer::infer_text(to_bytes(client.encrypt(2)), 2));
  EXPECT_TRUE(comes_true([&] {
    return server.request("GET", "/metrics").body.find("running_requests 1\n") != std::string::npos;
  }));
  server.server().drain();
  EXPECT_TRUE(comes_true([&] { return server.request("GET", "/v2/health/ready").status == 503; }));
  const HttpReply refused = server.infer(to_bytes(client.encrypt(1)), 1);
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.headers.contains("retry-after"));
  const HttpReply reply = running.receive();
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(client.decrypt(RunningServer::outputs_of(reply)), SmallClient::expected(2));
  server.server().wait();
}

TEST(Drain, WhatTakesTooLongIsRefusedAndJobsRunAgain) {
  RunningServer server([](ServerSettings& s) {
    s.samples_per_request = 1'000'000;
    s.drain = Seconds(0);
  });
  server.upload();
  PlainHttp running(server.port());
  running.send(
      RunningServer::infer_text(to_bytes(shared_client().encrypt(kManySamples)), kManySamples));
  EXPECT_TRUE(comes_true([&] {
    return server.request("GET", "/metrics").body.find("running_requests 1\n") != std::string::npos;
  }));
  submit_long_job(server);
  const HttpReply small = server.infer(to_bytes(shared_client().encrypt(1)), 1,
                                       "Prefer: respond-async\r\nIdempotency-Key: small\r\n");
  ASSERT_EQ(small.status, 202);
  server.server().drain();
  EXPECT_EQ(running.receive().status, 503);
  server.server().wait();
  server.stop();
  server.start();
  EXPECT_NE(server.log().find("\"event\":\"jobs_resumed\",\"jobs\":2"), std::string::npos)
      << server.log();
  const std::string path = small.headers.at("location");
  EXPECT_TRUE(
      comes_true([&] { return json::parse(server.request("GET", path).body)["state"] == "done"; }));
}

TEST(Drain, AServerThatEndsAtOnceLeavesItsJobs) {
  RunningServer server([](ServerSettings& s) { s.samples_per_request = 1'000'000; });
  server.upload();
  submit_long_job(server);
  PlainHttp open(server.port());
  open.send(RunningServer::infer_text(to_bytes(shared_client().encrypt(1)), 1));
  server.stop();
  EXPECT_EQ(Registry(server.file("data"), {}).unfinished_jobs().size(), 1u);
}

}  // namespace
}  // namespace torusml
