#include <fmt/format.h>

#include <bit>
#include <set>

#include "artifact/codecs.h"
#include "artifact/json_fields.h"
#include "artifact/key_writer.h"
#include "artifact/provenance.h"

namespace torusml {
namespace {

template <class Word>
std::span<const std::uint8_t> byte_view(const std::vector<Word>& words) {
  return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size() * sizeof(Word)};
}

// Sections and properties of one key set.
std::string numbered(const char* name, std::size_t index) {
  return fmt::format("{}.{}", name, index);
}

}  // namespace

ContainerWriter make_writer(const EvaluationKeySet& keys) {
  ContainerWriter writer(FileKind::evaluation_keys);
  set_provenance(writer, keys.provenance);
  writer.add_text("key_sets", json_text({{"key_sets", key_sets_json(parameters_of(keys.keys))}}));
  for (std::size_t i = 0; i < keys.keys.size(); ++i) {
    const SeededEvaluationKeys& set = keys.keys[i];
    writer.set(numbered("mask_seed", i), to_hex(set.seed));
    writer.add_view(numbered("bootstrap_bodies", i), set.bootstrap_bodies);
    writer.add_view(numbered("keyswitch_bodies", i), byte_view(set.keyswitch_bodies));
    writer.add_view(numbered("trace_bodies", i), set.trace_bodies);
  }
  return writer;
}

namespace {

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
  // Of log2 N automorphisms and, with circuit bootstrapping, the square of the secret.
  const auto trace_keys =
      static_cast<std::size_t>(std::countr_zero(size)) + p.has_circuit_bootstrap();
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

EvaluationKeySet read_evaluation_keys(const ByteSource& source, const KeyLimits& limits) {
  const ContainerReader reader(source, {FileKind::evaluation_keys}, limits.max_bytes);
  EvaluationKeySet keys;
  keys.provenance = read_provenance(reader);
  const std::vector<TfheParameters> key_sets = JsonSection(reader, "key_sets").key_sets();
  check_key_sets(limits.needed, key_sets, "the evaluation keys");
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

std::string key_sets_id(const std::vector<TfheParameters>& key_sets) {
  return to_hex(sha256(as_bytes(json_text(key_sets_json(key_sets)))));
}

std::string to_bytes(const EvaluationKeySet& keys) { return make_writer(keys).to_bytes(); }

void save_evaluation_keys(const EvaluationKeySet& keys, const std::string& path) {
  make_writer(keys).to_file(path);
}

EvaluationKeySet load_evaluation_keys(const std::string& path, const KeyLimits& limits) {
  return read_evaluation_keys(FileSource(path), limits);
}

EvaluationKeySet evaluation_keys_from_bytes(std::string_view bytes, const KeyLimits& limits,
                                            const std::string& name) {
  return read_evaluation_keys(MemorySource(bytes, name), limits);
}

}  // namespace torusml
