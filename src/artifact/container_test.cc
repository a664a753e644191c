#include "artifact/container.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "torusml/error.h"

namespace torusml {
namespace {

namespace fs = std::filesystem;

const std::set<ErrorCode> kFileErrors{ErrorCode::file_truncated, ErrorCode::file_foreign,
                                      ErrorCode::file_version, ErrorCode::file_corrupt};

const std::string kText = "circuit text, circuit text, circuit text, circuit text";
const std::vector<std::uint8_t> kBlob{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

std::string small_file(FileKind kind = FileKind::model) {
  ContainerWriter writer(kind);
  writer.set("profile", "private_results");
  writer.add_text("text", kText);
  writer.add_view("blob", kBlob);
  writer.add_view("empty", {});
  return writer.to_bytes();
}

// Reads everything.
void read_all(const std::string& bytes) {
  const MemorySource source(bytes, "test");
  const ContainerReader reader(source, {FileKind::model});
  reader.expect_sections({"text", "blob", "empty"});
  EXPECT_EQ(reader.read_text("text", 1000), kText);
  std::vector<std::uint8_t> blob(reader.raw_size("blob"));
  reader.read("blob", blob);
  EXPECT_EQ(blob, kBlob);
  reader.read("empty", {});
  reader.verify_all();
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::internal;
}

class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(fs::temp_directory_path() / ("torusml_container_" + std::to_string(getpid()))) {
    fs::create_directories(path_);
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), {}));
  }

 private:
  fs::path path_;
};

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Container, ReadsBackWhatWasWritten) {
  const std::string bytes = small_file();
  read_all(bytes);
  const MemorySource source(bytes, "test");
  const ContainerReader reader(source, {});
  EXPECT_EQ(reader.kind(), FileKind::model);
  EXPECT_EQ(reader.property("profile"), "private_results");
  EXPECT_TRUE(reader.producer().starts_with("torusml "));
  EXPECT_EQ(code_of([&] { reader.property("absent"); }), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of([&] { reader.raw_size("absent"); }), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of([&] { reader.expect_sections({"text", "blob"}); }), ErrorCode::file_corrupt);
  EXPECT_EQ(code_of([&] { reader.read_text("text", 10); }), ErrorCode::file_corrupt);
}

TEST(Container, SectionsAreAligned) {
  const std::string bytes = small_file();
  const MemorySource source(bytes, "test");
  const ContainerReader reader(source, {});
  const std::string blob(kBlob.begin(), kBlob.end());
  EXPECT_EQ(bytes.find(blob) % 64, 0u);
}

TEST(Container, IsReproducible) { EXPECT_EQ(small_file(), small_file()); }

TEST(Container, ACutAtAnyByteIsAnError) {
  const std::string bytes = small_file();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(code_of([&] { read_all(bytes.substr(0, size)); }), ErrorCode::file_truncated)
        << "cut at " << size;
  }
  EXPECT_EQ(code_of([&] { read_all(bytes + '\0'); }), ErrorCode::file_corrupt);
}

TEST(Container, AnyFlippedByteIsAnError) {
  const std::string bytes = small_file();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      EXPECT_TRUE(kFileErrors.contains(code_of([&] { read_all(changed); }))) << "byte " << at;
    }
  }
}

TEST(Container, CorruptSectionsAreNamed) {
  std::string bytes = small_file();
  bytes[bytes.find(std::string(kBlob.begin(), kBlob.end()))] ^= 1;
  try {
    read_all(bytes);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::file_corrupt);
    EXPECT_NE(error.message().find("'blob'"), std::string::npos) << error.what();
    EXPECT_NE(error.where().find("'test'"), std::string::npos) << error.what();
  }
}

TEST(Container, ForeignFilesAndOtherKindsAreTold) {
  EXPECT_EQ(code_of([] { read_all("PK\3\4 and so on"); }), ErrorCode::file_foreign);
  EXPECT_EQ(code_of([] { read_all(std::string(1000, '\0')); }), ErrorCode::file_foreign);
  try {
    read_all(small_file(FileKind::ciphertext));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::file_foreign);
    EXPECT_NE(error.message().find("'ciphertext'; kind 'model' is"), std::string::npos);
  }
}

TEST(Container, AnotherVersionIsTold) {
  for (const char version : {1, 2, 3, 4, 7}) {
    std::string bytes = small_file();
    bytes[8] = version;
    EXPECT_EQ(code_of([&] { read_all(bytes); }), ErrorCode::file_version);
  }
}

// A header whose hash is right but whose content lies: what a hostile writer would make.
std::string file_with_header(const ContainerHeader& header, const std::string& rest) {
  const std::vector<std::uint8_t> body = encode_header(header);
  std::string bytes = small_file().substr(0, 12);
  const auto size = static_cast<std::uint32_t>(body.size());
  bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
  Sha256 hash;
  hash.update(bytes);
  hash.update(body);
  const Digest digest = hash.finish();
  bytes.append(digest.begin(), digest.end());
  bytes.append(body.begin(), body.end());
  bytes.resize((bytes.size() + 63) / 64 * 64);
  return bytes + rest;
}

ErrorCode open_code(const ContainerHeader& header, const std::string& rest) {
  const std::string bytes = file_with_header(header, rest);
  const MemorySource source(bytes, "test");
  return code_of([&] { ContainerReader(source, {FileKind::model}).verify_all(); });
}

TEST(Container, LyingHeadersAreRefusedBeforeAllocation) {
  const std::string rest(100, 'x');
  ContainerHeader header;
  header.producer = "test";
  header.sections = {{.name = "a", .stored_size = 100, .raw_size = 100}};
  EXPECT_EQ(open_code(header, rest), ErrorCode::file_corrupt);  // the section's hash
  header.sections[0].stored_size = header.sections[0].raw_size = UINT64_MAX;
  EXPECT_EQ(open_code(header, rest), ErrorCode::file_truncated);
  header.sections[0].stored_size = 100;
  EXPECT_EQ(open_code(header, rest), ErrorCode::file_corrupt);  // sizes differ without a codec
  header.sections[0].codec = SectionCodec::zstd;
  EXPECT_EQ(open_code(header, rest), ErrorCode::file_corrupt);  // a bomb
  header.sections[0].offset = UINT64_MAX - 50;
  EXPECT_EQ(open_code(header, rest), ErrorCode::file_corrupt);
  header.sections = {{.name = "a", .stored_size = 100, .raw_size = 100},
                     {.name = "a", .offset = 128, .stored_size = 1, .raw_size = 1}};
  EXPECT_EQ(open_code(header, rest), ErrorCode::file_corrupt);
  header.sections = {{.name = "a", .codec = static_cast<SectionCodec>(7)}};
  EXPECT_EQ(open_code(header, ""), ErrorCode::file_corrupt);
  header.sections.clear();
  header.kind = static_cast<FileKind>(9);
  EXPECT_EQ(open_code(header, ""), ErrorCode::file_corrupt);
}

// Header bytes as a hostile writer could choose them: whatever they are, no crash and no other
// error.
TEST(Container, HostileHeadersNeverCrash) {
  const std::string bytes = small_file();
  std::uint32_t size;
  std::memcpy(&size, bytes.data() + 12, sizeof size);
  for (std::size_t at = 48; at < 48 + size; ++at) {
    for (const int value : {0, 1, 0x7f, 0x80, 0xff}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(value);
      Sha256 hash;
      hash.update(changed.substr(0, 16));
      hash.update(changed.substr(48, size));
      const Digest digest = hash.finish();
      std::copy(digest.begin(), digest.end(), changed.begin() + 16);
      try {
        const MemorySource source(changed, "test");
        ContainerReader(source, {}).verify_all();
      } catch (const Error& error) {
        EXPECT_TRUE(kFileErrors.contains(error.code())) << error.what();
      }
    }
  }
}

TEST(Container, ADecompressedSizeOtherThanAnnouncedIsAnError) {
  ContainerWriter writer(FileKind::model);
  writer.add_text("text", std::string(1000, 'a'));
  const std::string bytes = writer.to_bytes();
  const MemorySource source(bytes, "test");
  const ContainerReader reader(source, {FileKind::model});
  ContainerHeader header;
  header.producer = "test";
  header.sections = reader.sections();
  const std::size_t stored = static_cast<std::size_t>(header.sections[0].stored_size);
  for (const std::uint64_t raw_size : {999, 1001, 0}) {
    header.sections[0].raw_size = raw_size;
    const std::string lying = file_with_header(header, bytes.substr(bytes.size() - stored));
    const MemorySource lying_source(lying, "test");
    const ContainerReader lying_reader(lying_source, {FileKind::model});
    EXPECT_EQ(code_of([&] { lying_reader.read_text("text", 10000); }), ErrorCode::file_corrupt);
  }
}

TEST(Files, AreWrittenWholeAndReadBack) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.tml");
  ContainerWriter writer(FileKind::model);
  writer.add_view("blob", kBlob);
  writer.to_file(path);
  writer.to_file(path);
  EXPECT_EQ(folder.entries(), 1u);
  const FileSource source(path);
  const ContainerReader reader(source, {FileKind::model});
  std::vector<std::uint8_t> blob(reader.raw_size("blob"));
  reader.read("blob", blob);
  EXPECT_EQ(blob, kBlob);
}

TEST(Files, SecretKeysHaveMode0600AndAreKept) {
  const TemporaryFolder folder;
  const std::string path = folder.file("client.key");
  const mode_t old = umask(0);
  ContainerWriter writer(FileKind::secret_key);
  SecretBuffer<std::uint8_t> secret(5);
  writer.add_secret("secret", std::move(secret));
  writer.to_file(path, false);
  umask(old);
  struct stat status;
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(code_of([&] { writer.to_file(path, false); }), ErrorCode::file_unwritable);
  writer.to_file(path, true);
  EXPECT_EQ(folder.entries(), 1u);
  EXPECT_EQ(code_of([&] { writer.to_bytes(); }), ErrorCode::internal);
}

TEST(Files, AnExistingFileIsNotReplacedEvenIfItAppearsLate) {
  const TemporaryFolder folder;
  const std::string path = folder.file("client.key");
  OutputFile file(path, {.secret = true, .replace = false});
  write_file(path, "made meanwhile");
  EXPECT_EQ(code_of([&] { file.commit(); }), ErrorCode::file_unwritable);
  EXPECT_EQ(fs::file_size(path), std::strlen("made meanwhile"));
}

TEST(Files, WithoutCommitNothingIsLeft) {
  const TemporaryFolder folder;
  {
    OutputFile file(folder.file("a"), {});
    file.write("half");
    EXPECT_EQ(folder.entries(), 1u);
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(Files, BadPathsAreErrors) {
  const TemporaryFolder folder;
  EXPECT_EQ(code_of([&] { FileSource{folder.file("absent")}; }), ErrorCode::file_unreadable);
  EXPECT_EQ(code_of([&] { FileSource{folder.file("")}; }), ErrorCode::file_unreadable);
  EXPECT_EQ(code_of([&] { OutputFile{folder.file("no/folder"), {}}; }), ErrorCode::file_unwritable);
  EXPECT_EQ(code_of([&] { OutputFile{folder.file(""), {}}; }), ErrorCode::file_unwritable);
}

TEST(Hash, MatchesPublishedVectors) {
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(short_hex(sha256({})), "e3b0c44298fc");
}

TEST(Hash, HexIsReadStrictly) {
  std::array<std::uint8_t, 2> bytes;
  EXPECT_TRUE(from_hex("0aff", bytes));
  EXPECT_EQ(bytes[0], 10);
  EXPECT_EQ(bytes[1], 255);
  for (const char* text : {"", "0af", "0aff0", "0AFF", "0xff", "0a f"})
    EXPECT_FALSE(from_hex(text, bytes)) << text;
}

}  // namespace
}  // namespace torusml
