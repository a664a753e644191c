#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "bindings.h"
#include "torusml/quantizer.h"

namespace torusml::python {

void bind_quantizer(nb::module_& module) {
  nb::class_<QuantizationOptions>(module, "QuantizationOptions")
      .def(
          "__init__",
          [](QuantizationOptions* self, int n_bits, bool is_signed, bool is_symmetric, bool is_qat,
             bool is_narrow, bool is_precomputed_qat) {
            new (self) QuantizationOptions{n_bits, is_signed, is_symmetric,
                                           is_qat, is_narrow, is_precomputed_qat};
          },
          nb::arg("n_bits"), nb::arg("is_signed"), nb::arg("is_symmetric"), nb::arg("is_qat"),
          nb::arg("is_narrow"), nb::arg("is_precomputed_qat"))
      .def_ro("n_bits", &QuantizationOptions::n_bits)
      .def_ro("is_signed", &QuantizationOptions::is_signed)
      .def_ro("is_symmetric", &QuantizationOptions::is_symmetric)
      .def_ro("is_qat", &QuantizationOptions::is_qat)
      .def_ro("is_narrow", &QuantizationOptions::is_narrow)
      .def_ro("is_precomputed_qat", &QuantizationOptions::is_precomputed_qat);

  nb::class_<UniformQuantizationParameters>(module, "UniformQuantizationParameters")
      .def(
          "__init__",
          [](UniformQuantizationParameters* self, std::vector<double> scale,
             std::vector<std::int64_t> zero_point, std::int64_t offset) {
            new (self)
                UniformQuantizationParameters{std::move(scale), std::move(zero_point), offset};
          },
          nb::arg("scale"), nb::arg("zero_point"), nb::arg("offset"))
      .def_ro("scale", &UniformQuantizationParameters::scale)
      .def_ro("zero_point", &UniformQuantizationParameters::zero_point)
      .def_ro("offset", &UniformQuantizationParameters::offset);

  nb::class_<UniformQuantizer>(module, "UniformQuantizer")
      .def(nb::init<QuantizationOptions, UniformQuantizationParameters>())
      .def_prop_ro("options", &UniformQuantizer::options)
      .def_prop_ro("parameters", &UniformQuantizer::parameters)
      .def_prop_ro("lowest", &UniformQuantizer::lowest)
      .def_prop_ro("highest", &UniformQuantizer::highest)
      .def("quantize",
           [](const UniformQuantizer& self, const Array<double>& values, bool no_clipping) {
             return to_numpy(shape_of(values), self.quantize(view(values), 1, no_clipping));
           })
      .def("dequantize",
           [](const UniformQuantizer& self, const Array<std::int64_t>& integers) {
             return to_numpy(shape_of(integers), self.dequantize(view(integers)));
           })
      .def("count_clipped", [](const UniformQuantizer& self, const Array<double>& values) {
        return self.count_clipped(view(values));
      });

  module.def("min_max_stats", [](const Array<double>& values) {
    const MinMaxQuantizationStats stats = min_max_stats(view(values));
    return nb::make_tuple(stats.rmin, stats.rmax);
  });
  module.def("quantization_parameters",
             [](const QuantizationOptions& options, double rmin, double rmax) {
               return quantization_parameters(options, {.rmin = rmin, .rmax = rmax});
             });
}

}  // namespace torusml::python
