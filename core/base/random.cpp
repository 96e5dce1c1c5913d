#include "core/base/random.h"

#include <cmath>
#include <numbers>

namespace ringbolt {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

uint32_t high(uint64_t x) { return static_cast<uint32_t>(x >> 32); }
uint32_t low(uint64_t x) { return static_cast<uint32_t>(x); }

}  // namespace

std::array<uint32_t, 4> Philox::block(uint64_t index) const {
  std::array<uint32_t, 4> c{low(index), high(index), low(stream_), high(stream_)};
  uint32_t k0 = low(seed_);
  uint32_t k1 = high(seed_);
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * c[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * c[2];
    c = {high(p1) ^ c[1] ^ k0, low(p1), high(p0) ^ c[3] ^ k1, low(p0)};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

uint64_t Philox::bits(uint64_t index) const {
  const auto words = block(index);
  return (uint64_t{words[1]} << 32) | words[0];
}

double Philox::uniform(uint64_t index) const {
  return static_cast<double>(bits(index) >> 11) * 0x1p-53;
}

double Philox::normal(uint64_t index) const {
  const auto words = block(index / 2);
  const uint64_t a = (uint64_t{words[1]} << 32) | words[0];
  const uint64_t b = (uint64_t{words[3]} << 32) | words[2];
  const double u =
      (static_cast<double>(a >> 11) + 0.5) * 0x1p-53;  // in (0, 1): its logarithm is finite
  const double angle = 2 * std::numbers::pi * (static_cast<double>(b >> 11) * 0x1p-53);
  const double radius = std::sqrt(-2 * std::log(u));
  return radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

uint64_t stream_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace ringbolt
