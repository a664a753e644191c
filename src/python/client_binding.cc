// Client, files, keys and encrypted tensors.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "artifact/codecs.h"
#include "artifact/files.h"
#include "bindings.h"
#include "client/key_generation.h"
#include "client/model_client.h"
#include "long_call.h"
#include "serving/server_model.h"

namespace torusml::python {
namespace {

using FloatArrays = std::vector<Array<double>>;
using IntegerArrays = std::vector<Array<std::int64_t>>;

std::string_view view(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

nb::bytes to_python(const std::string& bytes) { return nb::bytes(bytes.data(), bytes.size()); }

template <class Work>
auto without_lock(Work&& work) {
  const nb::gil_scoped_release release;
  return work();
}

nb::list names_and_shapes(const auto& tensors) {
  nb::list list;
  for (const auto& tensor : tensors) {
    list.append(nb::make_tuple(tensor.name, tensor.shape));
  }
  return list;
}

// A Python callable that gives bytes, or None.
PassphraseSource passphrase_source(const nb::object& callable) {
  if (callable.is_none()) return {};
  return [callable] { return passphrase_of(view(nb::cast<nb::bytes>(callable()))); };
}

// A limit of 0 is none.
std::uint64_t limit(std::uint64_t max_bytes) { return max_bytes == 0 ? kNoLimit : max_bytes; }

void bind_keys(nb::module_& module) {
  nb::class_<SecretKeySet>(module, "SecretKeySet")
      .def("save",
           [](const SecretKeySet& self, const std::string& path, bool replace,
              const nb::bytes& passphrase) {
             save_secret_keys(self, path, replace, as_bytes(view(passphrase)));
           })
      .def_static(
          "load",
          [](const std::string& path, const nb::object& passphrase) {
            return load_secret_keys(path, passphrase_source(passphrase));
          },
          nb::arg("path"), nb::arg("passphrase").none())
      .def_prop_ro("key_id", [](const SecretKeySet& self) { return to_hex(self.provenance.key); })
      .def_prop_ro("bits", [](const SecretKeySet& self) { return self.keys.big.size(); });

  nb::class_<EvaluationKeySet>(module, "EvaluationKeySet")
      .def("to_bytes",
           [](const EvaluationKeySet& self) {
             return to_python(without_lock([&] { return to_bytes(self); }));
           })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes, std::uint64_t max_bytes) {
                    return evaluation_keys_from_bytes(view(bytes), {limit(max_bytes), {}});
                  })
      .def("save",
           [](const EvaluationKeySet& self, const std::string& path) {
             without_lock([&] { save_evaluation_keys(self, path); });
           })
      .def_static(
          "load",
          [](const std::string& path, std::uint64_t max_bytes) {
            return without_lock([&] { return load_evaluation_keys(path, {limit(max_bytes), {}}); });
          })
      .def_prop_ro("key_id",
                   [](const EvaluationKeySet& self) { return to_hex(self.provenance.key); })
      .def_prop_ro("bootstrap_key_bytes",
                   [](const EvaluationKeySet& self) {
                     std::size_t bytes = 0;
                     for (const SeededEvaluationKeys& set : self.keys)
                       bytes += set.bootstrap_bodies.size() + set.trace_bodies.size();
                     return bytes;
                   })
      .def_prop_ro("keyswitch_key_bytes", [](const EvaluationKeySet& self) {
        std::size_t words = 0;
        for (const SeededEvaluationKeys& set : self.keys) words += set.keyswitch_bodies.size();
        return words * sizeof(std::uint32_t);
      });
}

void bind_ciphertexts(nb::module_& module) {
  nb::class_<EncryptedInputs>(module, "EncryptedInputs")
      .def("to_bytes", [](const EncryptedInputs& self) { return to_python(to_bytes(self)); })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes, std::uint64_t max_bytes) {
                    return encrypted_inputs_from_bytes(view(bytes), limit(max_bytes));
                  })
      .def("save", &save_encrypted_inputs)
      .def_static("load",
                  [](const std::string& path, std::uint64_t max_bytes) {
                    return load_encrypted_inputs(path, limit(max_bytes));
                  })
      .def_prop_ro("tensors",
                   [](const EncryptedInputs& self) { return names_and_shapes(self.tensors); });

  nb::class_<EncryptedOutputs>(module, "EncryptedOutputs")
      .def("to_bytes", [](const EncryptedOutputs& self) { return to_python(to_bytes(self)); })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes, std::uint64_t max_bytes) {
                    return encrypted_outputs_from_bytes(view(bytes), limit(max_bytes));
                  })
      .def("save", &save_encrypted_outputs)
      .def_static("load",
                  [](const std::string& path, std::uint64_t max_bytes) {
                    return load_encrypted_outputs(path, limit(max_bytes));
                  })
      .def_prop_ro("tensors",
                   [](const EncryptedOutputs& self) { return names_and_shapes(self.tensors); });
}

template <class Half>
nb::class_<Half> bind_half(nb::module_& module, const char* name) {
  return nb::class_<Half>(module, name)
      .def("to_bytes", [](const Half& self) { return to_python(to_bytes(self)); })
      .def_prop_ro("model_hash", [](const Half& self) { return to_hex(self.hash); })
      .def_prop_ro("producer", [](const Half& self) { return self.producer; })
      .def_prop_ro("name", [](const Half& self) { return self.spec.model_name; });
}

nb::list names(const auto& specs) {
  nb::list list;
  for (const auto& spec : specs) list.append(spec.name);
  return list;
}

void bind_halves(nb::module_& module) {
  bind_half<ClientHalf>(module, "ClientHalf")
      .def_static("of",
                  [](const CompiledModel& model, const ModelHash& hash) {
                    return ClientHalf{model.client, hash, ""};
                  })
      .def_static("load",
                  [](const std::string& path, std::uint64_t max_bytes) {
                    return without_lock([&] { return load_client_half(path, limit(max_bytes)); });
                  })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes, std::uint64_t max_bytes) {
                    return client_half_from_bytes(view(bytes), limit(max_bytes));
                  })
      .def("save", &save_client_half)
      .def_prop_ro("key_sets_id",
                   [](const ClientHalf& self) { return key_sets_id(self.spec.key_sets); })
      .def_prop_ro("input_names", [](const ClientHalf& self) { return names(self.spec.inputs); })
      .def_prop_ro("clear_inputs",
                   [](const ClientHalf& self) {
                     auto inputs = self.spec.inputs;
                     std::erase_if(inputs, [](const InputSpec& input) { return !input.is_clear; });
                     return names(inputs);
                   })
      .def_prop_ro("output_names", [](const ClientHalf& self) { return names(self.spec.outputs); });
  bind_half<ServerHalf>(module, "ServerHalf")
      .def_static(
          "of",
          [](const CompiledModel& model, const ModelHash& hash) {
            return without_lock([&] { return server_half({.model = model, .hash = hash}); });
          })
      .def_static("load",
                  [](const std::string& path, std::uint64_t max_bytes) {
                    return without_lock([&] { return load_server_half(path, limit(max_bytes)); });
                  })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes, std::uint64_t max_bytes) {
                    return server_half_from_bytes(view(bytes), limit(max_bytes));
                  })
      .def("save", &save_server_half)
      .def_prop_ro("input_names", [](const ServerHalf& self) { return names(self.spec.inputs); })
      .def_prop_ro("output_names", [](const ServerHalf& self) { return names(self.spec.outputs); });

  module.def("make_secret_keys", [](const std::vector<ClientHalf>& models) {
    return without_lock([&] { return make_secret_keys(models); });
  });
  module.def(
      "make_evaluation_keys",
      [](const SecretKeySet& keys, const nb::object& progress, int threads) {
        return long_call(progress, [&](const ProgressCallback& report) {
          return make_evaluation_keys(keys, keys.key_sets, report, threads);
        });
      },
      nb::arg("keys"), nb::arg("progress").none(), nb::arg("threads"));
}

void bind_model_client(nb::module_& module) {
  nb::class_<ModelClient>(module, "ModelClient")
      .def(nb::init<ClientHalf>())
      .def("check_keys", &ModelClient::check_keys)
      .def("quantize",
           [](const ModelClient& self, const FloatArrays& values) {
             QuantizedInputs quantized = self.quantize(to_tensors(values));
             return nb::make_tuple(to_numpy(std::move(quantized.integers)), quantized.clipped);
           })
      .def("encrypt",
           [](const ModelClient& self, const SecretKeySet& keys, const IntegerArrays& integers) {
             const auto inputs = to_tensors(integers);
             return without_lock([&] { return self.encrypt(keys, inputs); });
           })
      .def("decrypt",
           [](const ModelClient& self, const SecretKeySet& keys, const EncryptedOutputs& results) {
             return to_numpy(without_lock([&] { return self.decrypt(keys, results); }));
           })
      .def("dequantize", [](const ModelClient& self, const IntegerArrays& integers) {
        return to_numpy(self.dequantize(to_tensors(integers)));
      });
}

void bind_server_model(nb::module_& module) {
  nb::class_<ServerModel>(module, "ServerModel")
      .def("__init__",
           [](ServerModel* self, const ServerHalf& half) { new (self) ServerModel(half); })
      .def("load_keys",
           [](ServerModel& self, const EvaluationKeySet& keys, int threads,
              std::uint64_t memory_limit_bytes, const std::string& prepared_keys) {
             const nb::gil_scoped_release release;
             self.load_keys(keys, {threads, memory_limit_bytes}, prepared_keys);
             return self.key_warning();
           })
      .def_prop_ro("keys_are_mapped", &ServerModel::keys_are_mapped)
      .def_prop_ro("key_bytes", &ServerModel::key_bytes)
      .def(
          "run",
          [](const ServerModel& self, const EncryptedInputs& inputs, const nb::object& progress,
             int threads, std::uint64_t memory_limit_bytes, const std::string& checkpoint,
             double checkpoint_seconds) {
            return long_call(progress, [&](const ProgressCallback& report) {
              return self.run(inputs, report, {threads, memory_limit_bytes},
                              {checkpoint, checkpoint_seconds});
            });
          },
          nb::arg("inputs"), nb::arg("progress").none(), nb::arg("threads"),
          nb::arg("memory_limit_bytes"), nb::arg("checkpoint"), nb::arg("checkpoint_seconds"));
}

}  // namespace

void bind_client(nb::module_& module) {
  nb::class_<ModelHash>(module, "ModelHash").def("__str__", [](const ModelHash& self) {
    return to_hex(self);
  });
  bind_halves(module);
  bind_keys(module);
  bind_ciphertexts(module);
  bind_model_client(module);
  bind_server_model(module);

  module.def("hash_of", &hash_of);
  module.def("save_model", [](const CompiledModel& model, const std::string& path) {
    without_lock([&] { save_model(model, path); });
  });
  module.def("load_model", [](const std::string& path) {
    StoredModel stored = without_lock([&] { return load_model(path); });
    return nb::make_tuple(std::move(stored.model), stored.hash);
  });
}

}  // namespace torusml::python
