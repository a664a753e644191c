#include "cli/npy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/testing/file_bytes.h"
#include "torusml/error.h"

namespace torusml {
namespace {

class Npy : public ::testing::Test {
 protected:
  Npy()
      : path_((std::filesystem::temp_directory_path() /
               ("torusml_npy_" + std::to_string(getpid()) + ".npy"))
                  .string()) {}
  ~Npy() override { std::filesystem::remove(path_); }

  // A version 1 file with this header and these data.
  void put(const std::string& header, const std::string& data, char version = 1) {
    std::string bytes = "\x93NUMPY";
    bytes += version;
    bytes += '\0';
    const std::uint32_t size = static_cast<std::uint32_t>(header.size());
    bytes.append(reinterpret_cast<const char*>(&size), version == 1 ? 2 : 4);
    put_bytes(bytes + header + data);
  }
  void put_bytes(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string bytes() const { return file_bytes(path_); }
  ErrorCode code() const {
    try {
      read_npy(path_);
    } catch (const Error& error) {
      return error.code();
    }
    return static_cast<ErrorCode>(0);
  }

  std::string path_;
};

template <class Number>
std::string data_of(std::initializer_list<Number> numbers) {
  std::string data;
  for (const Number number : numbers)
    data.append(reinterpret_cast<const char*>(&number), sizeof number);
  return data;
}

std::string header(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }   \n";
}

TEST_F(Npy, ReadsEveryType) {
  const Tensor<double> expected{{3}, {1, 2, 100}};
  const auto expect_read = [&](const std::string& descr, const std::string& data) {
    for (char version : {1, 2, 3}) {
      put(header(descr, "(3,)"), data, version);
      EXPECT_EQ(read_npy(path_), expected) << descr;
    }
  };
  expect_read("<f4", data_of<float>({1, 2, 100}));
  expect_read("<f8", data_of<double>({1, 2, 100}));
  expect_read("|i1", data_of<std::int8_t>({1, 2, 100}));
  expect_read("<i2", data_of<std::int16_t>({1, 2, 100}));
  expect_read("<i4", data_of<std::int32_t>({1, 2, 100}));
  expect_read("<i8", data_of<std::int64_t>({1, 2, 100}));
  expect_read("|u1", data_of<std::uint8_t>({1, 2, 100}));
  expect_read("<u2", data_of<std::uint16_t>({1, 2, 100}));
  expect_read("<u4", data_of<std::uint32_t>({1, 2, 100}));
}

TEST_F(Npy, ReadsScalarsEmptyArraysAndTwoDimensions) {
  put(header("<i4", "()"), data_of<std::int32_t>({-7}));
  EXPECT_EQ(read_npy(path_), (Tensor<double>{{}, {-7}}));
  put(header("<i4", "(0, 5)"), "");
  EXPECT_EQ(read_npy(path_), (Tensor<double>{{0, 5}, {}}));
  put(header("<i4", "(2, 2)"), data_of<std::int32_t>({1, 2, 3, 4}));
  EXPECT_EQ(read_npy(path_), (Tensor<double>{{2, 2}, {1, 2, 3, 4}}));
}

TEST_F(Npy, WritesWhatItReads) {
  const Tensor<double> floats{{2, 3}, {0.1, -1e300, 3, 4, 5, 1.0 / 3}};
  write_npy(path_, floats);
  EXPECT_EQ(read_npy(path_), floats);
  EXPECT_EQ(bytes().size(), 128u + 6 * 8);
  const Tensor<std::int64_t> integers{{2}, {-5, 1 << 30}};
  write_npy(path_, integers);
  EXPECT_EQ(read_npy(path_), (Tensor<double>{{2}, {-5, 1 << 30}}));
  EXPECT_NE(bytes().find("'<i8', 'fortran_order': False, 'shape': (2,), }"), std::string::npos);
}

TEST_F(Npy, OtherTypesAreRefused) {
  for (const char* descr :
       {"<u8", "|b1", ">f4", ">i8", "<c8", "<U5", "|O", "<f2", "", "f4", "<i1"}) {
    put(header(descr, "(1,)"), std::string(8, '\0'));
    EXPECT_EQ(code(), ErrorCode::wrong_dtype) << descr;
  }
  put("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", std::string(4, '\0'));
  EXPECT_EQ(code(), ErrorCode::wrong_dtype);
}

TEST_F(Npy, FortranOrderIsRefused) {
  put("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", std::string(16, '\0'));
  EXPECT_EQ(code(), ErrorCode::not_supported);
}

TEST_F(Npy, IntegersBeyondFloat64AreRefused) {
  put(header("<i8", "(1,)"), data_of<std::int64_t>({(std::int64_t{1} << 53) + 1}));
  EXPECT_EQ(code(), ErrorCode::invalid_argument);
}

TEST_F(Npy, ACutAnywhereIsAnError) {
  put(header("<f4", "(4,)"), std::string(16, 'x'));
  const std::string whole = bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put_bytes(whole.substr(0, size));
    EXPECT_EQ(code(), ErrorCode::file_truncated) << size;
  }
  put_bytes(whole + "x");
  EXPECT_EQ(code(), ErrorCode::file_corrupt);
}

TEST_F(Npy, BrokenHeadersAreErrors) {
  EXPECT_EQ(code(), ErrorCode::file_unreadable);
  put_bytes("PK\3\4 a zip file, such as .npz");
  EXPECT_EQ(code(), ErrorCode::file_foreign);
  put(header("<f4", "(1,)"), std::string(4, '\0'), 4);
  EXPECT_EQ(code(), ErrorCode::file_version);
  for (const char* shape : {"(-1,)", "(1", "1", "(1,,)", "(x,)", "(99999999999999999999,)"}) {
    put(header("<f4", shape), std::string(4, '\0'));
    EXPECT_EQ(code(), ErrorCode::file_corrupt) << shape;
  }
  put(header("<f4", "(4611686018427387904, 4611686018427387904)"), std::string(4, '\0'));
  EXPECT_EQ(code(), ErrorCode::file_truncated);
  for (const char* text :
       {"", "{}", "{'descr': '<f4'}", "{'descr': '<f4", "{'shape': (1,), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': None, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x"}) {
    put(text, std::string(4, '\0'));
    EXPECT_EQ(code(), ErrorCode::file_corrupt) << text;
  }
}

}  // namespace
}  // namespace torusml
