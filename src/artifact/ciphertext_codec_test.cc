// Files of encrypted inputs and results.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "artifact/codecs.h"
#include "artifact/describe.h"
#include "artifact/sample_model.h"
#include "artifact/testing/codecs.h"
#include "torusml/error.h"

namespace torusml {
namespace {

TEST_F(Codecs, CiphertextsComeBackTheSame) {
  const EncryptedInputs inputs = sample_inputs();
  save_encrypted_inputs(inputs, file("x.ct"));
  EXPECT_EQ(load_encrypted_inputs(file("x.ct")), inputs);
  expect_fragile(to_bytes(inputs), [](const std::string& b) { encrypted_inputs_from_bytes(b); });

  const EncryptedOutputs outputs = sample_outputs();
  save_encrypted_outputs(outputs, file("y.ct"));
  const EncryptedOutputs back = load_encrypted_outputs(file("y.ct"));
  EXPECT_EQ(back.provenance, outputs.provenance);
  ASSERT_EQ(back.tensors.size(), 1u);
  EXPECT_EQ(back.tensors[0].name, "y");
  EXPECT_EQ(back.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(back.tensors[0].ciphertexts.dimension.value, 64u);
  EXPECT_EQ(back.tensors[0].ciphertexts.count, 6u);
  EXPECT_TRUE(
      std::ranges::equal(back.tensors[0].ciphertexts.words, outputs.tensors[0].ciphertexts.words));
  expect_fragile(to_bytes(outputs), [](const std::string& b) { encrypted_outputs_from_bytes(b); });
}

TEST(CiphertextCodec, SecurityLevelsThatNoModelHasAreRefused) {
  for (const int bits : {-1, 1025}) {
    EncryptedInputs inputs = sample_inputs();
    inputs.provenance.security_bits = bits;
    EXPECT_EQ(code_of([&] { encrypted_inputs_from_bytes(to_bytes(inputs)); }),
              ErrorCode::file_corrupt);
  }
}

TEST_F(Codecs, ClearInputsComeBackTheSame) {
  EncryptedInputs inputs = sample_inputs();
  EncryptedInput& tensor = inputs.tensors[1];
  tensor.clear = {-5, 0, 7, INT64_MIN};
  tensor.ciphertexts.bodies.clear();
  tensor.ciphertexts.seed = {};
  const std::string bytes = to_bytes(inputs);
  EXPECT_EQ(encrypted_inputs_from_bytes(bytes), inputs);
  expect_fragile(bytes, [](const std::string& b) { encrypted_inputs_from_bytes(b); });
}

TEST_F(Codecs, ResultsOfFewerBitsComeBackTheSame) {
  for (const int bits : {8, 17, 32, 33, 63}) {
    EncryptedOutputs outputs = sample_outputs();
    outputs.tensors[0].wire_bits = bits;
    for (Torus& word : std::span<Torus>(outputs.tensors[0].ciphertexts.words))
      word = word >> (64 - bits) << (64 - bits);
    const std::string bytes = to_bytes(outputs);
    const EncryptedOutputs back = encrypted_outputs_from_bytes(bytes);
    EXPECT_EQ(back.tensors[0].wire_bits, bits);
    EXPECT_TRUE(std::ranges::equal(back.tensors[0].ciphertexts.words,
                                   outputs.tensors[0].ciphertexts.words));
    if (bits == 17) {
      expect_fragile(bytes, [](const std::string& b) { encrypted_outputs_from_bytes(b); });
    }
  }
}

// 70 results under a key of dimension 64: two ciphertexts.
EncryptedOutputs packed_outputs() {
  EncryptedOutputs outputs = sample_outputs();
  EncryptedOutput& tensor = outputs.tensors[0];
  tensor = {"y", {10, 7}, 16, {}, PackedResults({64}, 70)};
  for (std::size_t i = 0; i < tensor.packed->words.size(); ++i)
    tensor.packed->words[i] = (i * 0x9e3779b97f4a7c15) >> 48 << 48;
  return outputs;
}

TEST_F(Codecs, PackedResultsComeBackTheSame) {
  const EncryptedOutputs outputs = packed_outputs();
  const std::string bytes = to_bytes(outputs);
  const EncryptedOutput tensor = encrypted_outputs_from_bytes(bytes).tensors[0];
  ASSERT_TRUE(tensor.packed);
  EXPECT_EQ(tensor.shape, (Shape{10, 7}));
  EXPECT_EQ(tensor.wire_bits, 16);
  EXPECT_EQ(tensor.elements(), 70u);
  EXPECT_EQ(tensor.dimension().value, 64u);
  EXPECT_EQ(tensor.packed->words.size(), 2 * 64 + 70u);
  EXPECT_TRUE(std::ranges::equal(tensor.packed->words, outputs.tensors[0].packed->words));
  expect_fragile(bytes, [](const std::string& b) { encrypted_outputs_from_bytes(b); });

  save_encrypted_outputs(outputs, file("y.ct"));
  EXPECT_TRUE(describe_file(file("y.ct")).tensors[0].packed);
  save_encrypted_outputs(sample_outputs(), file("y.ct"));
  EXPECT_FALSE(describe_file(file("y.ct")).tensors[0].packed);
}

// Valid hashes, contents that contradict each other.
TEST(EncryptedOutputsCodec, ForgedPackedResultsAreRefused) {
  const auto text = [](const std::function<void(EncryptedOutput&)>& change) -> std::string {
    EncryptedOutputs outputs = packed_outputs();
    change(outputs.tensors[0]);
    try {
      encrypted_outputs_from_bytes(to_bytes(outputs));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::file_corrupt);
      return error.what();
    }
    return "no error";
  };
  const auto with_words = [](std::size_t count) {
    return [count](EncryptedOutput& tensor) { tensor.packed->words = AlignedBuffer<Torus>(count); };
  };
  EXPECT_NE(text(with_words(197)).find("tensor.0"), std::string::npos);
  EXPECT_NE(text(with_words(199)).find("tensor.0"), std::string::npos);
  EXPECT_NE(text(with_words(70 * 65)).find("tensor.0"), std::string::npos);
  EXPECT_NE(text([](auto& tensor) { tensor.shape = {10, 8}; }).find("tensor.0"), std::string::npos);
  EXPECT_NE(text([](auto& tensor) { tensor.packed->dimension = {96}; }).find("no power of two"),
            std::string::npos);
  EXPECT_NE(text([](auto& tensor) { tensor.packed->dimension = {256}; }).find("tensor.0"),
            std::string::npos);
  // Packed words that are said to be single ciphertexts.
  EXPECT_NE(text([](auto& tensor) {
              tensor.ciphertexts.dimension = {64};
              tensor.ciphertexts.words = tensor.packed->words;
              tensor.packed.reset();
            }).find("tensor.0"),
            std::string::npos);
}

}  // namespace
}  // namespace torusml
