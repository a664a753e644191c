// Predicts one sample at a server: remote_prediction URL MODEL KEY NUMBER...
// The secret key is made at KEY the first time; the token is in TORUSML_TOKEN.
#include <torusml/error.h>
#include <torusml/remote.h>

#include <cstdio>
#include <cstdlib>

int main(int count, char** arguments) try {
  if (count < 5) return std::fputs("usage: remote_prediction URL MODEL KEY NUMBER...\n", stderr), 2;
  torusml::RemoteSettings settings;
  settings.model = arguments[2];
  if (const char* const token = std::getenv("TORUSML_TOKEN")) settings.token = token;

  torusml::RemoteClient client(arguments[1], settings);
  client.open_keys(arguments[3]);

  torusml::Tensor<double> x{{1, count - 4}, {}};
  for (int i = 4; i < count; ++i) x.data.push_back(std::atof(arguments[i]));
  const auto results = client.infer({x});
  for (const double y : results[0].data) std::printf("%.9g ", y);
  std::printf("\n");
} catch (const torusml::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
