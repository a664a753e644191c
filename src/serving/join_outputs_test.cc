#include "serving/join_outputs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "artifact/sample_model.h"
#include "base/testing/errors.h"

namespace torusml {
namespace {

TEST(JoinOutputs, PutsRowsOneAfterTheOther) {
  const EncryptedOutputs first = sample_outputs();
  EncryptedOutputs second = first;
  second.tensors[0].shape = {1, 3};
  second.tensors[0].ciphertexts = LweBatch({64}, 3);
  std::ranges::fill(second.tensors[0].ciphertexts.words, 5);
  const EncryptedOutputs joined = join_outputs({&first, &second, &first});
  EXPECT_EQ(joined.provenance, first.provenance);
  ASSERT_EQ(joined.tensors.size(), 1u);
  const EncryptedOutput& tensor = joined.tensors[0];
  EXPECT_EQ(tensor.name, "y");
  EXPECT_EQ(tensor.shape, (Shape{5, 3}));
  EXPECT_EQ(tensor.wire_bits, first.tensors[0].wire_bits);
  ASSERT_EQ(tensor.ciphertexts.count, 15u);
  for (std::size_t i = 0; i < 15; ++i) {
    const EncryptedOutputs& part = i >= 6 && i < 9 ? second : first;
    const std::size_t row = i < 6 ? i : i < 9 ? i - 6 : i - 9;
    EXPECT_TRUE(std::ranges::equal(tensor.ciphertexts.row(i), part.tensors[0].ciphertexts.row(row)))
        << i;
  }
}

TEST(JoinOutputs, RefusesWhatDoesNotBelongTogether) {
  const EncryptedOutputs first = sample_outputs();
  const auto code_with = [&](const std::function<void(EncryptedOutputs&)>& change) {
    EncryptedOutputs part = first;
    change(part);
    return code_of([&] { join_outputs({&first, &part}); });
  };
  EXPECT_EQ(code_with([](EncryptedOutputs&) {}), static_cast<ErrorCode>(0));
  EXPECT_EQ(code_with([](EncryptedOutputs& part) { part.provenance.model.bytes[0] ^= 1; }),
            ErrorCode::wrong_model);
  EXPECT_EQ(code_with([](EncryptedOutputs& part) { part.provenance.key.bytes[0] ^= 1; }),
            ErrorCode::wrong_key);
  const std::vector<std::function<void(EncryptedOutput&)>> changes = {
      [](EncryptedOutput& tensor) { tensor.name = "z"; },
      [](EncryptedOutput& tensor) {
        tensor.shape = {3, 2};
      },
      [](EncryptedOutput& tensor) { tensor.shape = {6}; },
      [](EncryptedOutput& tensor) { tensor.wire_bits = 20; },
      [](EncryptedOutput& tensor) { tensor.ciphertexts = LweBatch({65}, 6); }};
  for (const auto& change : changes)
    EXPECT_EQ(code_with([&](EncryptedOutputs& part) { change(part.tensors[0]); }),
              ErrorCode::wrong_shape);
  EXPECT_EQ(code_with([](EncryptedOutputs& part) { part.tensors.clear(); }),
            ErrorCode::wrong_shape);
  EXPECT_EQ(code_with([](EncryptedOutputs& part) {
              part.tensors[0].ciphertexts = {};
              part.tensors[0].packed = PackedResults({64}, 6);
            }),
            ErrorCode::not_supported);
  EXPECT_EQ(code_of([] { join_outputs({}); }), ErrorCode::invalid_argument);
  EncryptedOutputs single = first;
  single.tensors[0].shape = {};
  EXPECT_EQ(code_of([&] { join_outputs({&single, &single}); }), ErrorCode::wrong_shape);
}

}  // namespace
}  // namespace torusml
