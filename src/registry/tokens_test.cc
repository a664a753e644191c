// Tokens.
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "registry/testing/temporary_registry.h"

namespace torusml {
namespace {

class Tokens : public ::testing::Test {
 protected:
  void open(bool serves = true) {
    registry_.reset();
    registry_.emplace(folder_ / "data", RegistryLimits{}, serves, clock_.clock());
  }
  ErrorCode code(std::string_view token) {
    return code_of([&] { registry_->authenticate(token); });
  }

  TemporaryFolder folder_;
  TestClock clock_;
  std::optional<Registry> registry_;
};

TEST_F(Tokens, NameTheirTenantAndModels) {
  open(false);
  EXPECT_FALSE(registry_->has_tokens());
  const NewToken all = registry_->add_token({.tenant = "alice"}),
                 some = registry_->add_token({.tenant = "bob", .models = {"net", "a", "net"}});
  EXPECT_EQ(all.text, "tml_" + all.id + all.text.substr(4 + all.id.size()));
  EXPECT_EQ(all.text.size(), 4 + 16 + 1 + 43u);
  EXPECT_NE(all.text, some.text);
  open();
  EXPECT_TRUE(registry_->has_tokens());
  const Identity alice = registry_->authenticate(all.text),
                 bob = registry_->authenticate(some.text);
  EXPECT_EQ(alice.tenant, "alice");
  EXPECT_TRUE(alice.may_see("anything"));
  EXPECT_EQ(bob.tenant, "bob");
  EXPECT_EQ(bob.models, (std::vector<std::string>{"a", "net"}));
  EXPECT_TRUE(bob.may_see("net"));
  EXPECT_FALSE(bob.may_see("net2"));
  EXPECT_FALSE(bob.may_see(""));
  const std::vector<TokenRecord> records = registry_->tokens();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].created, clock_.now());
  EXPECT_EQ(records[0].models.size() + records[1].models.size(), 2u);
}

TEST_F(Tokens, OthersAreRefused) {
  open();
  const NewToken token = registry_->add_token({.tenant = "alice"});
  for (std::size_t i = 0; i < token.text.size(); ++i) {
    std::string changed = token.text;
    changed[i] = changed[i] == 'x' ? 'y' : 'x';
    EXPECT_EQ(code(changed), ErrorCode::unauthorized) << i;
  }
  const NewToken other = registry_->add_token({.tenant = "bob"});
  const std::string mixed = token.text.substr(0, 21) + other.text.substr(21);
  for (const std::string& text :
       {std::string(), std::string("tml_"), token.text.substr(1), token.text + "=",
        token.text.substr(0, token.text.size() - 1), mixed, "' OR 1=1 --" + token.text})
    EXPECT_EQ(code(text), ErrorCode::unauthorized) << text;
  EXPECT_EQ(registry_->authenticate(token.text).tenant, "alice");
}

TEST_F(Tokens, AreRevoked) {
  open();
  const NewToken token = registry_->add_token({.tenant = "alice"});
  EXPECT_FALSE(registry_->revoke_token("none"));
  EXPECT_TRUE(registry_->revoke_token(token.id));
  EXPECT_EQ(code(token.text), ErrorCode::unauthorized);
  EXPECT_FALSE(registry_->has_tokens());
  EXPECT_TRUE(registry_->tokens().at(0).is_revoked);
}

TEST_F(Tokens, Expire) {
  open();
  const NewToken token = registry_->add_token({.tenant = "alice", .valid_for = Seconds(100)});
  EXPECT_EQ(registry_->tokens().at(0).expires, clock_.now() + 100);
  clock_.add(99);
  EXPECT_EQ(registry_->authenticate(token.text).tenant, "alice");
  clock_.add(1);
  EXPECT_EQ(code(token.text), ErrorCode::unauthorized);
  EXPECT_FALSE(registry_->has_tokens());
}

TEST_F(Tokens, SettingsAreChecked) {
  open();
  for (const char* tenant : {"", "a b", "../x", ".", "a/b"})
    EXPECT_EQ(code_of([&] { registry_->add_token({.tenant = tenant}); }),
              ErrorCode::invalid_argument);
  for (const char* model : {"", "a/b", "..", "a\nb"})
    EXPECT_EQ(code_of([&] { registry_->add_token({.tenant = "a", .models = {model}}); }),
              ErrorCode::invalid_argument);
  for (const std::int64_t seconds : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX})
    EXPECT_EQ(
        code_of([&] { registry_->add_token({.tenant = "a", .valid_for = Seconds(seconds)}); }),
        ErrorCode::invalid_argument);
  EXPECT_TRUE(registry_->tokens().empty());
}

TEST_F(Tokens, AreNotStored) {
  open();
  const NewToken token = registry_->add_token({.tenant = "alice"});
  const std::string secret = token.text.substr(21);
  for (const std::string& name : files_below(folder_ / "data")) {
    EXPECT_EQ(file_bytes(folder_ / ("data/" + name)).find(secret), std::string::npos) << name;
  }
}

// `torusml token` beside a server that is busy.
TEST_F(Tokens, AreMadeBesideAServer) {
  open();
  std::atomic<bool> stops = false;
  std::thread server([&] {
    for (int i = 0; !stops; ++i) {
      const JobRecord job = registry_->add_job({.tenant = "alice", .request = "x"});
      registry_->finish_job(job.id, "y");
      registry_->delete_job("alice", job.id);
    }
  });
  std::vector<NewToken> made;
  for (int i = 0; i < 10; ++i) {
    Registry beside(folder_ / "data", {}, false, clock_.clock());
    made.push_back(beside.add_token({.tenant = "t" + std::to_string(i)}));
    EXPECT_EQ(registry_->authenticate(made.back().text).tenant, "t" + std::to_string(i));
    if (i % 2 == 0) {
      EXPECT_TRUE(beside.revoke_token(made.back().id));
    }
  }
  stops = true;
  server.join();
  for (std::size_t i = 0; i < made.size(); ++i)
    EXPECT_EQ(code(made[i].text) == ErrorCode::unauthorized, i % 2 == 0);
}

}  // namespace
}  // namespace torusml
