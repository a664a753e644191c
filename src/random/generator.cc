#include "random/generator.h"

#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <mutex>
#include <string>

#include "random/gaussian.h"
#include "random/secret_state.h"
#include "torusml/error.h"

namespace torusml {
namespace {

using Seed = std::array<std::uint8_t, 16>;

constexpr std::size_t kChunk = 2048;      // words of scratch per step
constexpr double kLargestSigma = 0x1p-5;  // 9.5 sigma must stay below half the torus

Seed system_seed() {
  Seed seed;
  std::size_t filled = 0;
  while (filled < seed.size()) {
    const ssize_t got = getrandom(seed.data() + filled, seed.size() - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw Error(ErrorCode::internal, "the operating system gives no random bytes (getrandom)");
    }
    filled += static_cast<std::size_t>(got);
  }
  return seed;
}

// Forks are seen twice: by a handler, which a raw clone() skips, and by the process id, which a
// first process of a new namespace may share with its parent.
std::atomic<std::uint64_t> fork_count{0};

std::uint64_t watched_forks() {
  static std::once_flag once;
  std::call_once(once, [] {
    pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1, std::memory_order_relaxed); });
  });
  return fork_count.load(std::memory_order_relaxed);
}

}  // namespace

struct PublicGenerator::State {
  AesCtr stream;
};

PublicGenerator::PublicGenerator(const Seed& seed) : state_(new State{AesCtr(seed)}) {}
PublicGenerator::~PublicGenerator() = default;
PublicGenerator::PublicGenerator(PublicGenerator&&) noexcept = default;
PublicGenerator& PublicGenerator::operator=(PublicGenerator&&) noexcept = default;

void PublicGenerator::fill(std::span<std::uint64_t> words) {
  state_->stream.fill(words.data(), words.size_bytes());
}

void PublicGenerator::fill(std::span<std::uint32_t> words) {
  state_->stream.fill(words.data(), words.size_bytes());
}

void PublicGenerator::seek(std::uint64_t bytes) { state_->stream.seek(bytes); }

SecretGenerator::State::State(const Seed& seed, Origin origin)
    : origin_(origin), process_(getpid()), forks_(watched_forks()), stream_(AesCtr(seed)) {}

SecretGenerator::State::State() : State(Seed{}, Origin::operating_system) {
  Seed seed = system_seed();
  stream_.emplace(seed);
  wipe(seed.data(), seed.size());
}

AesCtr& SecretGenerator::State::stream() {
  const pid_t process = getpid();
  const std::uint64_t forks = watched_forks();
  if ((process != process_ || forks != forks_) && origin_ == Origin::operating_system) {
    Seed seed = system_seed();
    stream_.emplace(seed);
    wipe(seed.data(), seed.size());
  }
  process_ = process;
  forks_ = forks;
  return *stream_;
}

std::uint64_t* SecretGenerator::State::scratch(std::size_t words) {
  if (scratch_.size() < words) scratch_ = SecretBuffer<std::uint64_t>(words);
  return scratch_.data();
}

SecretGenerator::SecretGenerator() : state_(new State) {}
SecretGenerator::SecretGenerator(std::unique_ptr<State> state) : state_(std::move(state)) {}
SecretGenerator::~SecretGenerator() = default;
SecretGenerator::SecretGenerator(SecretGenerator&&) noexcept = default;
SecretGenerator& SecretGenerator::operator=(SecretGenerator&&) noexcept = default;

void SecretGenerator::fill(std::span<std::uint64_t> words) {
  state_->stream().fill(words.data(), words.size_bytes());
}

void SecretGenerator::fill_binary(std::span<std::uint64_t> bits) {
  AesCtr& stream = state_->stream();
  std::uint64_t* random = state_->scratch(kChunk);
  for (std::size_t first = 0; first < bits.size(); first += 64 * kChunk) {
    const std::size_t count = std::min(bits.size() - first, 64 * kChunk);
    const std::size_t words = (count + 63) / 64;
    stream.fill(random, words * sizeof(std::uint64_t));
    for (std::size_t i = 0; i < count; ++i) bits[first + i] = random[i / 64] >> (i % 64) & 1;
    wipe(random, words * sizeof(std::uint64_t));
  }
}

void SecretGenerator::fill_gaussian(std::span<std::uint64_t> words, double sigma) {
  if (!(sigma >= 0 && sigma <= kLargestSigma)) {
    throw Error(ErrorCode::invalid_argument, "a noise of standard deviation " +
                                                 std::to_string(sigma) +
                                                 " of the torus is outside [0, 2^-5]");
  }
  AesCtr& stream = state_->stream();
  std::uint64_t* random = state_->scratch(2 * kChunk);
  for (std::size_t first = 0; first < words.size(); first += kChunk) {
    const std::size_t count = std::min(words.size() - first, kChunk);
    // Whole chunks are drawn, so that a sample depends on its position only.
    stream.fill(random, kChunk * sizeof(std::uint64_t));
    uniform_to_gaussian(random, kChunk / 2, sigma * 0x1p64, random + kChunk);
    std::copy_n(random + kChunk, count, words.begin() + static_cast<std::ptrdiff_t>(first));
  }
  wipe(random, 2 * kChunk * sizeof(std::uint64_t));
}

std::array<std::uint8_t, 16> SecretGenerator::make_public_seed() {
  Seed seed;
  state_->stream().fill(seed.data(), seed.size());
  return seed;
}

SecretGenerator SecretGenerator::split() {
  Seed seed = make_public_seed();
  auto state = std::make_unique<State>(seed, state_->origin());
  wipe(seed.data(), seed.size());
  return SecretGenerator(std::move(state));
}

}  // namespace torusml
