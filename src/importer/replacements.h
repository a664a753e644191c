// What to do about operators that are refused: one line each, for the errors that name them.
#pragma once

#include <string>
#include <string_view>

namespace torusml {

// "take it on the decrypted output"; empty where nothing is known.
std::string replacement_for(std::string_view op_type);

}  // namespace torusml
