// What the importer refuses and how, and what it makes of the batch axis.

#include "importer/onnx.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/testing/errors.h"
#include "base/testing/file_bytes.h"
#include "base/testing/temporary_folder.h"
#include "importer/model_builder.h"
#include "importer/operators.h"
#include "torusml/error.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

FloatGraph import(const std::string& bytes) { return import_onnx_bytes(bytes, "model"); }

std::string import_failure(ErrorCode code, const std::string& bytes) {
  return error_text(code, [&] { import(bytes); });
}

std::string import_failure(ErrorCode code, const GraphBuilder& graph) {
  return import_failure(code, graph.model(18, {"my.domain", "onnx.brevitas"}));
}

std::string fixture(const std::string& name) {
  return fmt::format("{}/tests/models/{}.onnx", TORUSML_SOURCE_DIR, name);
}

GraphBuilder relu() {
  return GraphBuilder().input("x", {-1, 3}).node("Relu", {"x"}, {"y"}).output("y");
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// --- Files -------------------------------------------------------------------------------------

TEST(OnnxFile, RefusesWhatIsNoModel) {
  import_failure(ErrorCode::file_truncated, std::string());
  import_failure(ErrorCode::file_foreign, std::string("\x89PNG\r\n\x1a\n"));
  import_failure(ErrorCode::file_foreign, std::string("PK\x03\x04"));
  import_failure(ErrorCode::file_foreign, std::string("{\"a\": 1}"));
  import_failure(ErrorCode::file_foreign, std::string(100, '\0'));
  import_failure(ErrorCode::file_corrupt,
                 relu().model() + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
  error_text(ErrorCode::file_unreadable, [] { import_onnx("no/such/model.onnx"); });
  error_text(ErrorCode::file_unreadable, [] { import_onnx(TORUSML_SOURCE_DIR); });
}

// Cut at every byte: inside a field the file is truncated; between fields something is missing.
TEST(OnnxFile, RefusesModelsCutAnywhere) {
  for (const char* name : {"exported/mlp_new", "exported/brevitas_qonnx_old", "operators/gemm"}) {
    const std::string bytes = file_bytes(fixture(name));
    ASSERT_GT(bytes.size(), 100U);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      try {
        import(bytes.substr(0, size));
        ADD_FAILURE() << name << " imports when cut to " << size << " bytes";
      } catch (const Error& error) {
        const bool expected = error.code() == ErrorCode::file_truncated ||
                              (error.code() == ErrorCode::invalid_model &&
                               has(error.message(), "perhaps the file is cut"));
        EXPECT_TRUE(expected) << size << ": " << error.what();
      }
    }
  }
}

// Any byte may be wrong: the model is refused with an error of ours, or is still a model.
TEST(OnnxFile, SurvivesWrongBytes) {
  int refused = 0;
  for (const char* name : {"operators/reshape_of_shape", "operators/qdq_weights",
                           "exported/mlp_new", "exported/brevitas_qonnx_new"}) {
    const std::string bytes = file_bytes(fixture(name));
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (int change : {0x01, 0x80, 0xff}) {
        std::string wrong = bytes;
        wrong[at] = static_cast<char>(wrong[at] ^ change);
        try {
          import(wrong);
        } catch (const Error& error) {
          EXPECT_NE(error.code(), ErrorCode::internal) << error.what();
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(OnnxFile, RefusesOtherVersions) {
  EXPECT_TRUE(has(import_failure(ErrorCode::file_version, relu().model(10)), "opset 10"));
  EXPECT_TRUE(has(import_failure(ErrorCode::file_version, relu().model(29)), "opset 29"));
  EXPECT_EQ(import(relu().model(11)).nodes.size(), 1U);
  EXPECT_EQ(import(relu().model(28)).nodes.size(), 1U);
}

// The field numbers that the decoder uses are those of ONNX's own definition.
TEST(OnnxFile, FieldNumbersAgreeWithTheDefinition) {
  const std::string path = TORUSML_SOURCE_DIR "/third_party/onnx/onnx.proto";
  std::map<std::string, int> numbers;  // "TensorProto.dims" -> 1
  std::ifstream file(path);
  std::string line, message;
  while (std::getline(file, line)) {
    std::istringstream words(line.substr(0, line.find("//")));
    std::string first, type, name, equals;
    words >> first >> type;
    if (first == "message") message = type;
    if (first == "int64" || first == "string" || first == "Tensor") {  // inside a oneof
      name = type;
      words >> equals;
    } else {
      words >> name >> equals;
    }
    int number = 0;
    if (equals == "=" && words >> number) numbers[message + "." + name] = number;
  }
  const auto number = [](auto field) { return static_cast<int>(field); };
  const std::map<std::string, int> used = {
      {"ModelProto.ir_version", number(ModelField::ir_version)},
      {"ModelProto.graph", number(ModelField::graph)},
      {"ModelProto.opset_import", number(ModelField::opset_import)},
      {"OperatorSetIdProto.domain", number(OpsetField::domain)},
      {"OperatorSetIdProto.version", number(OpsetField::version)},
      {"GraphProto.node", number(GraphField::node)},
      {"GraphProto.name", number(GraphField::name)},
      {"GraphProto.initializer", number(GraphField::initializer)},
      {"GraphProto.input", number(GraphField::input)},
      {"GraphProto.output", number(GraphField::output)},
      {"GraphProto.sparse_initializer", number(GraphField::sparse_initializer)},
      {"NodeProto.input", number(NodeField::input)},
      {"NodeProto.output", number(NodeField::output)},
      {"NodeProto.name", number(NodeField::name)},
      {"NodeProto.op_type", number(NodeField::op_type)},
      {"NodeProto.attribute", number(NodeField::attribute)},
      {"NodeProto.domain", number(NodeField::domain)},
      {"AttributeProto.name", number(AttributeField::name)},
      {"AttributeProto.f", number(AttributeField::f)},
      {"AttributeProto.i", number(AttributeField::i)},
      {"AttributeProto.s", number(AttributeField::s)},
      {"AttributeProto.t", number(AttributeField::t)},
      {"AttributeProto.g", number(AttributeField::g)},
      {"AttributeProto.floats", number(AttributeField::floats)},
      {"AttributeProto.ints", number(AttributeField::ints)},
      {"AttributeProto.type", number(AttributeField::type)},
      {"AttributeProto.ref_attr_name", number(AttributeField::ref_attr_name)},
      {"Segment.float_data", number(TensorField::float_data)},
      {"Segment.int32_data", number(TensorField::int32_data)},
      {"Segment.string_data", number(TensorField::string_data)},
      {"Segment.int64_data", number(TensorField::int64_data)},
      {"Segment.name", number(TensorField::name)},
      {"Segment.raw_data", number(TensorField::raw_data)},
      {"Segment.double_data", number(TensorField::double_data)},
      {"Segment.uint64_data", number(TensorField::uint64_data)},
      {"Segment.external_data", number(TensorField::external_data)},
      {"Segment.data_location", number(TensorField::data_location)},
      {"TensorProto.dims", number(TensorField::dims)},
      {"TensorProto.data_type", number(TensorField::data_type)},
      {"StringStringEntryProto.key", number(EntryField::key)},
      {"StringStringEntryProto.value", number(EntryField::value)},
      {"ValueInfoProto.name", number(ValueField::name)},
      {"ValueInfoProto.type", number(ValueField::type)},
      {"Tensor.elem_type", number(TensorTypeField::elem_type)},
      {"Tensor.shape", number(TensorTypeField::shape)},
      {"Opaque.tensor_type", number(TypeField::tensor_type)},
      {"Dimension.dim", number(ShapeField::dim)},
      {"Dimension.dim_value", number(DimensionField::dim_value)},
      {"Dimension.dim_param", number(DimensionField::dim_param)},
  };
  for (const auto& [name, value] : used) EXPECT_EQ(numbers[name], value) << name;
}

// --- Graphs ------------------------------------------------------------------------------------

TEST(OnnxGraph, NamesEveryUnsupportedOperator) {
  const std::string text = import_failure(ErrorCode::unsupported_operator,
                                          GraphBuilder()
                                              .input("x", {1, 3})
                                              .node("Hardmax", {"x"}, {"a"}, {}, "", "head")
                                              .node("Relu", {"a"}, {"b"})
                                              .node("Fancy", {"b"}, {"c"}, {}, "my.domain")
                                              .node("ConstantOfShape", {"c"}, {"y"})
                                              .node("LSTM", {"x"}, {"unused"})
                                              .constant(BuiltTensor::integers("i", {0}))
                                              .output("y"));
  EXPECT_TRUE(has(text, "3 operators are not supported")) << text;
  EXPECT_TRUE(has(text, "node 'head' (Hardmax): take it on the decrypted output")) << text;
  EXPECT_TRUE(has(text, "(my.domain.Fancy)")) << text;
  EXPECT_TRUE(has(text, "(ConstantOfShape), which is supported on constants only")) << text;
  EXPECT_FALSE(has(text, "(LSTM)")) << text;
  EXPECT_TRUE(has(text, "BatchNormalization")) << "the supported list";
}

TEST(OnnxGraph, RefusesBrokenGraphs) {
  const auto base = [] { return GraphBuilder().input("x", {1, 3}); };
  const auto invalid = [](const GraphBuilder& graph) {
    return import_failure(ErrorCode::invalid_model, graph);
  };
  EXPECT_TRUE(has(invalid(base().node("Relu", {"ghost"}, {"y"}).output("y")), "'ghost'"));
  EXPECT_TRUE(has(invalid(base().node("Relu", {"x"}, {"y"}).output("z")), "'z'"));
  EXPECT_TRUE(has(invalid(base().node("Relu", {"x"}, {"y"}).node("Abs", {"x"}, {"y"}).output("y")),
                  "written a second time"));
  EXPECT_TRUE(has(invalid(base().node("Relu", {"x"}, {"x"}).output("x")), "a second time"));
  EXPECT_TRUE(
      has(invalid(base().node("Add", {"x", "b"}, {"a"}).node("Abs", {"a"}, {"b"}).output("b")),
          "cycle"));
  EXPECT_TRUE(has(invalid(base().node("Relu", {"x"}, {"y"}).output("y").output("y")), "twice"));
  EXPECT_TRUE(has(invalid(base().node("Relu", {"x"}, {"y"})), "no output"));
  EXPECT_TRUE(
      has(invalid(base().input("x", {1, 3}).node("Relu", {"x"}, {"y"}).output("y")), "twice"));
  EXPECT_TRUE(has(invalid(base().node("", {"x"}, {"y"}).output("y")), "no operator"));
  EXPECT_TRUE(has(invalid(base()
                              .node("Relu", {"x"}, {})
                              .node("Abs", {"x"}, {"y"})
                              .output("y")
                              .node("Relu", {}, {"q"})
                              .output("q")),
                  "0 inputs"));
  EXPECT_TRUE(has(invalid(base().node("Add", {"x"}, {"y"}).output("y")), "1 inputs"));
  EXPECT_TRUE(has(invalid(base().node("Add", {"", "x"}, {"y"}).output("y")), "input 0 is missing"));
  EXPECT_TRUE(
      has(invalid(GraphBuilder().node("Constant", {}, {"y"}, {{"value_int", 1}}).output("y")),
          "no input"));
}

TEST(OnnxGraph, SortsNodesAndDropsUnusedOnes) {
  const FloatGraph graph = import(GraphBuilder()
                                      .input("x", {1, 3})
                                      .node("Abs", {"a"}, {"y"})
                                      .node("LSTM", {"x"}, {"unused"})
                                      .node("Relu", {"x"}, {"a"})
                                      .constant({"also_unused", OnnxType::string, {1}, "", {}})
                                      .output("y")
                                      .model());
  ASSERT_EQ(graph.nodes.size(), 2U);
  EXPECT_EQ(graph.nodes[0].op_type, "Relu");
  EXPECT_EQ(graph.nodes[1].op_type, "Abs");
  EXPECT_TRUE(graph.constants.empty());
  EXPECT_NE(graph.nodes[0].name, graph.nodes[1].name);
}

TEST(OnnxGraph, MakesNamesUnique) {
  GraphBuilder builder;
  builder.input("x", {1, 3});
  std::string tensor = "x";
  for (int i = 0; i < 4; ++i) {
    const std::string next = fmt::format("t{}", i);
    builder.node("Relu", {tensor}, {next}, {}, "", i == 3 ? "n_2" : "n");
    tensor = next;
  }
  std::set<std::string> names;
  for (const FloatNode& node : import(builder.output(tensor).model()).nodes)
    names.insert(node.name);
  EXPECT_EQ(names.size(), 4U);
}

// A chain of 20,000 nodes: no recursion over the graph, no quadratic walk.
TEST(OnnxGraph, ReadsLongChains) {
  GraphBuilder builder;
  builder.input("x0", {-1, 2});
  constexpr int kLength = 20000;
  for (int i = 0; i < kLength; ++i) {
    builder.node("Relu", {fmt::format("x{}", i)}, {fmt::format("x{}", i + 1)});
  }
  const std::string last = fmt::format("x{}", kLength);
  const FloatGraph graph = import(builder.output(last).model());
  EXPECT_EQ(elementwise_tail(graph, last, {"x0"}).nodes.size(), std::size_t{kLength});
}

TEST(OnnxGraph, RefusesBadTensors) {
  const auto with = [](const BuiltTensor& tensor) {
    return GraphBuilder()
        .input("x", {1, 3})
        .node("Add", {"x", "c"}, {"y"})
        .constant(tensor)
        .output("y");
  };
  const auto floats = [](std::vector<std::int64_t> dims, std::vector<float> values) {
    return BuiltTensor::floats("c", std::move(dims), values);
  };
  const std::string text = import_failure(ErrorCode::invalid_model, with(floats({3}, {1, 2})));
  EXPECT_TRUE(has(text, "8 bytes") && has(text, "needs 12") && has(text, "'c'")) << text;
  import_failure(ErrorCode::invalid_model, with(floats({3}, {1, 2, 3, 4})));
  import_failure(ErrorCode::invalid_model, with(floats({-3}, {1, 2, 3})));
  import_failure(ErrorCode::invalid_model, with(floats({1LL << 40, 1LL << 40}, {1})));
  import_failure(ErrorCode::invalid_model, with(floats({1LL << 62, 2, 2}, {1})));
  import_failure(ErrorCode::invalid_model, with(floats({1LL << 61, 2}, {1})));
  import_failure(ErrorCode::wrong_shape, with(floats({2}, {1, 2})));
  import_failure(ErrorCode::wrong_dtype, with(BuiltTensor::integers("c", {1, 2, 3})));
  EXPECT_TRUE(has(import_failure(ErrorCode::not_supported,
                                 with({"c", static_cast<OnnxType>(17), {3}, "abc", {}})),
                  "data type 17"));
  import_failure(ErrorCode::not_supported, with({"c", OnnxType::string, {1}, "a", {}}));
  EXPECT_TRUE(has(import_failure(ErrorCode::not_supported,
                                 with(BuiltTensor::integers("c", {(1LL << 53) + 1, 0, 0}))),
                  "53 bits"));
  EXPECT_TRUE(has(import_failure(ErrorCode::invalid_model,
                                 with(floats({3}, {1, 2, 3})).constant(floats({3}, {1, 2, 3}))),
                  "twice"));
}

// Four or two in a byte, the first one lowest; the last byte may be filled in part.
TEST(OnnxGraph, ReadsPackedElements) {
  const auto with = [](OnnxType type, const std::string& bytes) {
    return GraphBuilder()
        .input("x", {1, 5})
        .node("DequantizeLinear", {"c", "s"}, {"f"})
        .node("Add", {"x", "f"}, {"y"})
        .constant({"c", type, {5}, bytes, {}})
        .constant(BuiltTensor::floats("s", {}, {0.5f}))
        .output("y");
  };
  const auto values = [&](OnnxType type, const std::string& bytes) {
    const FloatGraph graph = import(with(type, bytes).model(25));
    return evaluate(graph, {{{1, 5}, {0, 0, 0, 0, 0}}}).at("y").values.data;
  };
  EXPECT_EQ(values(OnnxType::int4, "\x78\xf0\xa3"), (std::vector<double>{-4, 3.5, 0, -0.5, 1.5}));
  EXPECT_EQ(values(OnnxType::uint4, "\x78\xf0\xa3"), (std::vector<double>{4, 3.5, 0, 7.5, 1.5}));
  EXPECT_EQ(values(OnnxType::int2, "\xb1\x02"), (std::vector<double>{0.5, 0, -0.5, -1, -1}));
  EXPECT_EQ(values(OnnxType::uint2, "\xb1\x02"), (std::vector<double>{0.5, 0, 1.5, 1, 1}));
  const std::string text =
      import_failure(ErrorCode::invalid_model, with(OnnxType::int4, "\x78\xf0"));
  EXPECT_TRUE(has(text, "2 bytes") && has(text, "needs 3")) << text;
}

TEST(OnnxGraph, RefusesHugeTensors) {
  import_failure(ErrorCode::not_supported,
                 GraphBuilder().input("x", {1, 1LL << 40}).node("Relu", {"x"}, {"y"}).output("y"));
  import_failure(ErrorCode::not_supported, GraphBuilder()
                                               .input("x", {1, 1})
                                               .node("Expand", {"x", "s"}, {"y"})
                                               .constant(BuiltTensor::integers("s", {1, 1LL << 40}))
                                               .output("y"));
  import_failure(ErrorCode::not_supported,
                 GraphBuilder()
                     .input("x", {1, 1})
                     .node("ConstantOfShape", {"s"}, {"c"})
                     .node("Add", {"x", "c"}, {"y"})
                     .constant(BuiltTensor::integers("s", {1LL << 20, 1LL << 20}))
                     .output("y"));
}

// A few hundred bytes that would take seconds or gigabytes.
TEST(OnnxGraph, RefusesNodesThatTakeTooMuch) {
  const auto wide = [](std::int64_t rows, std::int64_t columns) {
    return BuiltTensor::integers("s", {rows, columns});
  };
  // 2^33 multiplications of constants.
  const std::string product =
      import_failure(ErrorCode::not_supported, GraphBuilder()
                                                   .input("x", {1, 1})
                                                   .node("ConstantOfShape", {"s"}, {"c"})
                                                   .node("MatMul", {"c", "c"}, {"p"})
                                                   .node("Add", {"x", "p"}, {"y"})
                                                   .constant(wide(1 << 11, 1 << 11))
                                                   .output("y"));
  EXPECT_TRUE(has(product, "MatMul")) << product;
  EXPECT_TRUE(has(product, "multiplications")) << product;
  // The same, as each of 2^11 matrices of one row times each of as many of one column.
  const std::string batches = import_failure(
      ErrorCode::not_supported, GraphBuilder()
                                    .input("x", {1, 1})
                                    .node("ConstantOfShape", {"s"}, {"a"})
                                    .node("ConstantOfShape", {"t"}, {"b"})
                                    .node("MatMul", {"a", "b"}, {"c"})
                                    .node("ReduceMax", {"c"}, {"m"})
                                    .node("Add", {"x", "m"}, {"y"})
                                    .constant(BuiltTensor::integers("s", {1 << 11, 1, 1, 1 << 11}))
                                    .constant(BuiltTensor::integers("t", {1, 1 << 11, 1 << 11, 1}))
                                    .output("y"));
  EXPECT_TRUE(has(batches, "8.59e+09 multiplications")) << batches;
  // Two constants of 2^23 elements each and their sum.
  const std::string kept =
      import_failure(ErrorCode::not_supported, GraphBuilder()
                                                   .input("x", {1, 1})
                                                   .node("ConstantOfShape", {"s"}, {"a"})
                                                   .node("ConstantOfShape", {"s"}, {"b"})
                                                   .node("Mul", {"a", "b"}, {"c"})
                                                   .node("Add", {"x", "c"}, {"y"})
                                                   .constant(wide(1 << 10, 1 << 13))
                                                   .output("y"));
  EXPECT_TRUE(has(kept, "Mul")) << kept;
  EXPECT_TRUE(has(kept, "constants alone")) << kept;
  // No elements, and an axis of 2^40 to walk along.
  import_failure(ErrorCode::not_supported, GraphBuilder()
                                               .input("x", {1, 1})
                                               .node("ConstantOfShape", {"s"}, {"c"})
                                               .node("Slice", {"c", "zero", "end", "one"}, {"d"})
                                               .node("Add", {"x", "d"}, {"y"})
                                               .constant(wide(0, 1LL << 40))
                                               .constant(BuiltTensor::integers("zero", {0}))
                                               .constant(BuiltTensor::integers("one", {1}))
                                               .constant(BuiltTensor::integers("end", {1LL << 40}))
                                               .output("y"));
}

TEST(OnnxGraph, RefusesOperandsAndAttributesThatItDoesNotKnow) {
  const auto base = [] { return GraphBuilder().input("x", {1, 3}).output("y"); };
  EXPECT_TRUE(
      has(import_failure(ErrorCode::not_supported, base().node("Relu", {"x"}, {"y"}, {{"odd", 1}})),
          "'odd'"));
  EXPECT_TRUE(has(import_failure(ErrorCode::invalid_model,
                                 base().node("LeakyRelu", {"x"}, {"y"}, {{"alpha", 1}})),
                  "'alpha' has the wrong type"));
  EXPECT_TRUE(has(import_failure(ErrorCode::not_supported, base().node("Clip", {"x", "x"}, {"y"})),
                  "not constant"));
  import_failure(ErrorCode::not_supported, base().node("Dropout", {"x"}, {"y", "m"}).output("m"));
  EXPECT_TRUE(has(import_failure(ErrorCode::not_supported,
                                 base()
                                     .node("BatchNormalization", {"x", "s", "s", "s", "s"},
                                           {"y", "mean", "var"})
                                     .constant(BuiltTensor::floats("s", {3}, {1, 1, 1}))),
                  "training mode"));
  import_failure(ErrorCode::unsupported_bits,
                 base()
                     .node("Quant", {"x", "s", "z", "b"}, {"y"}, {}, "onnx.brevitas")
                     .constant(BuiltTensor::floats("s", {}, {0.5}))
                     .constant(BuiltTensor::floats("z", {}, {0}))
                     .constant(BuiltTensor::floats("b", {}, {33})));
  EXPECT_TRUE(has(
      import_failure(ErrorCode::invalid_model, base()
                                                   .node("QuantizeLinear", {"x", "s"}, {"y"})
                                                   .constant(BuiltTensor::floats("s", {}, {0}))),
      "scale 0"));
  EXPECT_TRUE(has(
      import_failure(ErrorCode::not_supported, base()
                                                   .node("QuantizeLinear", {"x", "s", "z"}, {"y"})
                                                   .constant(BuiltTensor::floats("s", {}, {1}))
                                                   .constant(BuiltTensor::floats("z", {}, {0}))),
      "quantization to float"));
}

// --- Shapes and the batch axis -----------------------------------------------------------------

TEST(BatchAxis, OtherAxesMustBeFixed) {
  const auto with = [](std::vector<std::int64_t> dims) {
    return GraphBuilder().input("image", dims).node("Relu", {"image"}, {"y"}).output("y");
  };
  const std::string text = import_failure(ErrorCode::dynamic_shape, with({-1, 3, -1}));
  EXPECT_TRUE(has(text, "'image'") && has(text, "axis 2") && has(text, "'width'")) << text;
  import_failure(ErrorCode::dynamic_shape, with({1, -2}));
  import_failure(ErrorCode::invalid_model, with({1, 0}));
  import_failure(ErrorCode::invalid_model, with({-3, 3}));
  import_failure(ErrorCode::invalid_model, with({1, -5}));
  import_failure(ErrorCode::not_supported, with({}));
  for (std::int64_t first : {-2, -1, 0, 1, 5}) {
    EXPECT_EQ(import(with({first, 3}).model()).inputs[0].shape, (Shape{1, 3})) << first;
  }
}

TEST(BatchAxis, InputsMustAgree) {
  const auto with = [](std::int64_t a, std::int64_t b) {
    return GraphBuilder()
        .input("a", {a, 3})
        .input("b", {b, 3})
        .node("Add", {"a", "b"}, {"y"})
        .output("y");
  };
  import_failure(ErrorCode::not_supported, with(4, 2));
  import_failure(ErrorCode::not_supported, with(-1, 1));
  EXPECT_EQ(import(with(4, 4).model()).shapes.at("y"), (Shape{1, 3}));
}

TEST(BatchAxis, RefusesNodesThatMixSamples) {
  const auto shape = [](std::vector<std::int64_t> values) {
    return BuiltTensor::integers("s", values);
  };
  const auto mixing = [](GraphBuilder graph, const char* op_type) {
    const std::string text = import_failure(ErrorCode::not_supported, graph);
    EXPECT_TRUE(has(text, op_type)) << text;
  };
  for (std::int64_t batch : {-1, 1, 3}) {
    const auto base = [&] { return GraphBuilder().input("x", {batch, 4, 1}).output("y"); };
    mixing(base().node("Reshape", {"x", "s"}, {"y"}).constant(shape({2, -1})), "Reshape");
    mixing(base().node("Reshape", {"x", "s"}, {"y"}).constant(shape({-1})), "Reshape");
    mixing(base().node("ReduceSum", {"x"}, {"y"}), "ReduceSum");
    mixing(base().node("Expand", {"x", "s"}, {"y"}).constant(shape({2, 1, 4, 1})), "Expand");
  }
  // Traced with one sample, which they may move.
  for (std::int64_t batch : {-1, 3}) {
    const auto base = [&] { return GraphBuilder().input("x", {batch, 4, 1}).output("y"); };
    mixing(base().node("Transpose", {"x"}, {"y"}), "Transpose");
    mixing(base().node("Flatten", {"x"}, {"y"}, {{"axis", 0}}), "Flatten");
    mixing(base().node("Unsqueeze", {"x", "s"}, {"y"}).constant(shape({0})), "Unsqueeze");
  }
  mixing(GraphBuilder()
             .input("x", {-1, 4})
             .node("Gemm", {"x", "w"}, {"y"}, {{"transA", 1}})
             .constant(BuiltTensor::floats("w", {1, 1}, {2}))
             .output("y"),
         "Gemm");
  mixing(GraphBuilder()
             .input("x", {-1, 4})
             .node("MatMul", {"w", "x"}, {"y"})
             .constant(BuiltTensor::floats("w", {1, 1}, {2}))
             .output("y"),
         "MatMul");
  mixing(GraphBuilder()
             .input("x", {-1, 4})
             .input("z", {-1, 1, 4})
             .node("Add", {"x", "z"}, {"y"})
             .output("y"),
         "Add");
}

// Two transpositions about a sum over the sequence: the samples stay apart.
TEST(BatchAxis, MayMove) {
  const auto moved = [](std::int64_t batch) {
    return GraphBuilder()
        .input("x", {batch, 4, 3})
        .node("Squeeze", {"r", "first"}, {"y"})
        .node("Unsqueeze", {"x", "first"}, {"u"})
        .node("Transpose", {"u"}, {"t"})  // 3, 4, batch, 1
        .node("ReduceSum", {"t", "middle"}, {"s"})
        .node("Transpose", {"s"}, {"r"})  // 1, batch, 1, 3
        .constant(BuiltTensor::integers("first", {0}))
        .constant(BuiltTensor::integers("middle", {1}))
        .output("y");
  };
  const Tensor<double> x{
      {2, 4, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 2, 2, 2, 0, 0, 1, 1, 0, 0, 0, 0, 0}};
  for (std::int64_t batch : {-1, 1}) {
    const FloatGraph graph = import(moved(batch).model());
    const Tensor<double> y = evaluate(graph, {x}).at("y").values;
    EXPECT_EQ(y.shape, (Shape{2, 1, 3}));
    EXPECT_EQ(y.data, (std::vector<double>{22, 26, 30, 3, 2, 3}));
  }
}

TEST(BatchAxis, ConstantsWithARowForEachSampleMustRepeat) {
  const auto with = [](std::vector<float> values) {
    return GraphBuilder()
        .input("x", {2, 3})
        .node("Add", {"x", "c"}, {"y"})
        .constant(BuiltTensor::floats("c", {2, 3}, values))
        .output("y");
  };
  const FloatGraph graph = import(with({1, 2, 3, 1, 2, 3}).model());
  const auto y = evaluate(graph, {{{1, 3}, {10, 20, 30}}}).at("y").values;
  EXPECT_EQ(y, (Tensor<double>{{1, 3}, {11, 22, 33}}));
  EXPECT_TRUE(has(import_failure(ErrorCode::not_supported, with({1, 2, 3, 1, 2, 4})), "'c'"));
}

TEST(BatchAxis, OutputsMustDependOnTheInput) {
  import_failure(ErrorCode::not_supported,
                 GraphBuilder().input("x", {1, 3}).node("Shape", {"x"}, {"y"}).output("y"));
}

// --- External data -----------------------------------------------------------------------------

class ExternalData : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "model" / "weights");
    write(folder_ / "model" / "weights" / "w.bin", floats({0, 1, 2, 3, 4}));
    write(folder_ / "secret.bin", floats({7, 7, 7}));
  }

  static std::string floats(const std::vector<float>& values) {
    return BuiltTensor::floats("", {}, values).raw;
  }
  static void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  GraphBuilder graph(std::vector<std::pair<std::string, std::string>> entries) const {
    return GraphBuilder()
        .input("x", {1, 3})
        .node("Add", {"x", "w"}, {"y"})
        .constant({"w", OnnxType::float32, {3}, "", std::move(entries)})
        .output("y");
  }
  FloatGraph import_with(std::vector<std::pair<std::string, std::string>> entries) const {
    const fs::path path = folder_ / "model" / "net.onnx";
    write(path, graph(std::move(entries)).model());
    return import_onnx(path.string());
  }
  std::string refusal(ErrorCode code,
                      std::vector<std::pair<std::string, std::string>> entries) const {
    return error_text(code, [&] { import_with(std::move(entries)); });
  }

  const TemporaryFolder temporary_;
  const fs::path folder_{temporary_.path()};
};

TEST_F(ExternalData, IsReadFromTheModelsFolder) {
  const FloatGraph graph =
      import_with({{"location", "weights/w.bin"}, {"offset", "8"}, {"length", "12"}});
  EXPECT_EQ(graph.constants.at("w").values.data, (std::vector<double>{2, 3, 4}));
  EXPECT_EQ(import_with({{"location", "weights/w.bin"}}).constants.at("w").values.data,
            (std::vector<double>{0, 1, 2}));
}

TEST_F(ExternalData, FollowsLinksThatStayInside) {
  fs::create_symlink("weights/w.bin", folder_ / "model" / "alias.bin");
  EXPECT_EQ(import_with({{"location", "alias.bin"}}).constants.at("w").values.data[2], 2);
}

TEST_F(ExternalData, NeverLeavesTheModelsFolder) {
  const auto outside = [&](const std::string& location) {
    const std::string text =
        refusal(ErrorCode::path_outside_model_folder, {{"location", location}});
    EXPECT_TRUE(has(text, "'w'")) << text;
  };
  outside("../secret.bin");
  outside("weights/../../secret.bin");
  outside((folder_ / "secret.bin").string());
  outside((folder_ / "model" / "weights" / "w.bin").string());
  outside("");
  refusal(ErrorCode::file_corrupt, {{"location", std::string("weights/w.bin\0x", 15)}});
  fs::create_symlink(folder_ / "secret.bin", folder_ / "model" / "link.bin");
  outside("link.bin");
  fs::create_directory_symlink(folder_, folder_ / "model" / "up");
  outside("up/secret.bin");
  // A sibling folder whose name begins like the model's.
  fs::create_directories(folder_ / "model2");
  write(folder_ / "model2" / "w.bin", floats({7, 7, 7}));
  fs::create_symlink(folder_ / "model2" / "w.bin", folder_ / "model" / "sibling.bin");
  outside("sibling.bin");
}

TEST_F(ExternalData, ChecksSizes) {
  EXPECT_TRUE(
      has(refusal(ErrorCode::file_truncated, {{"location", "weights/w.bin"}, {"offset", "12"}}),
          "the file has 20"));
  refusal(ErrorCode::file_truncated,
          {{"location", "weights/w.bin"}, {"offset", "18446744073709551615"}});
  refusal(ErrorCode::invalid_model, {{"location", "weights/w.bin"}, {"length", "20"}});
  refusal(ErrorCode::invalid_model, {{"location", "weights/w.bin"}, {"offset", "-1"}});
  refusal(ErrorCode::invalid_model, {{"location", "weights/w.bin"}, {"offset", "1e3"}});
  refusal(ErrorCode::file_unreadable, {{"location", "missing.bin"}});
  refusal(ErrorCode::file_unreadable, {{"location", "weights"}});
}

TEST_F(ExternalData, IsRefusedWithoutAFile) {
  error_text(ErrorCode::path_outside_model_folder, [&] {
    import(graph({{ "location", "weights/w.bin" }}).model());
  });
}

}  // namespace
}  // namespace torusml
