#include "parallel/memory_account.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/quantity.h"
#include "parallel/device_communicator.h"
#include "parallel/step_memory.h"

namespace ringbolt {
namespace {

constexpr int64_t kF32 = 4;
constexpr int64_t kPieceElements = 16;  // parallel/sharded_parameters.cpp

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

using Hold = Ledger::Hold;
using enum MemoryKind;

/// Elements of a group's flat buffer, and of the part of it that a rank owns.
struct GroupSize {
  int64_t whole;
  int64_t owned;
  DType dtype;

  int64_t masters() const { return dtype == DType::f32 ? 0 : owned * kF32; }
};

std::vector<GroupSize> group_sizes(const TrainingShape& c) {
  std::vector<GroupSize> sizes;
  for (const ParameterGroup& group : parameter_groups(c.model)) {
    const DType dtype = group.dtype(c.dtype);
    if (!c.sharding) {
      sizes.push_back({group.elements, group.elements, dtype});
      continue;
    }
    const int64_t ranks = c.mesh.world();
    const int64_t piece = round_up((group.elements + ranks - 1) / ranks, kPieceElements);
    sizes.push_back({piece * ranks, piece, dtype});
  }
  return sizes;
}

void hold_state(Ledger& ledger, const TrainingShape& c, const std::vector<GroupSize>& groups,
                std::vector<Hold>& holds) {
  const bool pieces_only = c.sharding == ShardState::gradients;
  for (const GroupSize& g : groups) {
    holds.push_back(ledger.hold(parameters, g.whole * size_of(g.dtype) + g.masters()));
    holds.push_back(ledger.hold(gradients, (pieces_only ? g.owned : g.whole) * kF32));
    holds.push_back(ledger.hold(moments, 2 * g.owned * kF32));
  }
}

int64_t library_bytes(bool gpu) { return gpu ? int64_t{32} << 20 : 0; }  // cuBLASLt's workspace

}  // namespace

std::string name_of(MemoryKind kind) {
  static constexpr std::array<const char*, kMemoryKinds> names = {
      "parameters", "gradients", "moments",   "activations",
      "attention",  "logits",    "workspace", "cache"};
  return names[static_cast<size_t>(kind)];
}

int64_t MemoryAccount::total() const {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
}

std::string MemoryAccount::str() const {
  std::array<size_t, kMemoryKinds> order;
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t x, size_t y) { return bytes[x] > bytes[y]; });
  std::string text;
  for (const size_t kind : order) {
    if (bytes[kind] == 0) continue;
    text += concat(text.empty() ? "" : ", ", name_of(static_cast<MemoryKind>(kind)), " ",
                   format_bytes(bytes[kind]));
  }
  return text;
}

int64_t tokens_of_rank(const TrainingShape& c) {
  std::vector<int64_t> offsets;
  for (int64_t b = 0; b <= c.batch_size; ++b) offsets.push_back(b * c.context_length);
  if (c.mesh.sequence() == 1) return offsets.back();
  const SequenceLayout layout(c.layout, offsets, c.mesh.ring(), c.mesh.head);
  return layout.tokens_per_rank() / c.mesh.head;
}

MemoryAccount training_memory(const TrainingShape& c) {
  Ledger ledger;
  const int64_t t = tokens_of_rank(c);
  const std::vector<GroupSize> groups = group_sizes(c);
  std::vector<Hold> state;
  hold_state(ledger, c, groups, state);
  state.push_back(ledger.hold(workspace, library_bytes(c.gpu)));
  // cos and sin, and with CLEX the gradient of the angles.
  const int64_t angles = t * c.model.head_dim / 2;
  const bool trained = c.model.rope_scaling.method == RopeMethod::clex;
  const int64_t tables = c.recorded ? 2 : 1;
  state.push_back(ledger.hold(activations, tables * angles * (trained ? 3 : 2) * kF32));
  const auto whole_gradients = [&](size_t group) {
    return ledger.hold(gradients,
                       c.sharding == ShardState::gradients ? groups[group].whole * kF32 : 0);
  };
  // What a GPU's ranks add up comes in pieces of a bounded size (parallel/device_communicator.h).
  const auto reduction = [&](size_t group) {
    if (!c.gpu || !c.sharding) return int64_t{0};
    return device_reduction_bytes(c.mesh.world(), groups[group].whole);
  };
  StepMemory step(ledger, c, t);
  const Hold ids = ledger.hold(activations, 4 * t * kF32);  // ids, targets, losses, hits
  const Hold stream = ledger.hold(activations, step.hidden(t));
  const auto layers = static_cast<size_t>(c.model.num_hidden_layers);
  std::vector<StepMemory::Kept> kept;
  for (size_t l = 0; l < layers; ++l) {
    ledger.at(concat("forward of layer ", l));
    kept.push_back(step.forward_layer());
  }
  ledger.at("the head");
  std::vector<Hold> tied;
  if (c.model.tie_word_embeddings) tied.push_back(whole_gradients(0));
  {
    const Hold sums = whole_gradients(layers + 1);
    step.head();
  }
  for (size_t l = layers; l-- > 0;) {
    ledger.at(concat("backward of layer ", l));
    const Hold sums = whole_gradients(l + 1);
    step.backward_layer(std::move(kept.back()));
    kept.pop_back();
    const Hold terms = ledger.hold(workspace, reduction(l + 1));
  }
  ledger.at("the embedding");
  if (tied.empty()) tied.push_back(whole_gradients(0));
  return ledger.peak();
}

MemoryAccount generation_memory(const GenerationShape& c) {
  Ledger ledger;
  const int64_t a = size_of(c.dtype);
  const auto share = [&](int64_t tokens) { return (tokens + c.ranks - 1) / c.ranks; };
  TrainingShape whole;
  whole.model = c.model;
  whole.dtype = c.dtype;
  whole.gpu = c.gpu;
  whole.recompute = Recompute::block;
  std::vector<Hold> state;
  for (const GroupSize& g : group_sizes(whole))
    state.push_back(ledger.hold(parameters, g.whole * size_of(g.dtype)));
  state.push_back(ledger.hold(workspace, library_bytes(c.gpu)));
  state.push_back(ledger.hold(
      cache, c.model.num_hidden_layers * share(c.capacity) * 2 * c.model.key_value_width() * a));
  const int64_t t = share(c.prompt);
  StepMemory step(ledger, whole, t);
  ledger.at("the prompt");
  const Hold table = ledger.hold(activations, t * c.model.head_dim * kF32);
  const Hold stream = ledger.hold(activations, step.hidden(t));
  for (int64_t l = 0; l < c.model.num_hidden_layers; ++l) step.forward_only();
  const Hold row = ledger.hold(logits, c.model.vocab_size * kF32);
  return ledger.peak();
}

MemoryAccount evaluation_memory(const EvaluationShape& c) {
  Ledger ledger;
  TrainingShape whole;
  whole.model = c.model;
  whole.dtype = c.dtype;
  whole.context_length = c.context_length;
  whole.batch_size = c.windows;
  whole.recompute = Recompute::block;
  whole.mesh = c.mesh;
  whole.layout = c.layout;
  whole.attention = c.attention;
  whole.gpu = c.gpu;
  std::vector<Hold> state;
  for (const GroupSize& g : group_sizes(whole))
    state.push_back(ledger.hold(parameters, g.whole * size_of(g.dtype)));
  state.push_back(ledger.hold(workspace, library_bytes(c.gpu)));
  const int64_t t = tokens_of_rank(whole);
  const int64_t tables = is_two_part(c.model.rope_scaling.method) ? 3 : 1;
  state.push_back(ledger.hold(activations, tables * t * c.model.head_dim * kF32));  // cos and sin
  StepMemory step(ledger, whole, t, c.piece_tokens);
  const Hold stream = ledger.hold(activations, step.hidden(t));
  for (int64_t l = 0; l < c.model.num_hidden_layers; ++l) {
    ledger.at("a layer");
    step.forward_only();
  }
  ledger.at("the head");
  const Hold targets = ledger.hold(activations, t * kF32);
  step.head_forward_only();
  return ledger.peak();
}

std::vector<std::string> ways_to_fit(const TrainingShape& c, int64_t available_bytes) {
  std::vector<std::string> ways;
  const auto attempt = [&](const std::string& what, const TrainingShape& changed) {
    const int64_t need = training_memory(changed).total();
    if (need <= available_bytes) ways.push_back(concat(what, " (", format_bytes(need), ")"));
  };
  std::vector<std::pair<std::string, TrainingShape>> changes{{"", c}};
  if (c.recompute == Recompute::none) {
    TrainingShape changed = c;
    changed.recompute = Recompute::block_keep_attention;
    changes.emplace_back("--recompute block-keep-attention", changed);
  }
  if (c.recompute != Recompute::block) {
    TrainingShape changed = c;
    changed.recompute = Recompute::block;
    changes.emplace_back("--recompute block", changed);
  }
  for (size_t i = 1; i < changes.size(); ++i) attempt(changes[i].first, changes[i].second);
  TrainingShape smallest = changes.back().second;
  if (c.batch_size > 1) {
    TrainingShape changed = c;
    changed.batch_size = smallest.batch_size = 1;
    attempt("--batch-size 1 with gradient accumulation", changed);
  }
  if (c.mesh.world() > 1 && c.sharding != ShardState::gradients) {
    TrainingShape changed = smallest;
    changed.sharding = smallest.sharding = ShardState::gradients;
    attempt("gradients sharded over the ranks, and recomputation", changed);
  }
  if (!ways.empty()) return ways;
  for (int more = 2; more <= 1024 && ways.empty(); more *= 2) {
    TrainingShape changed = smallest;
    changed.mesh.inner *= more;
    changed.sharding = ShardState::gradients;
    attempt(concat(changed.mesh.world(), " ranks with sharded gradients and --recompute block"),
            changed);
  }
  for (int64_t shorter = c.context_length / 2; shorter >= 128; shorter /= 2) {
    TrainingShape changed = smallest;
    changed.context_length = shorter;
    const size_t before = ways.size();
    attempt(concat("a context of ", shorter, " tokens"), changed);
    if (ways.size() > before) break;
  }
  return ways;
}

void require_memory(const TrainingShape& c, int64_t available_bytes) {
  const MemoryAccount account = training_memory(c);
  if (account.total() <= available_bytes) return;
  std::string what;
  for (const std::string& way : ways_to_fit(c, available_bytes))
    what += concat(what.empty() ? "Try " : ", or ", way);
  throw UsageError(message(concat("the run needs ", format_bytes(account.total()), " a rank"),
                           concat("there are ", format_bytes(available_bytes), "; most is live in ",
                                  account.moment, ": ", account.str()),
                           what.empty() ? "Try a smaller model." : what + "."));
}

int64_t piece_tokens_that_fit(EvaluationShape c, int64_t available_bytes) {
  constexpr int64_t kLeastPiece = 64;
  MemoryAccount account;
  for (int64_t piece = c.piece_tokens; piece >= std::min(kLeastPiece, c.piece_tokens); piece /= 2) {
    EvaluationShape smaller = c;
    smaller.piece_tokens = piece;
    account = evaluation_memory(smaller);
    if (account.total() <= available_bytes) return piece;
  }
  c.piece_tokens = std::min(kLeastPiece, c.piece_tokens);
  std::string what;
  const auto attempt = [&](const std::string& way, const EvaluationShape& changed) {
    const int64_t need = evaluation_memory(changed).total();
    if (need > available_bytes) return false;
    what += concat(what.empty() ? "Try " : ", or ", way, " (", format_bytes(need), ")");
    return true;
  };
  EvaluationShape narrow = c;
  narrow.dtype = DType::bf16;
  if (c.dtype == DType::f32) attempt("--dtype bf16", narrow);
  for (int more = 2; more <= 1024; more *= 2) {
    EvaluationShape wider = c;
    wider.mesh.inner *= more;
    if (attempt(concat(wider.mesh.sequence(), " sequence ranks, each with its own memory"), wider))
      break;
  }
  for (int64_t shorter = c.context_length / 2; shorter >= 128; shorter /= 2) {
    EvaluationShape changed = c;
    changed.context_length = shorter;
    changed.windows = 1;
    if (attempt(concat("a context of ", shorter, " tokens"), changed)) break;
  }
  throw UsageError(message(concat("a window of ", c.context_length, " tokens needs ",
                                  format_bytes(account.total()), " a rank"),
                           concat("there are ", format_bytes(available_bytes), "; most is live in ",
                                  account.moment, ": ", account.str()),
                           what.empty() ? "Try a smaller model." : what + "."));
}

}  // namespace ringbolt
