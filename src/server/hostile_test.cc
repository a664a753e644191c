// Requests that no client of ours would send: an answer that says what is wrong, and a server that
// goes on.
#include <gtest/gtest.h>

#include "server/testing/running_server.h"

namespace torusml {
namespace {

using nlohmann::json;

class HostileTest : public testing::Test {
 protected:
  HostileTest() { server_.upload(); }
  ~HostileTest() override {
    EXPECT_EQ(server_.infer(to_bytes(shared_client().encrypt(1)), 1).status, 200);
    EXPECT_EQ(server_.log().find("\"level\":\"error\""), std::string::npos) << server_.log();
  }
  HttpReply send(const std::string& bytes) {
    PlainHttp http(server_.port());
    http.send(bytes);
    return http.receive();
  }
  HttpReply infer_with(const std::string& head, const std::string& body) {
    return send("POST /v2/models/net/infer HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n" + body);
  }

  RunningServer server_;
  const SmallClient& client_ = shared_client();
};

TEST_F(HostileTest, WhatIsNotHttp) {
  const std::string nul(1, '\0');
  for (const std::string& bytes :
       {std::string("nonsense\r\n\r\n"), std::string("\r\n\r\n\r\n\r\nGET"),
        std::string("GET /v2 HTTP/9.9\r\n\r\n"), std::string("GET /v2\r\n\r\n"),
        "GET /v2" + nul + " HTTP/1.1\r\n\r\n", "GET /v2 HTTP/1.1\r\nA: b" + nul + "c\r\n\r\n",
        std::string("GET /v2 HTTP/1.1\r\nno colon\r\n\r\n"),
        std::string("GET /v2 HTTP/1.1\r\n: no name\r\n\r\n"),
        std::string("GET /v2 HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET /v2 HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        std::string("GET /v2 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(200, 'x')}) {
    const int status = send(bytes).status;
    EXPECT_TRUE(status == 400 || status == 408) << status << ": " << bytes;
  }
}

TEST_F(HostileTest, PathsAndMethods) {
  for (const char* path : {"/", "/v1", "/v2/", "//", "/v2/models/", "/v2/models//client",
                           "/v2/models/../../etc/passwd", "/v2/models/%2e%2e/client", "/v2/keys/",
                           "/v2/jobs/a/b/c", "/v2/models/net/versions/2", "/v2/jobs/..",
                           "/v2/models/net/versions/9999999999999999999999999999999999999999999999"
                           "9999999999999999999999999999"})
    EXPECT_EQ(server_.request("GET", path).status, 404) << path;
  EXPECT_EQ(server_.request("GET", "http://elsewhere/v2").status, 400);
  EXPECT_EQ(server_.request("OPTIONS", "*").status, 400);
  const HttpReply reply = server_.request("PATCH", "/v2/keys/x");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.headers.at("allow"), "HEAD, PUT, DELETE");
  EXPECT_EQ(server_.request("BREW", "/v2").status, 405);
  EXPECT_EQ(server_.request("GET", "/v2?x=" + std::string(3000, 'y')).status, 200);
  for (const char* method : {"HEAD", "DELETE"})
    EXPECT_EQ(server_.request(method, "/v2/keys/..").status, 404);
  EXPECT_EQ(server_.request("PUT", "/v2/keys/..", "", "body").status, 400);
}

TEST_F(HostileTest, ChunkedBodies) {
  const std::string chunks = "4\r\nbody\r\n0\r\n\r\n";
  EXPECT_EQ(infer_with("Transfer-Encoding: chunked\r\n", chunks).status, 411);
  EXPECT_EQ(send("PUT /v2/keys/" + client_.key_id +
                 " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
                .status,
            411);
  EXPECT_EQ(infer_with("Transfer-Encoding: gzip\r\n", chunks).status, 411);
  EXPECT_EQ(infer_with("", "").status, 411);
}

TEST_F(HostileTest, HeadersOfInference) {
  const std::string length = "Content-Length: 4\r\n";
  for (const char* header :
       {"", "Inference-Header-Content-Length: \r\n", "Inference-Header-Content-Length: x\r\n",
        "Inference-Header-Content-Length: -1\r\n", "Inference-Header-Content-Length: 5\r\n",
        "Inference-Header-Content-Length: 99999999999999999999\r\n",
        "Inference-Header-Content-Length: 4\r\nInference-Header-Content-Length: 3\r\n"})
    EXPECT_EQ(infer_with(length + header, "body").status, 400) << header;
}

TEST_F(HostileTest, Json) {
  const std::string key = client_.key_id, good = RunningServer::infer_json(key, 1, 100);
  const auto status = [&](const std::string& text) {
    const std::string body = text + std::string(100, 'x');
    return infer_with(fmt::format("Content-Length: {}\r\nInference-Header-Content-Length: {}\r\n",
                                  body.size(), text.size()),
                      body)
        .status;
  };
  EXPECT_EQ(status(good), 422);  // JSON as it should be, bytes that are no ciphertext
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("1"),
        std::string("{}"), std::string(1, '\0'), std::string("\xff\xfe{}"), std::string(20000, '['),
        std::string("{\"inputs\":[]}")})
    EXPECT_EQ(status(text), 400) << text.substr(0, 50);
  // Every member away, and of another type.
  const json parsed = json::parse(good);
  const json flat = parsed.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    for (const json& wrong :
         {json(), json(-1), json(1.5), json("text"), json::array(), json(std::string(70, 'a'))}) {
      json changed = parsed;
      changed[json::json_pointer(pointer)] = wrong;
      const int found = status(changed.dump());
      EXPECT_TRUE(found == 400 || found == 404 || found == 422) << pointer << " " << found;
    }
  }
}

TEST_F(HostileTest, Ciphertexts) {
  const std::string good = to_bytes(client_.encrypt(2));
  for (std::size_t at = 0; at < good.size(); at += 7) {
    std::string bytes = good;
    bytes[at] ^= 0x20;
    const HttpReply reply = server_.infer(bytes, 2);
    EXPECT_EQ(reply.status, 422) << at << " " << reply.body;
  }
  // Of another model, and under another key.
  const StoredModel other = small_model(8);
  const HttpReply wrong_model = server_.infer(to_bytes(SmallClient(other).encrypt(2)), 2);
  EXPECT_EQ(wrong_model.status, 422);
  EXPECT_EQ(json::parse(wrong_model.body)["code"], "TML-E021 wrong-model");
  const SmallClient stranger(shared_model());
  const HttpReply wrong_key = server_.infer(to_bytes(stranger.encrypt(2)), 2);
  EXPECT_EQ(wrong_key.status, 422);
  EXPECT_EQ(json::parse(wrong_key.body)["code"], "TML-E020 wrong-key");
}

TEST_F(HostileTest, Ranges) {
  const std::string path = "/v2/keys/" + std::string(64, 'b');
  for (const char* range : {"bytes 0-3", "0-3/10", "bytes 0-4/10", "bytes 3-0/10", "bytes 0-3/3",
                            "bytes -3/10", "bytes 0-3/x", "bytes 0-3/99999999999999999999",
                            "bytes 0-18446744073709551615/10", "bytes 18446744073709551615-2/10"})
    EXPECT_EQ(
        server_.request("PUT", path, fmt::format("Content-Range: {}\r\n", range), "body").status,
        416)
        << range;
}

TEST_F(HostileTest, HeadersOfAMegabyte) {
  EXPECT_EQ(server_.request("GET", "/v2", "X-Long: " + std::string(1 << 20, 'x') + "\r\n").status,
            431);
  EXPECT_EQ(server_.request("GET", "/" + std::string(1 << 20, 'x')).status, 431);
  std::string many;
  for (int i = 0; i < 100000; ++i) many += "A: b\r\n";
  EXPECT_EQ(server_.request("GET", "/v2", many).status, 431);
}

TEST_F(HostileTest, IdsOfRequests) {
  for (const std::string& id :
       {std::string("a b"), std::string(65, 'a'), std::string("<script>"), std::string("a\tb")}) {
    const HttpReply reply = server_.request("GET", "/v2", "X-Request-Id: " + id + "\r\n");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.headers.at("x-request-id").size(), 16u);
  }
  EXPECT_EQ(server_.infer(to_bytes(client_.encrypt(1)), 1, "Idempotency-Key: a/b\r\n").status, 400);
}

}  // namespace
}  // namespace torusml
