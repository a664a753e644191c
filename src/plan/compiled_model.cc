#include "plan/compiled_model.h"

#include <fmt/format.h>

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

}  // namespace torusml
