// A client's way through a running server.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "server/testing/comes_true.h"
#include "server/testing/running_server.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using nlohmann::json;

TEST(Server, AClientsWay) {
  RunningServer server;
  const SmallClient& client = shared_client();
  EXPECT_EQ(server.request("GET", "/v2/health/live").status, 200);
  EXPECT_EQ(server.request("GET", "/v2/health/ready").status, 200);
  const HttpReply models = server.request("GET", "/v2/models");
  EXPECT_EQ(json::parse(models.body)["models"],
            json::array({{{"name", "net"}, {"versions", {"1"}}}}));
  const json model = json::parse(server.request("GET", "/v2/models/net").body);
  EXPECT_EQ(model["platform"], "torusml");
  EXPECT_EQ(model["torusml"]["model_hash"], to_hex(client.stored.hash));
  EXPECT_EQ(model["torusml"]["inputs"][0]["shape"], json::array({2}));
  EXPECT_EQ(server.request("GET", "/v2/models/net/versions/1/ready").status, 200);
  const HttpReply half = server.request("GET", "/v2/models/net/client");
  EXPECT_EQ(client_half_from_bytes(half.body).hash, client.stored.hash);
  EXPECT_EQ(half.headers.at("etag"), "\"" + to_hex(client.stored.hash) + "\"");

  EXPECT_EQ(server.request("HEAD", "/v2/keys/" + client.key_id).status, 404);
  EXPECT_EQ(server.upload().status, 201);
  const HttpReply head = server.request("HEAD", "/v2/keys/" + client.key_id);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("upload-offset"), std::to_string(client.keys.size()));
  EXPECT_EQ(server.upload().status, 200);  // it is here
  const json keys = json::parse(server.request("GET", "/v2/keys").body)["keys"];
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0]["id"], client.key_id);

  for (int round = 0; round < 2; ++round) {
    const HttpReply reply =
        server.infer(to_bytes(client.encrypt(5)), 5, "X-Request-Id: my-request\r\n");
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.headers.at("x-request-id"), "my-request");
    EXPECT_EQ(client.decrypt(RunningServer::outputs_of(reply)), SmallClient::expected(5));
    const json header = json::parse(
        reply.body.substr(0, std::stoul(reply.headers.at("inference-header-content-length"))));
    EXPECT_EQ(header["id"], "42");
    EXPECT_EQ(header["outputs"][0]["name"], "encrypted_outputs");
  }
  // A request is counted when its answer has gone out.
  std::string metrics;
  EXPECT_TRUE(comes_true([&] {
    metrics = server.request("GET", "/metrics").body;
    return metrics.find("{route=\"POST /v2/models/{m}/infer\",status=\"200\"} 2") !=
           std::string::npos;
  })) << metrics;
  EXPECT_NE(metrics.find("torusml_lookups_total 30\n"), std::string::npos) << metrics;
  EXPECT_EQ(server.request("DELETE", "/v2/keys/" + client.key_id).status, 204);
  EXPECT_EQ(server.request("DELETE", "/v2/keys/" + client.key_id).status, 404);
  EXPECT_EQ(server.infer(to_bytes(client.encrypt(1)), 1).status, 404);
  EXPECT_TRUE(comes_true([&] {
    return server.log().find("\"request_id\":\"my-request\",\"tenant\":\"local\"") !=
           std::string::npos;
  })) << server.log();
}

TEST(Server, OneConnectionServesManyRequests) {
  RunningServer server;
  server.upload();
  PlainHttp http(server.port());
  const std::string get = "GET /v2/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
  http.send(get + get);  // one behind the other
  EXPECT_EQ(http.receive().status, 200);
  EXPECT_EQ(http.receive().status, 200);
  http.send(RunningServer::infer_text(to_bytes(shared_client().encrypt(2)), 2));
  EXPECT_EQ(http.receive().status, 200);
  http.send(get);
  EXPECT_EQ(http.receive().headers["connection"], "keep-alive");
  http.send("GET /v2 HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(http.receive().headers["connection"], "close");
  EXPECT_TRUE(http.is_closed());
}

TEST(Server, UploadsInParts) {
  RunningServer server;
  const SmallClient& client = shared_client();
  const std::string path = "/v2/keys/" + client.key_id;
  const std::size_t total = client.keys.size(), half = total / 2;
  const auto part = [&](std::size_t first, std::size_t end) {
    return server.request("PUT", path,
                          fmt::format("Content-Range: bytes {}-{}/{}\r\n", first, end - 1, total),
                          client.keys.substr(first, end - first));
  };
  EXPECT_EQ(part(half, total).status, 409);
  EXPECT_EQ(part(0, half).status, 202);
  EXPECT_EQ(server.infer(to_bytes(client.encrypt(1)), 1).status, 404);  // not whole
  const HttpReply elsewhere = part(half + 1, total);
  EXPECT_EQ(elsewhere.status, 409);
  EXPECT_EQ(elsewhere.headers.at("upload-offset"), std::to_string(half));
  // A connection that ends in the middle: what came stays.
  {
    PlainHttp http(server.port());
    http.send(
        fmt::format("PUT {} HTTP/1.1\r\nContent-Length: {}\r\nContent-Range: bytes "
                    "{}-{}/{}\r\n\r\n{}",
                    path, total - half, half, total - 1, total, client.keys.substr(half, 1000)));
  }
  std::size_t offset = half;
  for (int i = 0; i < 200 && offset == half; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    offset = std::stoul(server.request("HEAD", path).headers["upload-offset"]);
  }
  EXPECT_GE(offset, half);
  EXPECT_LE(offset, half + 1000);
  // As soon as the server has let go of the upload that broke.
  EXPECT_TRUE(comes_true([&] { return part(offset, total).status == 201; }));
  EXPECT_EQ(server.infer(to_bytes(client.encrypt(1)), 1).status, 200);
}

TEST(Server, AWholeUploadBeginsAnew) {
  RunningServer server;
  const std::string& keys = shared_client().keys;
  const HttpReply part = server.request(
      "PUT", "/v2/keys/" + shared_client().key_id,
      fmt::format("Content-Range: bytes 0-999/{}\r\n", keys.size()), keys.substr(0, 1000));
  EXPECT_EQ(part.status, 202);
  EXPECT_EQ(server.upload().status, 201);
}

TEST(Server, AWholeUploadLeavesAnOpenOneAlone) {
  RunningServer server;
  const SmallClient& client = shared_client();
  const std::string path = "/v2/keys/" + client.key_id;
  const std::size_t total = client.keys.size(), half = total / 2;
  const auto range = [&](std::size_t first, std::size_t end) {
    return fmt::format("Content-Range: bytes {}-{}/{}\r\n", first, end - 1, total);
  };
  EXPECT_EQ(server.request("PUT", path, range(0, half), client.keys.substr(0, half)).status, 202);
  PlainHttp open(server.port());
  open.send(fmt::format("PUT {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n", path,
                        total - half, range(half, total)));
  EXPECT_TRUE(comes_true([&] {
    const HttpReply other = server.request("PUT", path, range(0, 1), "x");
    EXPECT_EQ(other.status, 409) << other.body;
    return other.body.find("another upload") != std::string::npos;
  }));
  const HttpReply whole = server.upload();
  EXPECT_EQ(whole.status, 409) << whole.body;
  EXPECT_EQ(whole.headers.at("upload-offset"), std::to_string(half));
  EXPECT_EQ(server.request("HEAD", path).headers["upload-offset"], std::to_string(half));
  open.send(client.keys.substr(half));
  EXPECT_EQ(open.receive().status, 201);
  EXPECT_EQ(server.infer(to_bytes(client.encrypt(1)), 1).status, 200);
}

TEST(Server, WrongKeysAreForgotten) {
  RunningServer server;
  SmallClient client(shared_model());
  client.keys[client.keys.size() / 2] ^= 1;
  const HttpReply reply = server.upload(client);
  EXPECT_EQ(reply.status, 422) << reply.body;
  EXPECT_EQ(server.request("HEAD", "/v2/keys/" + client.key_id).status, 404);
  const std::string text(5000, 'x');
  const std::string id = to_hex(sha256(as_bytes(text)));
  EXPECT_EQ(server.request("PUT", "/v2/keys/" + id, "", text).status, 422);
  EXPECT_EQ(server.request("HEAD", "/v2/keys/" + id).status, 404);
}

TEST(Server, JobsEndAndAreForgotten) {
  RunningServer server;
  const SmallClient& client = shared_client();
  server.upload();
  const std::string inputs = to_bytes(client.encrypt(3));
  const std::string async = "Prefer: respond-async\r\nIdempotency-Key: once\r\n";
  const HttpReply accepted = server.infer(inputs, 3, async);
  ASSERT_EQ(accepted.status, 202) << accepted.body;
  const std::string path = accepted.headers.at("location");
  EXPECT_EQ(server.infer(inputs, 3, async).headers.at("location"), path);
  EXPECT_TRUE(
      comes_true([&] { return json::parse(server.request("GET", path).body)["state"] == "done"; }));
  const HttpReply result = server.request("GET", path + "/result");
  ASSERT_EQ(result.status, 200) << result.body;
  EXPECT_EQ(client.decrypt(RunningServer::outputs_of(result)), SmallClient::expected(3));
  EXPECT_EQ(server.request("DELETE", path).status, 204);
  EXPECT_EQ(server.request("GET", path).status, 404);
  EXPECT_EQ(server.request("DELETE", path).status, 404);
}

}  // namespace
}  // namespace torusml
