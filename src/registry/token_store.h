// The tokens of a registry. Functions as in registry.h. Private to this room.
#pragma once

#include "registry/core.h"

namespace torusml {

class TokenStore {
 public:
  explicit TokenStore(Core& core) : core_(core) {}

  NewToken add(const TokenSettings& settings);
  bool revoke(const std::string& id);
  std::vector<TokenRecord> all();
  bool has_valid_ones();
  Identity authenticate(std::string_view token);

 private:
  std::vector<std::string> models_of(const std::string& id);

  Core& core_;
};

}  // namespace torusml
