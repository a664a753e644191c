// The client of a server.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "bindings.h"
#include "long_call.h"
#include "remote/remote_model.h"

namespace torusml::python {
namespace {

using IntegerArrays = std::vector<Array<std::int64_t>>;
using Ids = std::vector<std::string>;

std::string_view view(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

// Called by the worker of a long call, which has no interpreter lock.
PassphraseSource passphrase_source(const nb::object& callable) {
  if (callable.is_none()) return {};
  return [&callable] {
    const nb::gil_scoped_acquire acquire;
    return passphrase_of(view(nb::cast<nb::bytes>(callable())));
  };
}

nb::dict to_python(const TransferCounts& counts) {
  nb::dict result;
  result["sent_bytes"] = counts.sent_bytes;
  result["received_bytes"] = counts.received_bytes;
  result["key_bytes"] = counts.key_bytes;
  result["requests"] = counts.requests;
  result["repeats"] = counts.repeats;
  return result;
}

// Requests run beside the interpreter, and Ctrl-C stops them.
template <class Work>
auto request(const nb::object& progress, Work&& work) {
  return long_call(progress, std::forward<Work>(work));
}

std::shared_ptr<RemoteModel> open_remote_model(const std::string& url,
                                               const RemoteSettings& settings) {
  return request(nb::none(), [&](const ProgressCallback& report) {
    return std::make_shared<RemoteModel>(url, settings, report);
  });
}

void bind_settings(nb::module_& module) {
  nb::class_<RemoteSettings>(module, "RemoteSettings")
      .def(nb::init<>())
      .def_rw("model", &RemoteSettings::model)
      .def_rw("version", &RemoteSettings::version)
      .def_rw("token", &RemoteSettings::token)
      .def_rw("ca_file", &RemoteSettings::ca_file)
      .def_rw("allow_plain_http", &RemoteSettings::allow_plain_http)
      .def_rw("model_hash", &RemoteSettings::model_hash)
      .def_rw("clear_inputs", &RemoteSettings::clear_inputs)
      .def_rw("connect_timeout_s", &RemoteSettings::connect_timeout_s)
      .def_rw("idle_timeout_s", &RemoteSettings::idle_timeout_s)
      .def_rw("deadline_s", &RemoteSettings::deadline_s)
      .def_rw("patience_s", &RemoteSettings::patience_s)
      .def_rw("max_request_bytes", &RemoteSettings::max_request_bytes)
      .def_rw("max_request_samples", &RemoteSettings::max_request_samples)
      .def_rw("upload_part_bytes", &RemoteSettings::upload_part_bytes);
}

}  // namespace

void bind_remote(nb::module_& module) {
  bind_settings(module);
  module.def("open_remote_model", &open_remote_model);
  nb::class_<RemoteModel>(module, "RemoteModel")
      .def_prop_ro("half", &RemoteModel::half)
      .def_prop_ro("has_keys", &RemoteModel::has_keys)
      .def_prop_ro("key_id", &RemoteModel::key_id)
      .def_prop_ro("samples_per_request", &RemoteModel::samples_per_request)
      .def("transfer", [](const RemoteModel& self) { return to_python(self.transfer()); })
      .def("metadata",
           [](const RemoteModel& self) {
             return request(nb::none(),
                            [&](const ProgressCallback& report) { return self.metadata(report); });
           })
      .def(
          "generate_keys",
          [](RemoteModel& self, const nb::object& progress, int threads) {
            request(progress, [&](const ProgressCallback& report) {
              self.generate_keys(report, threads);
              return true;
            });
          },
          nb::arg("progress").none(), nb::arg("threads"))
      .def(
          "open_keys",
          [](RemoteModel& self, const std::string& path, const nb::object& passphrase,
             const std::string& evaluation, const nb::object& progress, int threads) {
            request(progress, [&](const ProgressCallback& report) {
              self.open_keys(path, passphrase_source(passphrase), evaluation, report, threads);
              return true;
            });
          },
          nb::arg("path"), nb::arg("passphrase").none(), nb::arg("evaluation"),
          nb::arg("progress").none(), nb::arg("threads"))
      .def(
          "upload_keys",
          [](const RemoteModel& self, const nb::object& progress) {
            request(progress, [&](const ProgressCallback& report) {
              self.upload_keys(report);
              return true;
            });
          },
          nb::arg("progress").none())
      .def("delete_keys",
           [](const RemoteModel& self) {
             return request(nb::none(), [&](const ProgressCallback& report) {
               return self.delete_keys(report);
             });
           })
      .def(
          "predict",
          [](const RemoteModel& self, const IntegerArrays& inputs, const nb::object& progress) {
            const IntegerTensors tensors = to_tensors(inputs);
            return to_numpy(request(progress, [&](const ProgressCallback& report) {
              return self.predict(tensors, report);
            }));
          },
          nb::arg("inputs"), nb::arg("progress").none())
      .def(
          "infer",
          [](const RemoteModel& self, const IntegerArrays& inputs, const nb::object& progress) {
            const IntegerTensors tensors = to_tensors(inputs);
            return to_numpy(request(progress, [&](const ProgressCallback& report) {
              return self.infer(tensors, report);
            }));
          },
          nb::arg("inputs"), nb::arg("progress").none())
      .def(
          "submit",
          [](const RemoteModel& self, const IntegerArrays& inputs, const nb::object& progress) {
            const IntegerTensors tensors = to_tensors(inputs);
            return request(progress, [&](const ProgressCallback& report) {
              return self.submit(tensors, report);
            });
          },
          nb::arg("inputs"), nb::arg("progress").none())
      .def(
          "result",
          [](const RemoteModel& self, const Ids& ids, const nb::object& progress) {
            return to_numpy(request(progress, [&](const ProgressCallback& report) {
              return self.result(ids, report);
            }));
          },
          nb::arg("ids"), nb::arg("progress").none())
      .def("progress",
           [](const RemoteModel& self, const Ids& ids) {
             const RemoteProgress found = request(nb::none(), [&](const ProgressCallback& report) {
               return self.progress(ids, report);
             });
             return nb::make_tuple(found.done, found.total, found.finished);
           })
      .def("cancel", [](const RemoteModel& self, const Ids& ids) {
        request(nb::none(), [&](const ProgressCallback& report) {
          self.cancel(ids, report);
          return true;
        });
      });
}

}  // namespace torusml::python
