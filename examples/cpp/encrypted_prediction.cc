// Compiles a network and predicts on encrypted data: encrypted_prediction MODEL.onnx
// The model takes two numbers between -1 and 1.
#include <torusml/error.h>
#include <torusml/model.h>

#include <cstdio>

int main(int count, char** arguments) try {
  if (count != 2) return std::fputs("usage: encrypted_prediction MODEL.onnx\n", stderr), 2;
  const torusml::Tensor<double> calibration{{4, 2}, {-1, -1, -1, 1, 1, -1, 1, 1}};
  const torusml::Tensor<double> x{{1, 2}, {0.5, -0.25}};

  const auto model = torusml::Model::compile(arguments[1], {calibration},
                                             {.bits = 3, .precision = "exact", .margin = 0.2});
  torusml::Client client(model);
  client.generate_keys();

  torusml::Server server(model);  // never sees a secret key
  server.load_evaluation_keys(client.evaluation_keys());
  const auto encrypted = client.decrypt(server.run(client.encrypt({x})))[0];

  const auto clear = model.predict({x})[0];
  std::printf("encrypted %g, clear %g\n", encrypted.data[0], clear.data[0]);
  return encrypted == clear ? 0 : 1;
} catch (const torusml::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
