// Small valid inputs of every harness. Tests only.
#pragma once

#include <map>
#include <string>

#include "artifact/codecs.h"

namespace torusml::fuzz {

inline constexpr const char* kSeedPassphrase = "pass";

EvaluationKeySet seed_evaluation_keys();
StoredModel http_model();  // that the server of the harness http has, as "net"
// By harness and name, "model/sample". Without those of ONNX, which are files of tests/models.
std::map<std::string, std::string> seeds();

}  // namespace torusml::fuzz
