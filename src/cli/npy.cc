#include "cli/npy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "artifact/files.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 16;
constexpr std::size_t kMaxRank = 32;
constexpr std::size_t kAlignment = 64;
constexpr std::int64_t kLargestExactInteger = std::int64_t{1} << 53;

struct Header {
  std::string descr;
  bool fortran_order = false;
  Shape shape;
};

// The header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Header run() {
    Header header;
    take("{");
    int keys = 0;
    while (!try_take("}")) {
      const std::string key = string();
      take(":");
      if (key == "descr")
        header.descr = descr();
      else if (key == "fortran_order")
        header.fortran_order = boolean();
      else if (key == "shape")
        header.shape = shape();
      else
        fail(fmt::format("its header has the unknown field '{}'", key));
      ++keys;
      if (!try_take(",")) {
        take("}");
        break;
      }
    }
    skip_space();
    if (keys != 3 || at_ != text_.size()) fail("its header is not well formed");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::file_corrupt, what, where_);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool try_take(std::string_view token) {
    skip_space();
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  void take(std::string_view token) {
    if (!try_take(token)) fail(fmt::format("its header lacks a '{}'", token));
  }
  std::string string() {
    const char quote = try_take("\"") ? '"' : '\'';
    if (quote == '\'') take("'");
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) fail("a string of its header does not end");
    std::string value(text_.substr(at_, end - at_));
    at_ = end + 1;
    return value;
  }
  std::string descr() {
    skip_space();
    if (text_.substr(at_).starts_with('['))
      throw Error(ErrorCode::wrong_dtype, "it holds records, numbers are expected", where_);
    return string();
  }
  bool boolean() {
    if (try_take("True")) return true;
    take("False");
    return false;
  }
  Shape shape() {
    Shape result;
    take("(");
    while (!try_take(")")) {
      result.push_back(dimension());
      if (result.size() > kMaxRank) fail("it has too many dimensions");
      if (!try_take(",")) {
        take(")");
        break;
      }
    }
    return result;
  }
  std::int64_t dimension() {
    skip_space();
    std::int64_t value = -1;
    const auto [end, error] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) fail("its shape is not one");
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }

  std::string_view text_;
  const std::string& where_;
  std::size_t at_ = 0;
};

template <class Number>
std::vector<double> convert(const std::vector<std::uint8_t>& bytes, const std::string& where) {
  std::vector<double> values(bytes.size() / sizeof(Number));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Number number;
    std::memcpy(&number, bytes.data() + i * sizeof(Number), sizeof(Number));
    values[i] = static_cast<double>(number);
    if constexpr (std::is_same_v<Number, std::int64_t>) {
      if (number > kLargestExactInteger || number < -kLargestExactInteger) {
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("element {} is {}, more than 2^53", i, number), where);
      }
    }
  }
  return values;
}

using Converter = std::vector<double> (*)(const std::vector<std::uint8_t>&, const std::string&);

struct DataType {
  std::string_view descr;  // without byte order
  std::size_t bytes;
  Converter convert;
};

constexpr DataType kDataTypes[] = {
    {"f4", 4, convert<float>},         {"f8", 8, convert<double>},
    {"i1", 1, convert<std::int8_t>},   {"i2", 2, convert<std::int16_t>},
    {"i4", 4, convert<std::int32_t>},  {"i8", 8, convert<std::int64_t>},
    {"u1", 1, convert<std::uint8_t>},  {"u2", 2, convert<std::uint16_t>},
    {"u4", 4, convert<std::uint32_t>},
};

const DataType& data_type(const std::string& descr, const std::string& where) {
  const std::string_view name =
      descr.empty() ? std::string_view() : std::string_view(descr).substr(1);
  for (const DataType& type : kDataTypes) {
    const char order = type.bytes == 1 ? '|' : '<';
    if (type.descr == name && descr[0] == order) return type;
  }
  throw Error(
      ErrorCode::wrong_dtype,
      fmt::format("its dtype is '{}'; little-endian floats of 4 and 8 bytes, signed integers "
                  "of 1 to 8 and unsigned ones of 1 to 4 bytes are read",
                  descr),
      where, "x.astype('<f4')");
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;)
    value = value << 8 | static_cast<std::uint8_t>(bytes[i]);
  return value;
}

std::string read_part(const FileSource& file, std::uint64_t offset, std::size_t size,
                      const std::string& where) {
  if (offset + size > file.size()) {
    throw Error(ErrorCode::file_truncated,
                fmt::format("it has {} bytes, its header takes {}", file.size(), offset + size),
                where);
  }
  std::string part(size, '\0');
  file.read(offset, {reinterpret_cast<std::uint8_t*>(part.data()), size});
  return part;
}

// Elements of a shape whose data fit into a file; nullopt beyond.
std::optional<std::uint64_t> bounded_elements(const Shape& shape, std::uint64_t limit) {
  std::uint64_t count = 1;
  for (std::int64_t dimension : shape) {
    if (dimension == 0) return 0;
    if (count > limit / static_cast<std::uint64_t>(dimension)) return std::nullopt;
    count *= static_cast<std::uint64_t>(dimension);
  }
  return count;
}

void check_size(const Header& header, const DataType& type, std::uint64_t available,
                const std::string& where) {
  const auto elements = bounded_elements(header.shape, available / type.bytes);
  if (!elements) {
    throw Error(ErrorCode::file_truncated,
                fmt::format("its {} bytes of data do not fill the shape {}", available,
                            to_string(header.shape)),
                where);
  }
  if (*elements * type.bytes != available) {
    throw Error(ErrorCode::file_corrupt,
                fmt::format("its {} bytes of data are not those of the shape {}", available,
                            to_string(header.shape)),
                where);
  }
}

std::string header_text(std::string_view descr, const Shape& shape) {
  const std::string dimensions =
      shape.size() == 1 ? fmt::format("({},)", shape[0]) : to_string(shape);
  std::string text =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr, dimensions);
  const std::size_t prefix = kMagic.size() + 4;
  const std::size_t total = (prefix + text.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  text.resize(total - prefix - 1, ' ');
  return text + '\n';
}

template <class Number>
void write(const std::string& path, std::string_view descr, const Tensor<Number>& tensor) {
  const std::string header = header_text(descr, tensor.shape);
  OutputFile file(path, {});
  file.write(kMagic);
  file.write(std::string_view("\x01\x00", 2));
  const char size[2] = {static_cast<char>(header.size() & 0xff),
                        static_cast<char>(header.size() >> 8)};
  file.write(std::string_view(size, 2));
  file.write(header);
  file.write(std::string_view(reinterpret_cast<const char*>(tensor.data.data()),
                              tensor.data.size() * sizeof(Number)));
  file.commit();
}

}  // namespace

Tensor<double> read_npy(const std::string& path) {
  const FileSource file(path);
  const std::string where = fmt::format("file '{}'", path);
  const std::string magic = read_part(
      file, 0, static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kMagic.size())),
      where);
  if (!kMagic.starts_with(magic))
    throw Error(ErrorCode::file_foreign, "it is not a .npy file", where);
  const std::string version = read_part(file, kMagic.size(), 2, where);
  if (version[0] < 1 || version[0] > 3) {
    throw Error(
        ErrorCode::file_version,
        fmt::format("it has .npy version {}, 1 to 3 are read", static_cast<int>(version[0])),
        where);
  }
  const std::size_t length_bytes = version[0] == 1 ? 2 : 4;
  const std::uint64_t header_size =
      little_endian(read_part(file, kMagic.size() + 2, length_bytes, where));
  if (header_size > kMaxHeaderBytes)
    throw Error(ErrorCode::file_corrupt, fmt::format("its header has {} bytes", header_size),
                where);
  const std::uint64_t header_at = kMagic.size() + 2 + length_bytes;
  const Header header =
      HeaderParser(read_part(file, header_at, static_cast<std::size_t>(header_size), where), where)
          .run();
  const DataType& type = data_type(header.descr, where);
  if (header.fortran_order) {
    throw Error(ErrorCode::not_supported, "its array has Fortran order", where,
                "np.save(path, np.ascontiguousarray(x))");
  }
  const std::uint64_t data_at = header_at + header_size;
  check_size(header, type, file.size() - data_at, where);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(file.size() - data_at));
  file.read(data_at, bytes);
  return {header.shape, type.convert(bytes, where)};
}

void write_npy(const std::string& path, const Tensor<double>& tensor) {
  write(path, "<f8", tensor);
}

void write_npy(const std::string& path, const Tensor<std::int64_t>& tensor) {
  write(path, "<i8", tensor);
}

}  // namespace torusml
