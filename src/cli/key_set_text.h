// What a plan of two key sets was preferred to, for people.
#pragma once

#include <string>

#include "plan/plan.h"

namespace torusml {

std::string one_key_set_text(const OneKeySet& one);

}  // namespace torusml
