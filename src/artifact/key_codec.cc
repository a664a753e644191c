#include <fmt/format.h>

#include <bit>
#include <set>

#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/provenance.h"

namespace torusml {
namespace {

constexpr std::size_t kByteBits = 8;

template <class Word>
std::span<const std::uint8_t> byte_view(const std::vector<Word>& words) {
  return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size() * sizeof(Word)};
}

// Bit i of a key goes to bit i % 8 of byte i / 8.
SecretBuffer<std::uint8_t> pack(const SecretBuffer<std::uint64_t>& bits) {
  SecretBuffer<std::uint8_t> packed((bits.size() + kByteBits - 1) / kByteBits);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    packed[i / kByteBits] =
        static_cast<std::uint8_t>(packed[i / kByteBits] | (bits[i] & 1) << (i % kByteBits));
  }
  return packed;
}

SecretBuffer<std::uint64_t> read_bits(const ContainerReader& reader, const std::string& section,
                                      std::size_t count) {
  SecretBuffer<std::uint8_t> packed((count + kByteBits - 1) / kByteBits);
  reader.read_words(section, std::span<std::uint8_t>(packed));
  SecretBuffer<std::uint64_t> bits(count);
  for (std::size_t i = 0; i < count; ++i) bits[i] = packed[i / kByteBits] >> (i % kByteBits) & 1;
  for (std::size_t i = count; i < packed.size() * kByteBits; ++i) {
    if ((packed[i / kByteBits] >> (i % kByteBits) & 1) != 0)
      reader.corrupt(section, "bits follow the key");
  }
  return bits;
}

std::string key_sets_text(const std::vector<TfheParameters>& key_sets) {
  return json_text({{"key_sets", key_sets_json(key_sets)}});
}

std::vector<TfheParameters> read_key_sets(const ContainerReader& reader) {
  return JsonSection(reader, "key_sets").key_sets();
}

// Sections and properties of one key set.
std::string numbered(const char* name, std::size_t index) {
  return fmt::format("{}.{}", name, index);
}

ContainerWriter make_writer(const SecretKeySet& keys) {
  ContainerWriter writer(FileKind::secret_key);
  set_provenance(writer, keys.provenance);
  writer.add_text("key_sets", key_sets_text(keys.key_sets));
  writer.add_secret("big", pack(keys.keys.big));
  return writer;
}

ContainerWriter make_writer(const EvaluationKeySet& keys) {
  ContainerWriter writer(FileKind::evaluation_keys);
  set_provenance(writer, keys.provenance);
  writer.add_text("key_sets", key_sets_text(parameters_of(keys.keys)));
  for (std::size_t i = 0; i < keys.keys.size(); ++i) {
    const SeededEvaluationKeys& set = keys.keys[i];
    writer.set(numbered("mask_seed", i), to_hex(set.seed));
    writer.add_view(numbered("bootstrap_bodies", i), set.bootstrap_bodies);
    writer.add_view(numbered("keyswitch_bodies", i), byte_view(set.keyswitch_bodies));
    writer.add_view(numbered("trace_bodies", i), set.trace_bodies);
  }
  return writer;
}

struct BodySizes {
  std::size_t bootstrap = 0;  // bytes
  std::size_t keyswitch = 0;  // 32-bit words
  std::size_t trace = 0;      // bytes
};

// The bounds of JsonSection keep these products far from 2^64.
BodySizes body_sizes(const TfheParameters& p) {
  BodySizes sizes;
  if (!p.has_bootstrap()) return sizes;
  const std::size_t size = p.polynomial_size.value;
  sizes.bootstrap = std::size_t{p.small_dimension.value} / p.grouping_factor * p.keys_per_step() *
                    p.bootstrap.level_count * p.body_bytes() * (p.big_dimension().value + size);
  sizes.keyswitch =
      std::size_t{p.big_dimension().value - p.small_dimension.value} * p.keyswitch.level_count;
  // Of log2 N automorphisms, and the square of the secret; no levels without circuit bootstrapping.
  const auto trace_keys = static_cast<std::size_t>(std::countr_zero(size)) + 1;
  sizes.trace = trace_keys * p.trace.level_count * size * p.body_bytes();
  return sizes;
}

SeededEvaluationKeys read_set(const ContainerReader& reader, const TfheParameters& parameters,
                              std::size_t index) {
  const std::string bootstrap = numbered("bootstrap_bodies", index),
                    keyswitch = numbered("keyswitch_bodies", index),
                    trace = numbered("trace_bodies", index), seed = numbered("mask_seed", index);
  SeededEvaluationKeys set;
  set.parameters = parameters;
  if (!from_hex(reader.property(seed), set.seed))
    reader.corrupt("header", fmt::format("property '{}' is not a seed", seed));
  const BodySizes sizes = body_sizes(parameters);
  reader.check_raw_size(bootstrap, sizes.bootstrap);
  reader.check_raw_size(keyswitch, sizes.keyswitch * sizeof(std::uint32_t));
  reader.check_raw_size(trace, sizes.trace);
  set.bootstrap_bodies.resize(sizes.bootstrap);
  set.keyswitch_bodies.resize(sizes.keyswitch);
  set.trace_bodies.resize(sizes.trace);
  reader.read_words(bootstrap, std::span(set.bootstrap_bodies));
  reader.read_words(keyswitch, std::span(set.keyswitch_bodies));
  reader.read_words(trace, std::span(set.trace_bodies));
  return set;
}

// Two sets with the same masks would give away differences of what they encrypt.
void check_seeds(const ContainerReader& reader, const std::vector<SeededEvaluationKeys>& keys) {
  std::set<PublicSeed> seeds;
  for (const SeededEvaluationKeys& set : keys) {
    if (!seeds.insert(set.seed).second) reader.corrupt("header", "two key sets have one seed");
  }
}

EvaluationKeySet read_evaluation_keys(const ByteSource& source) {
  const ContainerReader reader(source, FileKind::evaluation_keys);
  EvaluationKeySet keys;
  keys.provenance = read_provenance(reader);
  const std::vector<TfheParameters> key_sets = read_key_sets(reader);
  std::vector<std::string> sections{"key_sets"};
  for (std::size_t i = 0; i < key_sets.size(); ++i) {
    for (const char* name : {"bootstrap_bodies", "keyswitch_bodies", "trace_bodies"})
      sections.push_back(numbered(name, i));
  }
  reader.expect_sections(sections);
  for (std::size_t i = 0; i < key_sets.size(); ++i)
    keys.keys.push_back(read_set(reader, key_sets[i], i));
  check_seeds(reader, keys.keys);
  return keys;
}

}  // namespace

void save_secret_keys(const SecretKeySet& keys, const std::string& path, bool replace) {
  make_writer(keys).to_file(path, replace);
}

void save_key_pair(const SecretKeySet& secret, const std::string& secret_path, bool replace_secret,
                   const EvaluationKeySet& evaluation, const std::string& evaluation_path) {
  OutputFile secret_file(secret_path, {.secret = true, .replace = replace_secret});
  OutputFile evaluation_file(evaluation_path, {});
  make_writer(secret).write_to(secret_file);
  make_writer(evaluation).write_to(evaluation_file);
  secret_file.commit();
  evaluation_file.commit();
}

SecretKeySet load_secret_keys(const std::string& path) {
  const FileSource source(path);
  const ContainerReader reader(source, FileKind::secret_key);
  reader.expect_sections({"key_sets", "big"});
  SecretKeySet set;
  set.provenance = read_provenance(reader);
  set.key_sets = read_key_sets(reader);
  set.keys.parameters = set.key_sets.front();
  set.keys.big = read_bits(reader, "big", set.keys.parameters.big_dimension().value);
  return set;
}

std::string to_bytes(const EvaluationKeySet& keys) { return make_writer(keys).to_bytes(); }

void save_evaluation_keys(const EvaluationKeySet& keys, const std::string& path) {
  make_writer(keys).to_file(path);
}

EvaluationKeySet load_evaluation_keys(const std::string& path) {
  return read_evaluation_keys(FileSource(path));
}

EvaluationKeySet evaluation_keys_from_bytes(std::string_view bytes, const std::string& name) {
  return read_evaluation_keys(MemorySource(bytes, name));
}

}  // namespace torusml
