// The options of `torusml serve`: every limit of ServerSettings is one.
#pragma once

#include "server/settings.h"

namespace CLI {
class App;
}

namespace torusml {

void add_serve_options(CLI::App& command, ServerSettings& settings);

}  // namespace torusml
