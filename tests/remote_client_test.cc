// torusml::RemoteClient against the server itself, in one process and over TLS.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "base/testing/errors.h"
#include "circuit/text.h"
#include "remote/testing/test_certificate.h"
#include "server/testing/comes_true.h"
#include "server/testing/running_server.h"
#include "torusml/remote.h"

namespace torusml {
namespace {

// Two numbers in, their difference and their sum out: a model without lookups, so that its keys are
// small at 128 bits of security, which a client asks for.
CompiledModel difference_and_sum() {
  CompiledModel model;
  model.circuit = parse_circuit(R"(circuit "net"
  %0 = input "x" : tensor<2> [-8, 7]
  %1 = linear dense(%0, @w) : tensor<2> [-16, 15] "fc"
  output "y" %1
constants
  @w = dense 2x2 [1, -1, 1, 1]
)");
  model.plan = make_plan(model.circuit, {});
  const TensorPlan &x = model.plan.tensors[0], &y = model.plan.tensors[1];
  ClientSpec& client = model.client;
  client.model_name = "net";
  client.key_sets = parameters_of(model.plan.key_sets);
  client.options = model.plan.options;
  const UniformQuantizer halves({.n_bits = 4, .is_signed = true}, {{0.5}, {0}, 8});
  client.inputs = {{"x", {2}, halves, {-8, 7}, x.scale, x.center}};
  client.outputs = {{"y", {2}, {0.5}, {0}, {-16, 15}, y.scale, y.center}};
  return model;
}

const std::vector<Tensor<double>> kX{{{3, 2}, {0.5, -1, 3.5, -4, 0, 2}}};
const std::vector<Tensor<double>> kY{{{3, 2}, {1.5, -0.5, 7.5, -0.5, -2, 2}}};

class RemoteClientOverTls : public testing::Test {
 protected:
  RemoteClientOverTls() {
    const TestCertificate certificate = make_certificate("IP:127.0.0.1");
    certificate.write(authority());
    certificate.write_key(folder_ / "key.pem");
    std::filesystem::create_directory(folder_ / "served");
    save_model(difference_and_sum(), folder_ / "served/net.tml");
    server_ = std::make_unique<RunningServer>([this](ServerSettings& settings) {
      settings.models = folder_ / "served";
      settings.certificate = authority();
      settings.private_key = folder_ / "key.pem";
    });
  }

  std::string authority() const { return folder_ / "certificate.pem"; }
  std::string url(const std::string& scheme = "https",
                  const std::string& host = "127.0.0.1") const {
    return fmt::format("{}://{}:{}", scheme, host, server_->port());
  }
  static RemoteSettings settings(const std::string& ca_file) {
    return {.model = "net", .ca_file = ca_file, .idle_timeout_s = 10, .patience_s = 5};
  }
  static Error refusal(const std::string& url, const std::string& ca_file) {
    return error_of([&] { RemoteClient(url, settings(ca_file)); });
  }
  bool has_answered_requests() const {
    return server_->log().find("\"event\":\"request\"") != std::string::npos;
  }

  TemporaryFolder folder_;
  std::unique_ptr<RunningServer> server_;
};

TEST_F(RemoteClientOverTls, PredictsWhereItTrustsTheAuthority) {
  RemoteClient client(url(), settings(authority()));
  client.generate_keys({}, 1);
  EXPECT_EQ(client.predict(kX), kY);
  EXPECT_EQ(client.infer(kX), kY);
  EXPECT_EQ(client.submit(kX).result(), kY);
  EXPECT_GT(client.transfer().key_bytes, 0u);
  EXPECT_TRUE(client.delete_keys());
  EXPECT_EQ(client.infer(kX), kY);  // uploaded again
  EXPECT_TRUE(comes_true([&] { return has_answered_requests(); }));
}

TEST_F(RemoteClientOverTls, RefusesUnknownCertificatesAndOtherHosts) {
  const std::string other = folder_ / "other.pem";
  make_certificate("IP:127.0.0.1").write(other);
  struct Case {
    std::string host, ca_file, part;
  };
  const Case cases[] = {{"127.0.0.1", "", "self-signed"},  // to the system's authorities
                        {"127.0.0.1", other, ""},
                        {"localhost", authority(), "ostname mismatch"}};
  for (const Case& c : cases) {
    const Error error = refusal(url("https", c.host), c.ca_file);
    EXPECT_EQ(error.code(), ErrorCode::server_refused) << error.what();
    EXPECT_TRUE(error.message().starts_with("its certificate is not accepted: ")) << error.what();
    EXPECT_NE(error.message().find(c.part), std::string::npos) << error.what();
    EXPECT_EQ(error.where(), url("https", c.host));
    EXPECT_NE(error.hint().find("ca_file"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(has_answered_requests());
}

TEST_F(RemoteClientOverTls, WithoutTlsOnOneSideIsRefused) {
  const Error plain = refusal(url("http"), "");
  EXPECT_EQ(plain.code(), ErrorCode::server_refused) << plain.what();
  EXPECT_FALSE(has_answered_requests());
  const RunningServer open([this](ServerSettings& s) { s.models = folder_ / "served"; });
  const Error secure = refusal(fmt::format("https://127.0.0.1:{}", open.port()), authority());
  EXPECT_EQ(secure.code(), ErrorCode::server_refused) << secure.what();
}

TEST_F(RemoteClientOverTls, AFileWithoutCertificatesIsNamed) {
  for (const std::string& file : {folder_ / "missing.pem", folder_ / "key.pem"}) {
    const Error error = refusal(url(), file);
    EXPECT_EQ(error.code(), ErrorCode::file_unreadable) << error.what();
    EXPECT_EQ(error.where(), "file '" + file + "'");
  }
}

}  // namespace
}  // namespace torusml
