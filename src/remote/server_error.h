// An answer that is no success, as torusml::Error.
//
//   if (answer.status != 200) throw error_of(answer, url);
//
// The server's code, message, place and hint, cleaned for terminals and cut at a length; an answer
// that is not a TorusML server's is server_refused with its status. Thread rule: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "remote/http_connection.h"
#include "torusml/error.h"

namespace torusml {

Error error_of(const HttpAnswer& answer, const std::string& where);
// The object that has "code" and "message", as in the body of errors and in jobs; nullopt if it
// is none.
std::optional<Error> error_from_json(const nlohmann::json& json, const std::string& where);
// Error server_refused unless the body is a JSON object.
nlohmann::json json_object(const HttpAnswer& answer, const std::string& where);

// Seconds of the header Retry-After; nullopt if there is none, or a date.
std::optional<double> retry_after_s(const HttpAnswer& answer);

}  // namespace torusml
