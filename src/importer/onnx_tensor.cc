#include "importer/onnx_tensor.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>

#include "torusml/error.h"

namespace torusml {
namespace fs = std::filesystem;
namespace {

std::string quoted(const OnnxTensor& tensor) { return fmt::format("tensor '{}'", tensor.name); }

[[noreturn]] void throw_size(const OnnxTensor& tensor, std::size_t has, std::uint64_t needs,
                             const char* unit) {
  throw Error(ErrorCode::invalid_model,
              fmt::format("its data has {} {}, but its shape {} of {} needs {}", has, unit,
                          to_string(tensor.dims), onnx_type_name(tensor.data_type), needs),
              quoted(tensor));
}

// Of raw data. Error invalid_model beyond 64 bits.
std::uint64_t stored_bytes(const OnnxTensor& tensor, std::uint64_t count) {
  const auto bits = static_cast<std::uint64_t>(onnx_type_bits(tensor.data_type));
  std::uint64_t total = 0;
  if (__builtin_mul_overflow(count, bits, &total) || total > UINT64_MAX - 7)
    throw_size(tensor, tensor.raw_data ? tensor.raw_data->size() : 0, UINT64_MAX, "bytes");
  return (total + 7) / 8;
}

// Integers pass through float64. The huge ones that exporters write stand for "until the end" and
// may be rounded; others must be exact.
double exact_double(std::int64_t value) {
  const auto result = static_cast<double>(value);
  constexpr std::int64_t kSentinel = std::int64_t{1} << 62;
  const bool is_sentinel = value >= kSentinel || value <= -kSentinel;
  if (!is_sentinel && static_cast<std::int64_t>(result) != value) {
    throw Error(ErrorCode::not_supported, fmt::format("integer {} needs more than 53 bits", value));
  }
  return result;
}

double exact_double(std::uint64_t value) {
  if (value > (std::uint64_t{1} << 53)) {
    throw Error(ErrorCode::not_supported, fmt::format("integer {} needs more than 53 bits", value));
  }
  return static_cast<double>(value);
}

template <class T>
double as_double(T value) {
  if constexpr (std::is_integral_v<T> && sizeof(T) == 8) {
    return exact_double(value);
  } else {
    return static_cast<double>(value);
  }
}

// ONNX stores little-endian, as do all machines that this library runs on.
template <class T>
std::vector<double> decode_raw(const char* bytes, std::size_t count) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
    values[i] = as_double(value);
  }
  return values;
}

// Elements of less than a byte: the first one in the lowest bits. What is left of the last byte
// does not count.
std::vector<double> decode_packed(OnnxType type, const char* bytes, std::size_t count) {
  const int bits = onnx_type_bits(static_cast<int>(type));
  const unsigned values = 1u << bits, in_a_byte = 8u / static_cast<unsigned>(bits);
  const bool is_signed = onnx_integer_range(static_cast<int>(type))->minimum < 0;
  std::vector<double> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i / in_a_byte]);
    const unsigned shift = static_cast<unsigned>(i % in_a_byte) * static_cast<unsigned>(bits);
    const unsigned value = byte >> shift & (values - 1);
    result[i] = static_cast<double>(value) - (is_signed && value >= values / 2 ? values : 0.0);
  }
  return result;
}

std::vector<double> decode_raw(OnnxType type, const char* bytes, std::size_t count) {
  switch (type) {
    case OnnxType::float32:
      return decode_raw<float>(bytes, count);
    case OnnxType::float64:
      return decode_raw<double>(bytes, count);
    case OnnxType::float16:
      return decode_raw<Eigen::half>(bytes, count);
    case OnnxType::bfloat16:
      return decode_raw<Eigen::bfloat16>(bytes, count);
    case OnnxType::int8:
      return decode_raw<std::int8_t>(bytes, count);
    case OnnxType::uint8:
      return decode_raw<std::uint8_t>(bytes, count);
    case OnnxType::boolean:
      return decode_raw<std::uint8_t>(bytes, count);
    case OnnxType::int16:
      return decode_raw<std::int16_t>(bytes, count);
    case OnnxType::uint16:
      return decode_raw<std::uint16_t>(bytes, count);
    case OnnxType::int32:
      return decode_raw<std::int32_t>(bytes, count);
    case OnnxType::uint32:
      return decode_raw<std::uint32_t>(bytes, count);
    case OnnxType::int64:
      return decode_raw<std::int64_t>(bytes, count);
    case OnnxType::uint64:
      return decode_raw<std::uint64_t>(bytes, count);
    case OnnxType::uint4:
    case OnnxType::int4:
    case OnnxType::uint2:
    case OnnxType::int2:
      return decode_packed(type, bytes, count);
    default:
      throw Error(ErrorCode::internal, "data type without a decoder");
  }
}

template <class T>
std::vector<double> convert(const std::vector<T>& from) {
  std::vector<double> values;
  values.reserve(from.size());
  for (T value : from) values.push_back(as_double(value));
  return values;
}

// Of packed elements a typed field holds the bytes.
std::vector<double> decode_packed(OnnxType type, const OnnxTensor& tensor, std::size_t count) {
  std::string bytes;
  for (const std::int64_t byte : tensor.int_data) {
    if (byte < -128 || byte > 255) {
      throw Error(ErrorCode::invalid_model, fmt::format("{} is no byte of packed elements", byte),
                  quoted(tensor));
    }
    bytes.push_back(static_cast<char>(byte));
  }
  if (bytes.size() != stored_bytes(tensor, count))
    throw_size(tensor, bytes.size(), stored_bytes(tensor, count), "bytes");
  return decode_packed(type, bytes.data(), count);
}

// Typed fields: 16-bit floats travel as their bits in int32_data.
std::vector<double> decode_typed(OnnxType type, const OnnxTensor& tensor, std::size_t count) {
  switch (type) {
    case OnnxType::float32:
      return convert(tensor.float_data);
    case OnnxType::float64:
      return convert(tensor.double_data);
    case OnnxType::uint32:
    case OnnxType::uint64:
      return convert(tensor.uint64_data);
    case OnnxType::float16:
    case OnnxType::bfloat16: {
      std::vector<double> values;
      for (std::int64_t bits : tensor.int_data) {
        const auto half = static_cast<std::uint16_t>(bits);
        const char* bytes = reinterpret_cast<const char*>(&half);
        values.push_back(decode_raw(type, bytes, 1).front());
      }
      return values;
    }
    case OnnxType::uint4:
    case OnnxType::int4:
    case OnnxType::uint2:
    case OnnxType::int2:
      return decode_packed(type, tensor, count);
    default:
      return convert(tensor.int_data);
  }
}

void check_integers(const std::vector<double>& values, const OnnxTensor& tensor) {
  const auto range = onnx_integer_range(tensor.data_type);
  if (!range) return;
  for (double value : values) {
    if (value < range->minimum || value > range->maximum) {
      throw Error(ErrorCode::invalid_model,
                  fmt::format("value {} is out of the range of {}", value,
                              onnx_type_name(tensor.data_type)),
                  quoted(tensor));
    }
  }
}

std::uint64_t parse_number(const std::string& text, const std::string& key,
                           const OnnxTensor& tensor) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) {
    throw Error(ErrorCode::invalid_model,
                fmt::format("external data has {} '{}', which is no size", key, text),
                quoted(tensor));
  }
  return value;
}

std::vector<char> read_external(const OnnxTensor& tensor, std::uint64_t bytes,
                                const ExternalFiles& files) {
  std::string location;
  std::uint64_t offset = 0, length = bytes;
  for (const auto& [key, value] : tensor.external_data) {
    if (key == "location") location = value;
    if (key == "offset") offset = parse_number(value, key, tensor);
    if (key == "length") length = parse_number(value, key, tensor);
  }
  if (length != bytes) {
    throw Error(ErrorCode::invalid_model,
                fmt::format("external data has {} bytes, but its shape needs {}", length, bytes),
                quoted(tensor));
  }
  return files.read(location, offset, bytes, tensor.name);
}

std::int64_t count_elements(const OnnxTensor& tensor) {
  try {
    return number_of_elements(tensor.dims);
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_model, error.message(), quoted(tensor));
  }
}

std::vector<double> read_values(const OnnxTensor& tensor, const ExternalFiles& files) {
  const auto type = static_cast<OnnxType>(tensor.data_type);
  const std::int64_t count = count_elements(tensor);
  const std::uint64_t bytes = stored_bytes(tensor, static_cast<std::uint64_t>(count));
  if (tensor.is_external) {
    const std::vector<char> data = read_external(tensor, bytes, files);
    return decode_raw(type, data.data(), count);
  }
  if (tensor.raw_data) {
    if (tensor.raw_data->size() != bytes)
      throw_size(tensor, tensor.raw_data->size(), bytes, "bytes");
    return decode_raw(type, tensor.raw_data->data(), count);
  }
  std::vector<double> values = decode_typed(type, tensor, static_cast<std::size_t>(count));
  if (values.size() != static_cast<std::uint64_t>(count)) {
    throw_size(tensor, values.size(), count, "values");
  }
  return values;
}

}  // namespace

std::vector<char> read_file(const fs::path& path, const std::string& name) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    const bool exists = fs::exists(path, ignored);
    throw Error(ErrorCode::file_unreadable, exists ? "this is not a file" : "there is no such file",
                name);
  }
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes;
  const std::uintmax_t size = fs::file_size(path, ignored);
  if (file && !ignored) {
    bytes.resize(size);
    file.read(bytes.data(), static_cast<std::streamsize>(size));
  }
  if (!file || ignored) throw Error(ErrorCode::file_unreadable, "the file cannot be read", name);
  return bytes;
}

ExternalFiles::ExternalFiles(const fs::path& model) : allowed_(true) {
  std::error_code error;
  const fs::path parent = model.parent_path();
  folder_ = fs::canonical(parent.empty() ? fs::path(".") : parent, error);
  if (error) allowed_ = false;
}

fs::path ExternalFiles::resolve(const std::string& location, const std::string& tensor) const {
  const auto outside = [&](const char* why) {
    return Error(ErrorCode::path_outside_model_folder,
                 fmt::format("external data lies in '{}': {}", location, why),
                 fmt::format("tensor '{}'", tensor), "put the file beside the model");
  };
  if (!allowed_) throw outside("a model that is not read from a file may have no external data");
  const fs::path path(location);
  if (location.empty()) throw outside("no file name");
  if (path.is_absolute()) throw outside("the path is absolute");
  for (const fs::path& part : path) {
    if (part == "..") throw outside("the path leaves the model's folder");
  }
  std::error_code error;
  const fs::path resolved = fs::canonical(folder_ / path, error);
  if (error) {
    throw Error(ErrorCode::file_unreadable,
                fmt::format("external data '{}' cannot be found", location),
                fmt::format("tensor '{}'", tensor), "put the file beside the model");
  }
  const auto [end, unused] =
      std::mismatch(folder_.begin(), folder_.end(), resolved.begin(), resolved.end());
  if (end != folder_.end()) throw outside("a link leads out of the model's folder");
  return resolved;
}

std::vector<char> ExternalFiles::read(const std::string& location, std::uint64_t offset,
                                      std::uint64_t size, const std::string& tensor) const {
  const fs::path path = resolve(location, tensor);
  const std::string where = fmt::format("tensor '{}', external data '{}'", tensor, location);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    throw Error(ErrorCode::file_unreadable, "this is not a file", where);
  }
  const std::uintmax_t total = fs::file_size(path, error);
  if (error) throw Error(ErrorCode::file_unreadable, "the file cannot be read", where);
  if (offset > total || size > total - offset) {
    throw Error(
        ErrorCode::file_truncated,
        fmt::format("{} bytes at offset {} are needed, but the file has {}", size, offset, total),
        where);
  }
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes(size);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!file) throw Error(ErrorCode::file_unreadable, "the file cannot be read", where);
  return bytes;
}

FloatTensor read_tensor(const OnnxTensor& tensor, const ExternalFiles& files) {
  const std::optional<ElementType> type = onnx_element_type(tensor.data_type);
  if (!type || tensor.has_string_data) {
    throw Error(
        ErrorCode::not_supported,
        fmt::format("values of type {} are not supported", onnx_type_name(tensor.data_type)),
        quoted(tensor));
  }
  FloatTensor result{*type, {tensor.dims, read_values(tensor, files)}};
  check_integers(result.values.data, tensor);
  if (*type == ElementType::boolean) {
    for (double& value : result.values.data) value = value != 0;
  }
  return result;
}

}  // namespace torusml
