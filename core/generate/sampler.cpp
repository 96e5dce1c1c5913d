#include "core/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"

namespace ringbolt {
namespace {

struct Candidate {
  int32_t token;
  double weight;  ///< probability, not normalised
};

/// Most likely first; equals in the order of their ids.
std::vector<Candidate> candidates(std::span<const float> logits, double temperature) {
  const double maximum = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  std::vector<Candidate> all;
  for (size_t i = 0; i < logits.size(); ++i) {
    all.push_back({static_cast<int32_t>(i),
                   std::exp((static_cast<double>(logits[i]) - maximum) / temperature)});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; });
  return all;
}

double total(const std::vector<Candidate>& all) {
  double sum = 0;
  for (const Candidate& c : all) sum += c.weight;
  return sum;
}

/// Drops what comes after the smallest set that reaches probability p.
void keep_top_p(std::vector<Candidate>& all, double p) {
  const double wanted = p * total(all);
  double sum = 0;
  size_t kept = 0;
  while (kept < all.size() && sum < wanted) sum += all[kept++].weight;
  all.resize(std::max<size_t>(1, kept));
}

}  // namespace

void validate(const SamplingOptions& o) {
  if (!(o.temperature >= 0) || !std::isfinite(o.temperature)) {
    throw UsageError(message(concat("the temperature is ", o.temperature),
                             "it must be 0 or positive",
                             "Use 0 for greedy text, 0.8 for lively text."));
  }
  if (o.top_k < 0) {
    throw UsageError(
        message(concat("top-k is ", o.top_k), "it counts tokens", "Use 40, or 0 for no limit."));
  }
  if (!(o.top_p > 0 && o.top_p <= 1)) {
    throw UsageError(message(concat("top-p is ", o.top_p), "it is a probability above 0",
                             "Use 0.9, or 1 for no limit."));
  }
}

int32_t sample(std::span<const float> logits, const SamplingOptions& options, int64_t index) {
  if (options.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<Candidate> all = candidates(logits, options.temperature);
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < all.size()) {
    all.resize(static_cast<size_t>(options.top_k));
  }
  if (options.top_p < 1) keep_top_p(all, options.top_p);
  const Philox random(options.seed, stream_of("sampling"));
  double left = random.uniform(static_cast<uint64_t>(index)) * total(all);
  for (const Candidate& c : all) {
    left -= c.weight;
    if (left < 0) return c.token;
  }
  return all.back().token;
}

}  // namespace ringbolt
