#include "harnesses.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "artifact/checkpoint_file.h"
#include "artifact/codecs.h"
#include "artifact/cost_table_file.h"
#include "artifact/prepared_keys_file.h"
#include "artifact/sample_model.h"
#include "circuit/text.h"
#include "cli/npy.h"
#include "forge.h"
#include "http_harness.h"
#include "importer/onnx.h"
#include "memory_file.h"
#include "runtime/run_state.h"
#include "seeds.h"
#include "torusml/error.h"

namespace torusml::fuzz {
namespace {

using Codes = std::set<ErrorCode>;

const Codes kFile{ErrorCode::file_truncated, ErrorCode::file_foreign, ErrorCode::file_version,
                  ErrorCode::file_corrupt, ErrorCode::file_too_large};

Codes with(Codes codes, const Codes& more) {
  codes.insert(more.begin(), more.end());
  return codes;
}

// Other exceptions leave it, and end the process.
template <class Read>
void expect_codes(const Codes& codes, const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    if (!codes.contains(error.code())) report(error.what());
  }
}

// read(bytes) to write(value) and again.
template <class Read, class Write>
void expect_stable(const Codes& codes, std::string_view input, const Read& read,
                   const Write& write) {
  std::string first;
  bool is_read = false;
  expect_codes(codes, [&] {
    const auto value = read(input);
    is_read = true;
    first = write(value);
  });
  if (!is_read) return;
  if (write(read(first)) != first) report("what was read is written in two ways");
}

void container(std::string_view input) {
  constexpr std::size_t kMost = std::size_t{1} << 26;
  expect_codes(kFile, [&] {
    const MemorySource source(input, "input");
    const ContainerReader reader(source, {});
    reader.verify_all();
    for (const SectionInfo& section : reader.sections()) reader.read_text(section.name, kMost);
  });
}

void model(std::string_view input) {
  expect_stable(
      kFile, input, [](std::string_view bytes) { return model_from_bytes(bytes).model; },
      [](const CompiledModel& m) { return to_bytes(m); });
}

// What a client computes with a half that a hostile server gave it, as long as it is small.
void use(const ClientSpec& spec) {
  constexpr std::int64_t kMost = 1 << 16;
  const auto batch = [](const Shape& sample) {
    Shape shape{1};
    shape.insert(shape.end(), sample.begin(), sample.end());
    return shape;
  };
  for (const InputSpec& input : spec.inputs) {
    for (const std::int64_t end : {input.interval.lower, input.interval.upper})
      encode(end, input.torus_scale, input.center);
    const std::int64_t elements = number_of_elements(input.shape);
    if (elements > kMost) continue;
    for (const double value : {-1e300, 0.0, 0.7, 1e300})
      quantize_input(input, {batch(input.shape), std::vector<double>(elements, value)});
  }
  for (const OutputSpec& output : spec.outputs) {
    const std::int64_t elements = number_of_elements(output.shape);
    if (elements > kMost) continue;
    for (const Torus phase : {Torus{0}, Torus{1} << 63, ~Torus{0} >> 1}) {
      const std::int64_t value = decode(phase, output.torus_scale, output.center, output.interval);
      if (!output.interval.contains(value)) report("a value outside its interval");
      dequantize_output(output, {batch(output.shape), std::vector<std::int64_t>(elements, value)});
    }
  }
}

void client_half(std::string_view input) {
  expect_stable(
      kFile, input, [](std::string_view bytes) { return client_half_from_bytes(bytes); },
      [](const ClientHalf& half) {
        use(half.spec);
        return to_bytes(half);
      });
}

void server_half(std::string_view input) {
  expect_stable(
      kFile, input, [](std::string_view bytes) { return server_half_from_bytes(bytes); },
      [](const ServerHalf& half) { return to_bytes(half); });
}

void evaluation_keys(std::string_view input) {
  expect_stable(
      kFile, input, [](std::string_view bytes) { return evaluation_keys_from_bytes(bytes); },
      [](const EvaluationKeySet& keys) { return to_bytes(keys); });
}

void encrypted_inputs(std::string_view input) {
  expect_stable(
      kFile, input, [](std::string_view bytes) { return encrypted_inputs_from_bytes(bytes); },
      [](const EncryptedInputs& inputs) { return to_bytes(inputs); });
}

void encrypted_outputs(std::string_view input) {
  expect_stable(
      kFile, input, [](std::string_view bytes) { return encrypted_outputs_from_bytes(bytes); },
      [](const EncryptedOutputs& outputs) { return to_bytes(outputs); });
}

// A file may ask for a scrypt of 1 GiB and seconds: a cheap one is done, others are declined.
void secret_key(std::string_view input) {
  const std::optional<Forged> parts = take_apart(input);
  const bool is_cheap = parts && parts->header.properties.contains("scrypt_n_log2") &&
                        parts->header.properties.at("scrypt_n_log2").size() == 1;  // at most 2^9
  const MemoryFile file(input);
  expect_codes(with(kFile, {ErrorCode::wrong_passphrase}), [&] {
    load_secret_keys(file.path(), [&] {
      if (!is_cheap) throw Error(ErrorCode::wrong_passphrase, "not asked");
      return passphrase_of(kSeedPassphrase);
    });
  });
}

void checkpoint(std::string_view input) {
  const MemoryFile file(input);
  expect_codes(
      with(kFile, {ErrorCode::wrong_model, ErrorCode::wrong_key, ErrorCode::invalid_argument}),
      [&] {
        static const Circuit circuit = sample_model().circuit;
        const RunState state = load_checkpoint(file.path(), sample_provenance(), Digest{});
        check_state(state, circuit, {64}, 2, file.path());
      });
}

// The input is the header; what it has beyond is the first part, and the file has the size that is
// due.
void prepared_keys(std::string_view input) {
  static const SeededEvaluationKeys keys = seed_evaluation_keys().keys.front();
  static const PreparedKeysFile prepared(keys);
  constexpr std::size_t kHeaderBytes = 312;
  const std::string_view header = input.substr(0, kHeaderBytes);
  MemoryFile file(header);
  if (input.size() > kHeaderBytes) {
    file.resize(4 * kHugePageBytes);
    file.write_at(kHugePageBytes, input.substr(kHeaderBytes));
  }
  expect_codes(with(kFile, {ErrorCode::wrong_key}), [&] { prepared.map(file.path()); });
}

void onnx(std::string_view input) {
  expect_codes(with(kFile, {ErrorCode::invalid_model, ErrorCode::unsupported_operator,
                            ErrorCode::dynamic_shape, ErrorCode::wrong_shape,
                            ErrorCode::unsupported_bits, ErrorCode::wrong_dtype,
                            ErrorCode::path_outside_model_folder, ErrorCode::not_supported}),
               [&] { import_onnx_bytes(input, "input"); });
}

void npy(std::string_view input) {
  const MemoryFile file(input);
  expect_codes(
      with(kFile, {ErrorCode::wrong_dtype, ErrorCode::not_supported, ErrorCode::invalid_argument}),
      [&] { read_npy(file.path()); });
}

void circuit(std::string_view input) {
  expect_stable(
      {ErrorCode::invalid_circuit}, input,
      [](std::string_view text) { return parse_circuit(text); },
      [](const Circuit& c) { return print(c); });
}

void cost_table(std::string_view input) {
  expect_stable(
      {ErrorCode::file_corrupt}, input,
      [](std::string_view text) { return parse_cost_table(std::string(text), "input"); },
      [](const CostTable& table) { return cost_table_text(table); });
}

void mutate_prepared_keys(std::string& input, std::size_t limit, unsigned seed,
                          const Mutator& mutator) {
  constexpr std::size_t kHashedBytes = 280;
  mutator(input, limit);
  if (input.size() < kHashedBytes + 32 || seed % 4 == 0) return;
  const Digest digest = sha256(as_bytes(std::string_view(input).substr(0, kHashedBytes)));
  std::copy(digest.begin(), digest.end(), input.begin() + kHashedBytes);
}

}  // namespace

void report(const std::string& finding) {
  std::fprintf(stderr, "finding: %s\n", finding.c_str());
  std::abort();
}

void mutate_container(std::string& input, std::size_t limit, unsigned seed,
                      const Mutator& mutator) {
  std::optional<Forged> forged = take_apart(input);
  if (!forged || forged->bodies.empty() || seed % 16 == 0) {
    mutator(input, limit);
    if (seed / 16 % 2 == 0) repair_header_hash(input);
    return;
  }
  const std::size_t s = seed / 16 % forged->bodies.size();
  switch (seed % 16) {
    case 1: {
      auto property = forged->header.properties.begin();
      if (property == forged->header.properties.end()) break;
      std::advance(property, seed / 16 % forged->header.properties.size());
      mutator(property->second, 256);
      break;
    }
    case 2:
      mutator(forged->header.sections[s].name, 64);
      break;
    case 3:
      forged->header.sections.erase(forged->header.sections.begin() +
                                    static_cast<std::ptrdiff_t>(s));
      forged->bodies.erase(forged->bodies.begin() + static_cast<std::ptrdiff_t>(s));
      break;
    case 4: {
      const std::string changed = put_together(*forged, [&](ContainerHeader& header) {
        SectionInfo& section = header.sections[s];
        std::string numbers(reinterpret_cast<const char*>(&section.offset), 24);
        mutator(numbers, 24);
        numbers.resize(24);
        std::memcpy(&section.offset, numbers.data(), 8);
        std::memcpy(&section.stored_size, numbers.data() + 8, 8);
        std::memcpy(&section.raw_size, numbers.data() + 16, 8);
      });
      if (changed.size() <= limit) input = changed;
      return;
    }
    default:
      mutator(forged->bodies[s], limit);
  }
  const std::string changed = put_together(*forged);
  if (changed.size() <= limit) input = changed;
}

const std::vector<Harness>& harnesses() {
  static const std::vector<Harness> all{
      {"container", container, mutate_container},
      {"model", model, mutate_container},
      {"client_half", client_half, mutate_container},
      {"server_half", server_half, mutate_container},
      {"evaluation_keys", evaluation_keys, mutate_container},
      {"secret_key", secret_key, mutate_container},
      {"encrypted_inputs", encrypted_inputs, mutate_container},
      {"encrypted_outputs", encrypted_outputs, mutate_container},
      {"checkpoint", checkpoint, mutate_container},
      {"prepared_keys", prepared_keys, mutate_prepared_keys},
      {"http", http, mutate_http},
      {"onnx", onnx, nullptr},
      {"npy", npy, nullptr},
      {"circuit", circuit, nullptr},
      {"cost_table", cost_table, nullptr},
  };
  return all;
}

const Harness* find_harness(std::string_view name) {
  const auto found = std::ranges::find_if(
      harnesses(), [&](const Harness& harness) { return harness.name == name; });
  return found == harnesses().end() ? nullptr : &*found;
}

}  // namespace torusml::fuzz
