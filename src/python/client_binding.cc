// Client, files, keys and encrypted tensors.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "artifact/codecs.h"
#include "bindings.h"
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

void bind_keys(nb::module_& module) {
  nb::class_<SecretKeySet>(module, "SecretKeySet")
      .def("save", [](const SecretKeySet& self, const std::string& path,
                      bool replace) { save_secret_keys(self, path, replace); })
      .def_static("load", &load_secret_keys)
      .def_prop_ro("key_id", [](const SecretKeySet& self) { return to_hex(self.provenance.key); })
      .def_prop_ro("bits", [](const SecretKeySet& self) { return self.keys.big.size(); });

  nb::class_<EvaluationKeySet>(module, "EvaluationKeySet")
      .def("to_bytes",
           [](const EvaluationKeySet& self) {
             return to_python(without_lock([&] { return to_bytes(self); }));
           })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes) { return evaluation_keys_from_bytes(view(bytes)); })
      .def("save",
           [](const EvaluationKeySet& self, const std::string& path) {
             without_lock([&] { save_evaluation_keys(self, path); });
           })
      .def_static("load",
                  [](const std::string& path) {
                    return without_lock([&] { return load_evaluation_keys(path); });
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
                  [](const nb::bytes& bytes) { return encrypted_inputs_from_bytes(view(bytes)); })
      .def("save", &save_encrypted_inputs)
      .def_static("load", &load_encrypted_inputs)
      .def_prop_ro("tensors",
                   [](const EncryptedInputs& self) { return names_and_shapes(self.tensors); });

  nb::class_<EncryptedOutputs>(module, "EncryptedOutputs")
      .def("to_bytes", [](const EncryptedOutputs& self) { return to_python(to_bytes(self)); })
      .def_static("from_bytes",
                  [](const nb::bytes& bytes) { return encrypted_outputs_from_bytes(view(bytes)); })
      .def("save", &save_encrypted_outputs)
      .def_static("load", &load_encrypted_outputs)
      .def_prop_ro("tensors",
                   [](const EncryptedOutputs& self) { return names_and_shapes(self.tensors); });
}

void bind_model_client(nb::module_& module) {
  nb::class_<ModelClient>(module, "ModelClient")
      .def(nb::init<ClientSpec, ModelHash>())
      .def("make_secret_keys",
           [](const ModelClient& self) {
             return without_lock([&] { return self.make_secret_keys(); });
           })
      .def(
          "make_evaluation_keys",
          [](const ModelClient& self, const SecretKeySet& keys, const nb::object& progress,
             int threads) {
            return long_call(progress, [&](const ProgressCallback& report) {
              return self.make_evaluation_keys(keys, report, threads);
            });
          },
          nb::arg("keys"), nb::arg("progress").none(), nb::arg("threads"))
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
           [](ServerModel* self, const CompiledModel& model, const ModelHash& hash) {
             new (self) ServerModel({.model = model, .hash = hash});
           })
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
             int threads, std::uint64_t memory_limit_bytes) {
            return long_call(progress, [&](const ProgressCallback& report) {
              return self.run(inputs, report, {threads, memory_limit_bytes});
            });
          },
          nb::arg("inputs"), nb::arg("progress").none(), nb::arg("threads"),
          nb::arg("memory_limit_bytes"));
}

}  // namespace

void bind_client(nb::module_& module) {
  nb::class_<ModelHash>(module, "ModelHash").def("__str__", [](const ModelHash& self) {
    return to_hex(self);
  });
  nb::class_<ClientSpec>(module, "ClientSpec");
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
