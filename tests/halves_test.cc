// What the two halves of a compiled network hold and, above all, what they do not: weights, biases
// and tables on the client's side, quantizers and traces of calibration data on the server's. Both
// by a search of their bytes, in every encoding that a weight or a sample has on its way, and by
// the names of all their fields.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <vector>

#include "artifact/codecs.h"
#include "artifact/container.h"
#include "compiler/quantized_module.h"
#include "quantization/test_graph.h"

namespace torusml {
namespace {

// Eight inputs, six neurons, four outputs; weights and biases that occur nowhere by chance.
struct Network {
  std::vector<double> first, first_bias, second, second_bias;
  Tensor<double> calibration;
  StoredModel model;

  std::vector<double> weights() const {
    std::vector<double> all = first;
    for (const auto* more : {&first_bias, &second, &second_bias})
      all.insert(all.end(), more->begin(), more->end());
    return all;
  }
};

std::vector<double> draw(std::mt19937_64& random, std::size_t count, double most) {
  std::uniform_real_distribution<double> uniform(-most, most);
  std::vector<double> values(count);
  for (double& v : values) v = static_cast<float>(uniform(random));
  return values;
}

Network make_network() {
  std::mt19937_64 random(7);
  Network net{draw(random, 48, 1),
              draw(random, 6, 0.5),
              draw(random, 24, 1),
              draw(random, 4, 0.5),
              {{200, 8}, draw(random, 1600, 2)},
              {}};
  FloatGraph graph = TestGraph()
                         .input("x", {1, 8})
                         .constant("w1", {{8, 6}, net.first})
                         .constant("b1", {{6}, net.first_bias})
                         .constant("w2", {{6, 4}, net.second})
                         .constant("b2", {{4}, net.second_bias})
                         .node("MatMul", {"x", "w1"}, "h")
                         .node("Add", {"h", "b1"}, "s")
                         .node("Relu", {"s"}, "r")
                         .node("MatMul", {"r", "w2"}, "t")
                         .node("Add", {"t", "b2"}, "y")
                         .output("y")
                         .build();
  CompileOptions options;
  options.quantization = {QuantizationBits::uniform(5), false};
  options.plan.precision = Precision::tolerant;
  net.model.model = compile_model(std::move(graph), {net.calibration}, options);
  net.model.hash = hash_of(net.model.model);
  return net;
}

// A file as it is, and all its sections as they are before compression.
std::string everything(const std::string& bytes) {
  const MemorySource source(bytes, "half");
  const ContainerReader reader(source, {});
  std::string all = bytes;
  for (const auto& [key, value] : reader.properties()) all += key + "=" + value + "\n";
  for (const SectionInfo& section : reader.sections())
    all += reader.read_text(section.name, kMaxDecompressedBytes);
  return all;
}

template <class Number>
std::string raw(Number value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

template <class Number>
std::string raw(const std::vector<std::int64_t>& values) {
  std::string bytes;
  for (const std::int64_t v : values) bytes += raw(static_cast<Number>(v));
  return bytes;
}

// A float in the machine's forms, and in decimal ones as they are printed.
std::vector<std::string> forms(double value) {
  return {raw(value),
          raw(static_cast<float>(value)),
          fmt::format("{}", value),
          fmt::format("{}", static_cast<float>(value)),
          fmt::format("{:.17g}", value),
          fmt::format("{:.6f}", value)};
}

// A row of integers as the circuit's text has it, and as words of every size.
std::vector<std::string> forms(const std::vector<std::int64_t>& row) {
  std::string text, tight;
  for (const std::int64_t v : row) {
    text += (text.empty() ? "" : ", ") + std::to_string(v);
    tight += (tight.empty() ? "" : ",") + std::to_string(v);
  }
  return {text,
          tight,
          raw<std::int8_t>(row),
          raw<std::int16_t>(row),
          raw<std::int32_t>(row),
          raw<std::int64_t>(row)};
}

template <class Value>
bool holds(const std::string& all, const Value& value) {
  for (const std::string& form : forms(value)) {
    if (all.find(form) != std::string::npos) return true;
  }
  return false;
}

// Rows of the circuit's dense weights, its biases, and its tables; those with too few values to be
// recognised left out.
std::vector<std::vector<std::int64_t>> integers_of(const Circuit& circuit) {
  std::vector<std::vector<std::int64_t>> rows;
  for (const Node& node : circuit.nodes) {
    if (const auto* linear = std::get_if<Linear>(&node.op)) {
      if (linear->bias.size() > 1) rows.push_back(linear->bias);
      for (const LinearTerm& term : linear->terms) {
        const auto* dense = std::get_if<DenseWeight>(&term.weight);
        if (dense == nullptr) continue;
        const std::size_t columns = dense->data.size() / static_cast<std::size_t>(dense->rows);
        for (std::size_t r = 0; r < dense->data.size(); r += columns)
          rows.emplace_back(dense->data.begin() + static_cast<std::ptrdiff_t>(r),
                            dense->data.begin() + static_cast<std::ptrdiff_t>(r + columns));
      }
    }
    if (const auto* lut = std::get_if<Lut>(&node.op)) {
      // Enough of a table to be recognised, from its middle.
      for (const Table& table : lut->tables) {
        const auto middle = static_cast<std::ptrdiff_t>(table.domain.size() / 2);
        rows.emplace_back(table.entries.begin() + middle, table.entries.begin() + middle + 12);
      }
    }
  }
  std::erase_if(rows, [](const std::vector<std::int64_t>& row) {
    return std::set<std::int64_t>(row.begin(), row.end()).size() < 4;
  });
  return rows;
}

// Names of all fields, with those that they lie in.
void collect(const nlohmann::json& json, const std::string& path, std::set<std::string>& names) {
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      names.insert(path + key);
      collect(value, path + key + ".", names);
    }
  } else if (json.is_array()) {
    for (const auto& value : json) collect(value, path, names);
  }
}

std::set<std::string> fields(const std::string& bytes, const std::string& section) {
  const MemorySource source(bytes, "half");
  const ContainerReader reader(source, {});
  std::set<std::string> names;
  collect(nlohmann::json::parse(reader.read_text(section, kMaxDecompressedBytes)), "", names);
  return names;
}

std::vector<std::string> sections(const std::string& bytes) {
  const MemorySource source(bytes, "half");
  const ContainerReader reader(source, {});
  std::vector<std::string> names;
  for (const SectionInfo& section : reader.sections()) names.push_back(section.name);
  return names;
}

std::set<std::string> properties(const std::string& bytes) {
  const MemorySource source(bytes, "half");
  const ContainerReader reader(source, {});
  std::set<std::string> keys;
  for (const auto& [key, value] : reader.properties()) keys.insert(key);
  return keys;
}

const std::set<std::string> kProperties{"model_hash", "name",    "p_error",
                                        "precision",  "profile", "security_bits"};

class Halves : public testing::Test {
 protected:
  const Network net_ = make_network();
  const std::string client_ = to_bytes(client_half(net_.model)),
                    server_ = to_bytes(server_half(net_.model));
};

TEST_F(Halves, TheClientsHoldsNoWeights) {
  const std::string client = everything(client_), server = everything(server_);
  const std::vector<std::vector<std::int64_t>> rows = integers_of(net_.model.model.circuit);
  EXPECT_GE(rows.size(), 8u);
  for (const std::vector<std::int64_t>& row : rows) {
    EXPECT_FALSE(holds(client, row)) << forms(row)[0];
    EXPECT_TRUE(holds(server, row)) << forms(row)[0];  // the search finds what is there
  }
  for (const double weight : net_.weights()) EXPECT_FALSE(holds(client, weight)) << weight;
}

TEST_F(Halves, TheClientsHoldsLessThanAStepOfEachBiasOfTheResults) {
  const std::vector<double> zero_point = net_.model.model.client.outputs[0].zero_point;
  EXPECT_EQ(zero_point.size(), 4u);
  for (const double zero : zero_point) {
    EXPECT_LE(std::abs(zero), 0.5);
    EXPECT_NE(zero, 0) << "nothing is tested";
    EXPECT_EQ(zero, std::ldexp(std::round(std::ldexp(zero, 16)), -16)) << "more than 16 bits";
  }
}

TEST_F(Halves, TheServersHoldsNoTrainingDataAndNoQuantizers) {
  const std::string server = everything(server_), client = everything(client_);
  for (const double value : net_.calibration.data) EXPECT_FALSE(holds(server, value)) << value;
  // Scales follow from the range of the data.
  const ClientSpec& spec = net_.model.model.client;
  std::vector<double> scales = spec.inputs[0].quantizer.parameters().scale;
  scales.insert(scales.end(), spec.outputs[0].scale.begin(), spec.outputs[0].scale.end());
  for (const double scale : scales) {
    EXPECT_FALSE(holds(server, scale)) << scale;
    EXPECT_TRUE(holds(client, scale)) << scale;
  }
  for (const char* word : {"calibrated", "quantizer", "ranges"})
    EXPECT_EQ(server.find(word), std::string::npos) << word;
}

TEST_F(Halves, HaveTheseSectionsAndFieldsAndNoOthers) {
  EXPECT_EQ(sections(client_), (std::vector<std::string>{"client"}));
  EXPECT_EQ(sections(server_), (std::vector<std::string>{"circuit", "plan", "server"}));
  EXPECT_EQ(properties(client_), kProperties);
  EXPECT_EQ(properties(server_), kProperties);
  EXPECT_EQ(fields(server_, "server"),
            (std::set<std::string>{"model_name", "inputs", "inputs.name", "inputs.shape", "outputs",
                                   "outputs.name", "outputs.shape"}));
  std::set<std::string> expected{"model_name", "key_sets", "options", "inputs", "outputs"};
  const auto add = [&](const std::string& path, const std::vector<const char*>& names) {
    for (const char* name : names) expected.insert(path + name);
  };
  for (const char* tensor : {"inputs.", "outputs."})
    add(tensor, {"name", "shape", "interval", "torus_scale", "center"});
  add("inputs.", {"quantizer"});
  add("inputs.quantizer.", {"n_bits", "is_signed", "is_symmetric", "is_qat", "is_narrow",
                            "is_precomputed_qat", "scale", "zero_point", "offset"});
  add("outputs.", {"scale", "zero_point"});
  add("options.", {"precision", "profile", "p_error", "global_p_error", "tolerance",
                   "security_bits", "max_exact_bits", "parameters", "max_key_sets"});
  add("key_sets.", {"small_dimension", "glwe_dimension", "polynomial_size", "grouping_factor",
                    "accumulator_bits", "small_variance", "glwe_variance", "bootstrap", "keyswitch",
                    "circuit_bootstrap", "trace"});
  for (const char* gadget : {"bootstrap", "keyswitch", "circuit_bootstrap", "trace"})
    add(fmt::format("key_sets.{}.", gadget), {"base_log2", "level_count"});
  EXPECT_EQ(fields(client_, "client"), expected);
}

TEST_F(Halves, OutputsTravelInTheBitsThatDecryptionNeeds) {
  for (const auto& [node, output] : net_.model.model.plan.outputs) {
    EXPECT_LT(output.wire_bits, 32);
    EXPECT_GT(output.wire_bits, 8);
  }
}

}  // namespace
}  // namespace torusml
