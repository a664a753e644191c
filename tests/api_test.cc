// The public door of libtorusml: a model's halves, keys for two models, sealed keys.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "torusml/error.h"
#include "torusml/model.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

class Api : public testing::Test {
 protected:
  Api() : folder_(fs::temp_directory_path() / ("torusml_api_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~Api() override { fs::remove_all(folder_); }

  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  // The checkerboard network, small keys.
  static Model compile(double tolerance) {
    Tensor<double> corners{{4, 2}, {-1, -1, -1, 1, 1, -1, 1, 1}};
    return Model::compile(
        std::string(TORUSML_SOURCE_DIR) + "/tests/models/checkerboard_qat_seed0.onnx", {corners},
        {.qat = true, .precision = "tolerant", .tolerance = tolerance});
  }

 private:
  fs::path folder_;
};

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return static_cast<ErrorCode>(0);
}

TEST_F(Api, ClearInputsAreNamedAndLeaveOneEncrypted) {
  const auto compile_with = [](const std::vector<std::string>& clear) {
    const Tensor<double> corners{{4, 2}, {-1, -1, -1, 1, 1, -1, 1, 1}};
    Model::compile(std::string(TORUSML_SOURCE_DIR) + "/tests/models/checkerboard_qat_seed0.onnx",
                   {corners}, {.qat = true, .precision = "tolerant", .clear_inputs = clear});
  };
  EXPECT_EQ(code_of([&] { compile_with({"weather"}); }), ErrorCode::unknown_option);
  EXPECT_EQ(code_of([&] { compile_with({"points"}); }), ErrorCode::invalid_argument);
}

TEST_F(Api, HalvesWorkAloneAndKeysServeSeveralModels) {
  const Model model = compile(0.003), other = compile(0.0029);
  model.save_client_half(file("a.tmc"));
  model.save_server_half(file("a.tms"));
  other.save_client_half(file("b.tmc"));
  other.save_server_half(file("b.tms"));

  Client client = Client::load(file("a.tmc"));
  client.generate_keys({}, 0, {file("b.tmc")});
  client.save_secret_key(file("client.key"), "open sesame");
  Client second = Client::load(file("b.tmc"));
  EXPECT_EQ(code_of([&] { second.load_secret_key(file("client.key")); }),
            ErrorCode::wrong_passphrase);
  EXPECT_EQ(code_of([&] { second.load_secret_key(file("client.key"), "sesame"); }),
            ErrorCode::wrong_passphrase);
  second.load_secret_key(file("client.key"), "open sesame");

  const Tensor<double> x{{1, 2}, {0.4, -0.7}};
  const std::string keys = client.evaluation_keys();
  Server first_server = Server::load(file("a.tms")), second_server = Server::load(file("b.tms"));
  first_server.load_evaluation_keys(keys);
  second_server.load_evaluation_keys(keys);
  const auto largest = [](const std::vector<Tensor<double>>& y) {
    return y[0].data[0] > y[0].data[1] ? 0 : 1;
  };
  EXPECT_EQ(largest(client.decrypt(first_server.run(client.encrypt({x})))),
            largest(model.predict({x})));
  EXPECT_EQ(largest(second.decrypt(second_server.run(second.encrypt({x})))),
            largest(other.predict({x})));
  EXPECT_EQ(code_of([&] { second_server.run(client.encrypt({x})); }), ErrorCode::wrong_model);

  chmod(file("client.key").c_str(), 0644);
  EXPECT_EQ(code_of([&] { second.load_secret_key(file("client.key"), "open sesame"); }),
            ErrorCode::key_exposed);
  EXPECT_EQ(code_of([&] { Server::load(file("a.tmc")); }), ErrorCode::file_foreign);
  EXPECT_EQ(code_of([&] { Client::load(file("a.tms")); }), ErrorCode::file_foreign);
}

// Six lookups a sample.
TEST_F(Api, SamplesRunApartAndTheirResultsAreJoined) {
  const Tensor<double> calibration{{2, 6}, {-1, -0.6, -0.2, 0.2, 0.6, 1, 1, 0.6, 0, -0.3, 0.5, -1}};
  const Model model =
      Model::compile(std::string(TORUSML_SOURCE_DIR) + "/tests/models/operators/relu.onnx",
                     {calibration}, {.bits = 3, .precision = "exact"});
  Client client(model), other(model);
  client.generate_keys();
  other.generate_keys();
  Server server(model), other_server(model);
  server.load_evaluation_keys(client.evaluation_keys());
  other_server.load_evaluation_keys(other.evaluation_keys());

  const Tensor<double> x{
      {3, 6}, {-1, 1, 0, 0.5, -0.5, 0.2, 1, 1, -1, -1, 0, 0.7, 0.1, 0.3, -0.2, 0.9, -0.9, 0.4}};
  const std::string sent = client.encrypt({x});
  const std::vector<std::string> parts{server.run_samples(sent, {0, 1}),
                                       server.run_samples(sent, {1, 2})};
  EXPECT_EQ(client.decrypt(parts[1])[0].shape, (Shape{2, 6}));
  const std::string joined = Server::join_outputs(parts);
  EXPECT_TRUE(joined == server.run(sent)) << "not the same bytes";
  EXPECT_EQ(client.decrypt(joined), model.predict({x}));

  EXPECT_EQ(code_of([&] { server.run_samples(sent, {2, 2}); }), ErrorCode::wrong_shape);
  EXPECT_EQ(code_of([&] { server.run_samples(sent, {0, 0}); }), ErrorCode::wrong_shape);
  EXPECT_EQ(code_of([&] { Server(model).run_samples(sent, {0, 1}); }), ErrorCode::wrong_key);
  EXPECT_EQ(code_of([&] {
              server.run_samples(sent, {0, 1}, [](std::size_t, std::size_t) {
                throw Error(ErrorCode::cancelled, "enough");
              });
            }),
            ErrorCode::cancelled);
  EXPECT_EQ(code_of([] { Server::join_outputs({}); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { Server::join_outputs({parts[0], sent}); }), ErrorCode::file_foreign);
  const std::string strange = other_server.run_samples(other.encrypt({x}), {1, 1});
  EXPECT_EQ(code_of([&] { Server::join_outputs({parts[0], strange}); }), ErrorCode::wrong_key);
}

}  // namespace
}  // namespace torusml
