// Every field of a file's prefix, of its header and of its JSON sections, with values that do not
// belong there and hashes that are right: an error that names the file, or a file that is as good
// as the first, and never more memory than docs/formats.md says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "artifact/checkpoint_file.h"
#include "artifact/codecs.h"
#include "artifact/sample_model.h"
#include "forge.h"
#include "memory_file.h"
#include "runtime/run_state.h"
#include "seeds.h"
#include "torusml/error.h"

namespace {

// The largest block that was asked for since the last reset.
std::size_t largest_block = 0;

void* counted(std::size_t bytes) {
  largest_block = std::max(largest_block, bytes);
  if (void* block = std::malloc(std::max<std::size_t>(bytes, 1))) return block;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

// The linker puts it in the place of aligned_alloc (--wrap), which buffers call.
extern "C" void* __real_aligned_alloc(std::size_t alignment, std::size_t bytes);
extern "C" void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
  largest_block = std::max(largest_block, bytes);
  return __real_aligned_alloc(alignment, bytes);
}

namespace torusml::fuzz {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
constexpr std::size_t kSizeAt = 12, kHeaderAt = 48;
// What docs/formats.md allows for a compressed section.
constexpr std::uint64_t kMostExpansion = 32768;

struct Kind {
  std::string seed;
  void (*read)(const std::string& bytes);
  std::set<std::string> sections_of_json;
};

void read_secret(const std::string& bytes) {
  const MemoryFile file(bytes);
  // Its scrypt may take what a file asks for, within bounds: it is not what is tested here.
  load_secret_keys(file.path(), [&file]() -> Passphrase {
    throw Error(ErrorCode::wrong_passphrase, "not asked", "file '" + file.path() + "'");
  });
}

void read_checkpoint(const std::string& bytes) {
  static const Circuit circuit = sample_circuit();
  const MemoryFile file(bytes);
  const RunState state = load_checkpoint(file.path(), sample_provenance(), Digest{});
  check_state(state, circuit, {64}, 2, "file '" + file.path() + "'");
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{
      {"model/sample", [](const std::string& b) { model_from_bytes(b); }, {"client", "ranges"}},
      {"client_half/sample", [](const std::string& b) { client_half_from_bytes(b); }, {"client"}},
      {"server_half/sample", [](const std::string& b) { server_half_from_bytes(b); }, {"server"}},
      {"evaluation_keys/sample",
       [](const std::string& b) { evaluation_keys_from_bytes(b); },
       {"key_sets"}},
      {"encrypted_inputs/sample",
       [](const std::string& b) { encrypted_inputs_from_bytes(b); },
       {"tensors"}},
      {"encrypted_outputs/short",
       [](const std::string& b) { encrypted_outputs_from_bytes(b); },
       {"tensors"}},
      {"secret_key/plain", read_secret, {"key_sets"}},
      {"secret_key/sealed", read_secret, {"key_sets"}},
      {"checkpoint/sample", read_checkpoint, {"run"}},
  };
  return all;
}

const std::set<ErrorCode> kRefusals{ErrorCode::file_truncated, ErrorCode::file_foreign,
                                    ErrorCode::file_version,   ErrorCode::file_corrupt,
                                    ErrorCode::file_too_large,
                                    ErrorCode::wrong_model,  // of a checkpoint, as are the next two
                                    ErrorCode::wrong_key,      ErrorCode::invalid_argument};

class Fields : public ::testing::TestWithParam<Kind> {
 protected:
  const Kind& kind() const { return GetParam(); }
  // As put_together compresses it, so that sizes which are wrong for one are wrong for the other.
  const std::string& file() const {
    static const std::map<std::string, std::string> all = [] {
      const std::map<std::string, std::string> written = seeds();
      std::map<std::string, std::string> files;
      for (const Kind& kind : kinds())
        files[kind.seed] = put_together(*take_apart(written.at(kind.seed)));
      return files;
    }();
    return all.at(kind().seed);
  }
  Forged parts() const { return *take_apart(file()); }

  // Reads a file in which this field was changed.
  void change(const std::string& field, const std::string& bytes) {
    SCOPED_TRACE(kind().seed + ": " + field);
    largest_block = 0;
    try {
      kind().read(bytes);
      read_.insert(field);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::wrong_passphrase) {
        read_.insert(field);
      } else {
        EXPECT_TRUE(kRefusals.contains(error.code())) << error.what();
        EXPECT_FALSE(error.message().empty());
        EXPECT_TRUE(error.where().starts_with("file '") ||
                    error.message().starts_with("the checkpoint '/proc/"))
            << error.what();
      }
    } catch (const std::exception& error) {
      ADD_FAILURE() << "no error of ours: " << error.what();
    }
    ++changes_;
    EXPECT_LE(largest_block, limit_);
  }
  void expect_read(const std::set<std::string>& harmless) const {
    for (const std::string& field : read_)
      EXPECT_TRUE(harmless.contains(field)) << kind().seed << ": " << field << " was read";
  }
  bool is_of_model() const {
    return kind().seed.starts_with("model") || kind().seed.find("half") != std::string::npos;
  }
  // By a lie in the header.
  void lie(const std::string& field, const std::function<void(ContainerHeader&)>& change_header) {
    change(field, put_together(parts(), change_header));
  }

  // Fields that may have another of the values that were tried.
  std::set<std::string> read_;
  int changes_ = 0;
  // Beside vectors that grow, everything that is read fits in what the file holds, decompressed.
  std::size_t limit_ = [this] {
    std::size_t bytes = std::size_t{1} << 19;
    for (const std::string& body : parts().bodies) bytes += 2 * body.size();
    return bytes;
  }();
};

TEST_P(Fields, ThatAreRightAreRead) {
  change("nothing", put_together(parts()));
  EXPECT_EQ(read_, std::set<std::string>{"nothing"});
}

TEST_P(Fields, OfThePrefix) {
  for (std::size_t at = 0; at < kHeaderAt; ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string bytes = file();
      if (static_cast<unsigned char>(bytes[at]) == value) continue;
      bytes[at] = static_cast<char>(value);
      if (at < 16) repair_header_hash(bytes);
      change("byte " + std::to_string(at), bytes);
    }
  }
  std::uint32_t size;
  std::memcpy(&size, file().data() + kSizeAt, sizeof size);
  for (const std::uint32_t other : {0u, 1u, size - 1, size + 1, size + 63, size + 64, 1u << 20,
                                    (1u << 20) + 1, 0x7fffffffu, 0xffffffffu}) {
    std::string bytes = file();
    std::memcpy(bytes.data() + kSizeAt, &other, sizeof other);
    repair_header_hash(bytes);
    change("size of the header", bytes);
  }
  // Of the zeros around it, a header may have more or fewer.
  expect_read({"byte 12", "size of the header"});
}

// Offsets, vtables and lengths of FlatBuffers among them.
TEST_P(Fields, BytesOfTheHeader) {
  std::uint32_t size;
  std::memcpy(&size, file().data() + kSizeAt, sizeof size);
  // A raw size may become any that zstd could reach.
  for (const SectionInfo& section : parts().header.sections) {
    if (section.codec == SectionCodec::zstd)
      limit_ = std::max<std::size_t>(limit_, kMostExpansion * section.stored_size);
  }
  for (std::size_t at = kHeaderAt; at < kHeaderAt + size; ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string bytes = file();
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      ASSERT_TRUE(repair_header_hash(bytes));
      change("byte " + std::to_string(at), bytes);
    }
  }
}

TEST_P(Fields, Kind) {
  const auto own = static_cast<int>(parts().header.kind);
  for (const int other : {0, 1, 2, 3, 4, 5, 6, 7, 8, 127, 255}) {
    if (other != own)
      lie("kind", [&](ContainerHeader& header) { header.kind = static_cast<FileKind>(other); });
  }
  EXPECT_EQ(read_, std::set<std::string>{});
}

TEST_P(Fields, Producer) {
  for (const std::string& other :
       {std::string(), std::string(1, '\0'), std::string("\xff\xfe"), std::string(100'000, 'x')})
    lie("producer", [&](ContainerHeader& header) { header.producer = other; });
  EXPECT_EQ(read_, std::set<std::string>{"producer"});
}

TEST_P(Fields, Properties) {
  for (const auto& [key, value] : parts().header.properties) {
    const auto set = [&, key = key](const std::string& other) {
      if (other == parts().header.properties.at(key)) return;
      lie("property " + key, [&](ContainerHeader& header) { header.properties[key] = other; });
    };
    for (const std::string& other : {std::string(),
                                     std::string("0"),
                                     std::string("1"),
                                     std::string("-1"),
                                     std::string("2"),
                                     std::string("9223372036854775808"),
                                     std::string("99999999999999999999999"),
                                     std::string("1e999"),
                                     std::string("nan"),
                                     std::string("inf"),
                                     std::string(" "),
                                     std::string(1, '\0'),
                                     std::string(100'000, 'f'),
                                     std::string(100'000, '\xff'),
                                     value + "0",
                                     value + value,
                                     value + std::string(1, '\0'),
                                     " " + value,
                                     value.substr(0, value.size() - 1),
                                     std::string(value.size(), 'g'),
                                     std::string(value.size(), '0')})
      set(other);
    lie("property " + key + " missing",
        [&](ContainerHeader& header) { header.properties.erase(key); });
    lie("property " + key + " renamed", [&](ContainerHeader& header) {
      auto node = header.properties.extract(key);
      node.key() = key + "x";
      header.properties.insert(std::move(node));
    });
    for (const auto& [other, swapped] : parts().header.properties) {
      if (other > key && swapped != value) {
        lie("properties " + key + " and " + other, [&](ContainerHeader& header) {
          std::swap(header.properties[key], header.properties[other]);
        });
      }
    }
  }
  lie("property too many", [](ContainerHeader& header) { header.properties[""] = "x"; });
  std::set<std::string> harmless{"property too many"};
  if (!is_of_model()) harmless.insert({"property p_error", "property security_bits"});
  // Ids, seeds and costs are numbers like others; a model's own hash is not.
  std::set<std::string> numbers{"key_id",   "mask_seed.0", "salt",         "nonce",
                                "scrypt_r", "scrypt_p",    "scrypt_n_log2"};
  if (kind().seed != "model/sample") numbers.insert("model_hash");
  for (const std::string& number : numbers) {
    harmless.insert("property " + number);
    for (const std::string& other : numbers)
      harmless.insert("properties " + number + " and " + other);
  }
  expect_read(harmless);
}

void set_number(std::uint64_t SectionInfo::*number, const Forged& parts, std::size_t s,
                const std::function<void(std::uint64_t)>& set) {
  const std::uint64_t own = parts.header.sections[s].*number;
  std::set<std::uint64_t> values{0,
                                 1,
                                 63,
                                 64,
                                 own - 1,
                                 own + 1,
                                 own + 64,
                                 own - 64,
                                 2 * own,
                                 own << 32,
                                 std::uint64_t{1} << 20,
                                 std::uint64_t{1} << 30,
                                 (std::uint64_t{1} << 30) + 1,
                                 std::uint64_t{1} << 32,
                                 std::uint64_t{1} << 40,
                                 std::uint64_t{1} << 63,
                                 kHuge - 63,
                                 kHuge - 1,
                                 kHuge};
  for (const SectionInfo& other : parts.header.sections) values.insert(other.*number);
  values.erase(own);
  for (const std::uint64_t value : values) set(value);
}

TEST_P(Fields, OffsetsAndSizesOfSections) {
  const Forged made = parts();
  for (std::size_t s = 0; s < made.bodies.size(); ++s) {
    const std::string name = made.header.sections[s].name;
    const auto try_all = [&](const std::string& what, std::uint64_t SectionInfo::*number) {
      set_number(number, made, s, [&](std::uint64_t value) {
        lie(what + " of " + name, [&](ContainerHeader& header) {
          if (what == "raw size" && header.sections[s].codec == SectionCodec::zstd &&
              value <= kMostExpansion * header.sections[s].stored_size)
            limit_ = std::max<std::size_t>(limit_, 2 * value);
          header.sections[s].*number = value;
        });
      });
    };
    try_all("offset", &SectionInfo::offset);
    try_all("stored size", &SectionInfo::stored_size);
    try_all("raw size", &SectionInfo::raw_size);
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1} << 30, kHuge}) {
      if (size == made.header.sections[s].stored_size) continue;
      lie("both sizes of " + name, [&](ContainerHeader& header) {
        header.sections[s].stored_size = header.sections[s].raw_size = size;
      });
    }
  }
  EXPECT_EQ(read_, std::set<std::string>{});
}

TEST_P(Fields, NamesCodecsAndHashesOfSections) {
  const Forged made = parts();
  const std::size_t count = made.bodies.size();
  for (std::size_t s = 0; s < count; ++s) {
    const std::string name = made.header.sections[s].name;
    const SectionInfo& next = made.header.sections[(s + 1) % count];
    for (const std::string& other :
         {std::string(), std::string(1, '\0'), std::string("x"), std::string("../") + name,
          name + " ", name + std::string(1, '\0'), std::string(100'000, 'x'), std::string("\xff")})
      lie("name of " + name, [&](ContainerHeader& header) { header.sections[s].name = other; });
    for (const int codec : {0, 1, 2, 127, 255}) {
      if (codec == static_cast<int>(made.header.sections[s].codec)) continue;
      if (made.bodies[s].empty() && codec < 2) continue;  // nothing, compressed, is nothing
      lie("codec of " + name, [&](ContainerHeader& header) {
        header.sections[s].codec = static_cast<SectionCodec>(codec);
      });
    }
    for (std::size_t byte = 0; byte < made.header.sections[s].sha256.size(); ++byte) {
      lie("hash of " + name,
          [&](ContainerHeader& header) { header.sections[s].sha256[byte] ^= 0x10; });
    }
    lie("section too many", [&](ContainerHeader& header) { header.sections.push_back(next); });
    Forged more = made, fewer = made;
    more.header.sections.push_back({.name = "x"});
    more.bodies.push_back("");
    change("section too many", put_together(more));
    fewer.header.sections.erase(fewer.header.sections.begin() + static_cast<std::ptrdiff_t>(s));
    fewer.bodies.erase(fewer.bodies.begin() + static_cast<std::ptrdiff_t>(s));
    change("section " + name + " missing", put_together(fewer));
    for (const std::string& body :
         {std::string(), made.bodies[s] + "x", made.bodies[s].substr(made.bodies[s].size() / 2)}) {
      if (body == made.bodies[s]) continue;
      Forged other = made;
      other.bodies[s] = body;
      change("content of " + name, put_together(other));
    }
    if (count == 1) continue;
    lie("name of the next section for " + name,
        [&](ContainerHeader& header) { header.sections[s].name = next.name; });
    if (next.sha256 != made.header.sections[s].sha256) {
      lie("hash of the next section for " + name,
          [&](ContainerHeader& header) { header.sections[s].sha256 = next.sha256; });
    }
    lie("order of sections", [&](ContainerHeader& header) {
      std::swap(header.sections[s], header.sections[(s + 1) % count]);
    });
    if (made.bodies[s] == made.bodies[(s + 1) % count]) continue;
    lie("names of two sections", [&](ContainerHeader& header) {
      std::swap(header.sections[s].name, header.sections[(s + 1) % count].name);
    });
  }
  EXPECT_EQ(read_, std::set<std::string>{});
}

std::vector<Json> wrong_values(const Json& own) {
  std::vector<Json> values{nullptr,
                           true,
                           false,
                           0,
                           1,
                           -1,
                           1.5,
                           -0.0,
                           5e-324,
                           1e308,
                           -1e308,
                           std::numeric_limits<std::int64_t>::max(),
                           std::numeric_limits<std::int64_t>::min(),
                           kHuge,
                           std::int64_t{1} << 31,
                           std::int64_t{1} << 32,
                           "",
                           "text",
                           std::string(100'000, 'a'),
                           Json::array(),
                           Json::object(),
                           Json::array({own}),
                           Json::array({own, own}),
                           Json(std::vector<int>(10'000, 1))};
  if (own.is_number_integer()) {
    values.push_back(own.get<std::int64_t>() + 1);
    values.push_back(own.get<std::int64_t>() - 1);
    values.push_back(-own.get<std::int64_t>());
  }
  if (own.is_array() && !own.empty()) {
    Json longer = own, shorter = own;
    longer.push_back(own.back());
    shorter.erase(shorter.size() - 1);
    values.insert(values.end(), {longer, shorter});
  }
  std::erase(values, own);
  return values;
}

// Pointers to everything in it but the root.
void list_fields(const Json& json, const Json::json_pointer& at,
                 std::vector<Json::json_pointer>& fields) {
  for (const auto& [key, value] : json.items()) {
    const Json::json_pointer here =
        json.is_array() ? at / static_cast<std::size_t>(std::stoul(key)) : at / key;
    fields.push_back(here);
    if (value.is_structured()) list_fields(value, here, fields);
  }
}

// "/inputs/0/shape/1" as "/inputs/*/shape/*".
std::string without_indices(const std::string& pointer) {
  std::string result;
  bool is_index = false;
  for (std::size_t i = 0; i < pointer.size(); ++i) {
    const bool begins = i > 0 && pointer[i - 1] == '/';
    if (begins) is_index = pointer[i] >= '0' && pointer[i] <= '9';
    if (pointer[i] == '/') is_index = false;
    if (is_index && begins) result += '*';
    if (!is_index) result += pointer[i];
  }
  return result;
}

// Facts that a file tells in one place alone may have any value of their type and range; others are
// found out by what is beside them. By the kind of file and its section.
const std::set<std::string>& free_fields(const std::string& section) {
  using Names = std::set<std::string>;
  const auto below = [](const std::string& folder, const Names& names) {
    Names result;
    for (const std::string& name : names) result.insert(folder + name);
    return result;
  };
  const auto all = [](std::initializer_list<Names> parts) {
    Names result;
    for (const Names& part : parts) result.insert(part.begin(), part.end());
    return result;
  };
  const Names quantizer =
      below("/inputs/*/quantizer/",
            {"is_narrow", "is_precomputed_qat", "is_qat", "is_signed", "is_symmetric", "n_bits",
             "offset", "scale", "scale/*", "zero_point", "zero_point/*"});
  // Others are in the header, too.
  const Names options =
      below("/options/", {"global_p_error", "max_exact_bits", "max_key_sets", "tolerance"});
  const Names names{"/inputs/*/name", "/outputs/*/name"};
  const Names decoding = below("/outputs/*/", {"scale/*", "zero_point/*"});
  // Without a circuit and a plan beside them.
  const Names encoding =
      all({below("/inputs",
                 {"", "/*/center", "/*/interval/*", "/*/shape", "/*/shape/*", "/*/torus_scale"}),
           below("/outputs", {"", "/*/center", "/*/interval/*", "/*/shape", "/*/torus_scale"})});
  // What no number of bytes depends on; then what those of a secret key do not.
  const Names gadgets =
      below("/key_sets/*/", {"bootstrap/base_log2", "circuit_bootstrap/base_log2",
                             "keyswitch/base_log2", "small_variance", "trace/base_log2"});
  const Names sizes =
      below("/key_sets/*/", {"bootstrap/level_count", "glwe_variance", "grouping_factor",
                             "keyswitch/level_count", "small_dimension"});
  static const std::map<std::string, Names> fields{
      {"model client", all({quantizer, decoding})},
      {"model ranges", below("/ranges", {"", "/*/bits", "/*/calibrated/*", "/*/declared/*",
                                         "/*/feeds_table", "/*/guaranteed/*", "/*/name"})},
      {"client_half client", all({quantizer,
                                  options,
                                  names,
                                  decoding,
                                  encoding,
                                  gadgets,
                                  sizes,
                                  {"/key_sets/*/glwe_dimension"}})},
      {"server_half server", {}},
      {"evaluation_keys key_sets", gadgets},
      {"secret_key key_sets", all({gadgets, sizes})},
      {"encrypted_inputs tensors", {"/tensors/*/dimension", "/tensors/*/name"}},
      {"encrypted_outputs tensors", {"/tensors/*/name"}},
      {"checkpoint run", {}}};
  return fields.at(section);
}

TEST_P(Fields, OfJson) {
  const Forged made = parts();
  for (std::size_t s = 0; s < made.bodies.size(); ++s) {
    const std::string section = made.header.sections[s].name;
    if (!kind().sections_of_json.contains(section)) continue;
    const Json own = Json::parse(made.bodies[s]);
    const auto put = [&](const std::string& field, const std::string& text) {
      Forged changed = made;
      changed.bodies[s] = text;
      const std::size_t limit = std::exchange(limit_, std::max(limit_, 64 * text.size()));
      change(field, put_together(changed));
      limit_ = limit;
    };
    read_.clear();
    for (const std::string& text :
         {std::string("null"), std::string("[]"), std::string("{}"), std::string("0"),
          std::string("{"), std::string("\"x\""), std::string("\xff"), made.bodies[s] + "}",
          std::string(100'000, '['), std::string(100'000, '{')})
      put("text", text);
    std::vector<Json::json_pointer> fields;
    list_fields(own, Json::json_pointer(), fields);
    EXPECT_GT(fields.size(), 3u);
    for (const Json::json_pointer& field : fields) {
      const std::string name = without_indices(field.to_string());
      for (const Json& value : wrong_values(own.at(field))) {
        Json changed = own;
        changed[field] = value;
        put(name, changed.dump());
      }
      Json fewer = own, renamed = own;
      Json& parent = fewer[field.parent_pointer()];
      if (!parent.is_object()) continue;
      parent.erase(field.back());
      put(name + " missing", fewer.dump());
      renamed[field.parent_pointer()].erase(field.back());
      renamed[field.parent_pointer()][field.back() + "x"] = own.at(field);
      put(name + " renamed", renamed.dump());
    }
    const std::string of_kind = kind().seed.substr(0, kind().seed.find('/')) + " " + section;
    EXPECT_EQ(read_, free_fields(of_kind)) << of_kind;
  }
  EXPECT_GT(changes_, 100);
}

INSTANTIATE_TEST_SUITE_P(Files, Fields, ::testing::ValuesIn(kinds()), [](const auto& info) {
  std::string name = info.param.seed;
  std::ranges::replace(name, '/', '_');
  return name;
});

}  // namespace
}  // namespace torusml::fuzz
