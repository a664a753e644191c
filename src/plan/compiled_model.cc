#include "plan/compiled_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "torusml/error.h"

namespace torusml {

std::string to_string(Criterion criterion) {
  switch (criterion) {
    case Criterion::argmax:
      return "argmax agreement";
    case Criterion::relative_error:
      return "relative error";
    case Criterion::metric:
      return "metric";
    case Criterion::automatic:
      break;
  }
  return "automatic";
}

Criterion parse_criterion(const std::string& text) {
  for (const Criterion known :
       {Criterion::automatic, Criterion::argmax, Criterion::relative_error, Criterion::metric}) {
    if (text == to_string(known)) return known;
  }
  throw Error(ErrorCode::unknown_option, fmt::format("criterion \"{}\" is not known", text), "",
              "\"argmax agreement\", \"relative error\" or \"metric\"");
}

void declare_clear(CompiledModel& model, const std::vector<std::string>& inputs) {
  std::vector<InputSpec>& specs = model.client.inputs;
  for (const std::string& name : inputs) {
    const auto spec = std::ranges::find(specs, name, &InputSpec::name);
    if (spec == specs.end()) {
      std::vector<std::string> known;
      for (const InputSpec& input : specs) known.push_back(input.name);
      throw Error(ErrorCode::unknown_option, fmt::format("the model has no input '{}'", name),
                  "clear inputs", fmt::format("one of {}", fmt::join(known, ", ")));
    }
    spec->is_clear = true;
  }
  if (!specs.empty() && std::ranges::all_of(specs, &InputSpec::is_clear)) {
    throw Error(ErrorCode::invalid_argument, "all inputs are in the clear", "clear inputs",
                "at least one that is encrypted");
  }
}

}  // namespace torusml
