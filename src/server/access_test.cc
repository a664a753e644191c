// Who sees what: every endpoint without a token, with a foreign one, and with a good one.
#include <gtest/gtest.h>

#include "server/routes.h"
#include "server/testing/comes_true.h"
#include "server/testing/running_server.h"

namespace torusml {
namespace {

using nlohmann::json;

// A path of the endpoint, with the model, key and job of the tenant that owns them.
std::string path_of(const EndpointInfo& info, const std::string& key, const std::string& job) {
  std::string path = info.pattern;
  const bool is_key = path.find("/keys/") != path.npos;
  const auto fill = [&](const std::string& name, const std::string& value) {
    if (const std::size_t at = path.find(name); at != path.npos)
      path.replace(at, name.size(), value);
  };
  fill("{m}", "net");
  fill("{v}", "1");
  fill("{id}", is_key ? key : job);
  return path;
}

class AccessTest : public testing::Test {
 protected:
  AccessTest() {
    owner_ = server_.add_token({"owner", {}, std::nullopt}).text;
    foreign_ = server_.add_token({"foreign", {"other"}, std::nullopt}).text;
    EXPECT_EQ(server_.upload(client_, bearer(owner_)).status, 201);
    const HttpReply accepted =
        server_.infer(inputs_, 2, bearer(owner_) + "Prefer: respond-async\r\n");
    EXPECT_EQ(accepted.status, 202) << accepted.body;
    job_ = accepted.headers.at("location").substr(std::string("/v2/jobs/").size());
    EXPECT_TRUE(comes_true([&] {
      const HttpReply reply = server_.request("GET", "/v2/jobs/" + job_, bearer(owner_));
      return json::parse(reply.body)["state"] == "done";
    }));
  }

  static std::string bearer(const std::string& token) {
    return "Authorization: Bearer " + token + "\r\n";
  }
  int status(const EndpointInfo& info, const std::string& headers) {
    const std::string path = path_of(info, client_.key_id, job_);
    if (info.endpoint == Endpoint::infer) {
      const std::string json = RunningServer::infer_json(client_.key_id, 2, inputs_.size());
      return server_
          .request("POST", path,
                   headers + fmt::format("Inference-Header-Content-Length: {}\r\n", json.size()),
                   json + inputs_)
          .status;
    }
    if (info.endpoint == Endpoint::key_put)
      return server_.request("PUT", path, headers, client_.keys).status;
    return server_.request(info.method, path, headers).status;
  }

  RunningServer server_;
  const SmallClient& client_ = shared_client();
  const std::string inputs_ = to_bytes(client_.encrypt(2));
  std::string owner_, foreign_, job_;
};

TEST_F(AccessTest, EveryEndpoint) {
  const NewToken revoked = server_.add_token({"owner", {}, std::nullopt});
  Registry(server_.file("data"), {}, false).revoke_token(revoked.id);
  for (const EndpointInfo& info : endpoints()) {
    const std::string name = std::string(info.method) + " " + info.pattern;
    // Metrics are for everybody on this machine.
    const bool is_open = info.is_public || info.endpoint == Endpoint::metrics;
    EXPECT_EQ(status(info, ""), is_open ? 200 : 401) << name;
    EXPECT_EQ(status(info, bearer(revoked.text)), is_open ? 200 : 401) << name;
    EXPECT_EQ(status(info, bearer(owner_ + "x")), is_open ? 200 : 401) << name;
    EXPECT_EQ(status(info, "Authorization: Basic dXNlcjpwYXNz\r\n"), is_open ? 200 : 401) << name;
  }
  // The foreign tenant may see no model of the server, and has neither key nor job.
  for (const EndpointInfo& info : endpoints()) {
    const std::string name = std::string(info.method) + " " + info.pattern;
    const bool has_no_name = std::string(info.pattern).find('{') == std::string::npos;
    int expected = has_no_name ? 200 : 404;
    // Its own copy: whoever has the bytes may upload them.
    if (info.endpoint == Endpoint::key_put) continue;
    EXPECT_EQ(status(info, bearer(foreign_)), expected) << name;
  }
  EXPECT_EQ(json::parse(server_.request("GET", "/v2/models", bearer(foreign_)).body)["models"],
            json::array());
  EXPECT_EQ(json::parse(server_.request("GET", "/v2/keys", bearer(foreign_)).body)["keys"],
            json::array());
  for (const EndpointInfo& info : endpoints()) {
    const std::string name = std::string(info.method) + " " + info.pattern;
    const bool deletes = std::string(info.method) == "DELETE";
    EXPECT_EQ(status(info, bearer(owner_)), deletes ? 204 : 200) << name;
  }
}

TEST_F(AccessTest, AForeignAnswerIsThatOfNothing) {
  // But for the name that was asked for.
  const auto body = [&](const std::string& kind, const std::string& name) {
    json reply = json::parse(server_.request("GET", kind + name, bearer(foreign_)).body);
    std::string text = reply["error"];
    const std::size_t at = text.find(name);
    return at == text.npos ? text : text.substr(0, at) + text.substr(at + name.size());
  };
  EXPECT_EQ(body("/v2/jobs/", job_), body("/v2/jobs/", std::string(job_.size(), 'e')));
  EXPECT_EQ(body("/v2/models/", "net"), body("/v2/models/", "nix"));
  // A foreign tenant that knows the key's id cannot compute with it.
  const std::string token = server_.add_token({"third", {}, std::nullopt}).text;
  EXPECT_EQ(server_.infer(inputs_, 2, bearer(token)).status, 404);
}

TEST_F(AccessTest, TheLastRevokedTokenOpensNothing) {
  Registry registry(server_.file("data"), {}, false);
  for (const TokenRecord& token : registry.tokens()) registry.revoke_token(token.id);
  EXPECT_FALSE(registry.has_tokens());
  EXPECT_EQ(server_.request("GET", "/v2/models").status, 401);
  EXPECT_EQ(server_.request("GET", "/v2/models", bearer(owner_)).status, 401);
  EXPECT_EQ(server_.log().find(owner_.substr(owner_.rfind('_'))), std::string::npos);
}

TEST(Access, PagesOfABrowserNeedAToken) {
  RunningServer server;
  EXPECT_EQ(server.request("GET", "/v2/models").status, 200);
  EXPECT_EQ(server.request("GET", "/v2/models", "Origin: https://example.org\r\n").status, 401);
  PlainHttp http(server.port());
  http.send("GET /v2/models HTTP/1.1\r\nHost: rebound.example.org\r\n\r\n");
  EXPECT_EQ(http.receive().status, 401);
  const std::string token = server.add_token({"t", {}, std::nullopt}).text;
  EXPECT_EQ(server
                .request("GET", "/v2/models",
                         "Origin: https://example.org\r\nAuthorization: Bearer " + token + "\r\n")
                .status,
            200);
}

TEST(Access, BeyondThisMachineOnlyInSafety) {
  TemporaryFolder folder;
  save_model(shared_model().model, folder / "net.tml");
  ServerSettings settings;
  settings.models = folder / "net.tml";
  settings.data = folder / "data";
  settings.listen = "0.0.0.0:0";
  const auto text = [&] {
    try {
      HttpServer server(settings, [](const std::string&) {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(text().find("without TLS"), std::string::npos);
  settings.is_insecure = true;
  EXPECT_EQ(text(), "");
  settings.is_insecure = false;
  settings.certificate = folder / "cert.pem";
  EXPECT_NE(text().find("its private key"), std::string::npos);
  settings.private_key = folder / "key.pem";
  EXPECT_NE(text().find("without a token"), std::string::npos);
  for (const char* listen : {"", "here", "1.2.3:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000",
                             "127.0.0.1:80x", "[::1:80"}) {
    settings.listen = listen;
    EXPECT_NE(text().find("is no address"), std::string::npos) << listen;
  }
}

}  // namespace
}  // namespace torusml
