#include <fmt/chrono.h>
#include <fmt/format.h>

#include "cli/commands.h"
#include "registry/registry.h"

namespace torusml {
namespace {

// Beside a server that has the folder.
Registry open_registry(const std::string& data) { return Registry(data, {}, /*serves=*/false); }

std::string text_of(std::int64_t time) {
  return fmt::format("{:%F %T} UTC", fmt::gmtime(static_cast<std::time_t>(time)));
}

}  // namespace

void run_token_add(const TokenAddArguments& arguments) {
  Registry registry = open_registry(arguments.data);
  TokenSettings settings{arguments.tenant, arguments.models, std::nullopt};
  if (arguments.days > 0) settings.valid_for = Seconds(std::int64_t{86400} * arguments.days);
  const NewToken token = registry.add_token(settings);
  fmt::print("{}\n", token.text);
  fmt::print(stderr, "Token {} of tenant {}. It is shown this once; the server keeps its hash.\n",
             token.id, arguments.tenant);
}

void run_token_list(const TokenListArguments& arguments) {
  for (const TokenRecord& token : open_registry(arguments.data).tokens()) {
    fmt::print("{}  tenant {}, models {}, made {}, {}{}\n", token.id, token.tenant,
               token.models.empty() ? "all" : fmt::format("{}", fmt::join(token.models, " ")),
               text_of(token.created),
               token.expires ? "valid until " + text_of(*token.expires) : "valid until revoked",
               token.is_revoked ? "; revoked" : "");
  }
}

void run_token_revoke(const TokenRevokeArguments& arguments) {
  if (!open_registry(arguments.data).revoke_token(arguments.id)) {
    throw Error(ErrorCode::not_found, fmt::format("there is no token {}", arguments.id), "token",
                "torusml token list");
  }
  fmt::print("Token {} is revoked.\n", arguments.id);
}

}  // namespace torusml
