#include "parallel/memory_account.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/cpu/packed_product.h"
#include "core/model/head.h"

namespace ringbolt {
namespace {

constexpr int64_t kFeedForwardTokens = 4096;  // core/model/block.cpp
constexpr int64_t kF32 = 4;
constexpr int64_t kPieceElements = 16;  // parallel/sharded_parameters.cpp

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// What is live, and the moment when most was.
class Ledger {
 public:
  /// Takes memory; gives it back at the end of the scope or by release().
  class Hold {
   public:
    Hold(Ledger& ledger, MemoryKind kind, int64_t bytes)
        : ledger_(&ledger), kind_(kind), bytes_(bytes) {
      ledger.add(kind, bytes);
    }
    Hold(Hold&& other) noexcept
        : ledger_(other.ledger_), kind_(other.kind_), bytes_(std::exchange(other.bytes_, 0)) {}
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    Hold& operator=(Hold&&) = delete;
    ~Hold() { release(); }
    void release() {
      ledger_->add(kind_, -bytes_);
      bytes_ = 0;
    }

   private:
    Ledger* ledger_;
    MemoryKind kind_;
    int64_t bytes_;
  };

  Hold hold(MemoryKind kind, int64_t bytes) { return {*this, kind, bytes}; }
  void at(std::string moment) { moment_ = std::move(moment); }
  const MemoryAccount& peak() const { return peak_; }

 private:
  void add(MemoryKind kind, int64_t bytes) {
    live_.bytes[static_cast<size_t>(kind)] += bytes;
    if (live_.total() <= peak_.total()) return;
    peak_ = live_;
    peak_.moment = moment_;
  }

  MemoryAccount live_;
  MemoryAccount peak_;
  std::string moment_;
};

using Hold = Ledger::Hold;
using enum MemoryKind;

/// Sizes of one rank's part of a micro-batch, and the steps of training in the order of the code
/// that takes them.
class Step {
 public:
  Step(Ledger& ledger, const TrainingShape& c, int64_t tokens)
      : ledger_(ledger), c_(c), m_(c.model), t_(tokens), a_(size_of(c.dtype)) {}

  // --- sizes in bytes
  // ---------------------------------------------------------------------------------------------------
  int64_t hidden(int64_t tokens) const { return tokens * m_.hidden_size * a_; }
  int64_t queries() const { return t_ * m_.query_width() * a_; }
  int64_t keys() const { return t_ * 2 * m_.key_value_width() * a_; }
  int64_t rows() const { return t_ * m_.num_attention_heads * kF32; }  ///< lse, delta
  int64_t products(int64_t tokens) const { return tokens * 2 * m_.intermediate_size * a_; }
  bool narrow() const { return c_.dtype != DType::f32; }

  // --- attention
  // --------------------------------------------------------------------------------------------------------
  /// T rows and the heads of one head rank, after the exchange.
  int64_t ring_blocks(int64_t block) const {
    const int64_t rings = (inner() > 1 ? 1 : 0) + (outer() > 1 ? 1 : 0);
    return 2 * rings * block;
  }
  int64_t ring_sums(int64_t sum) const {
    const int64_t rings = (inner() > 1 ? 1 : 0) + (outer() > 1 ? 1 : 0);
    return 3 * rings * sum;
  }

  void attention_forward() {
    std::vector<Hold> exchanged;
    if (c_.mesh.head > 1)
      exchanged.push_back(ledger_.hold(attention, 2 * queries() + traded_keys() + rows()));
    if (gathers()) {
      const Hold all = ledger_.hold(attention, c_.mesh.ring() * traded_keys());
      library_forward();
      return;
    }
    const Hold running =
        ledger_.hold(attention, narrow() && ring() > 1 ? queries() / a_ * kF32 : 0);
    const Hold blocks = ledger_.hold(attention, ring_blocks(traded_keys()));
    library_forward();
  }

  void attention_backward() {
    const Hold delta = ledger_.hold(attention, rows());
    const int64_t query_sum = queries() / a_ * kF32;
    const int64_t key_sum = traded_keys() / a_ * kF32;
    std::vector<Hold> exchanged;
    if (c_.mesh.head > 1) {
      exchanged.push_back(
          ledger_.hold(attention, 3 * queries() + traded_keys() + 2 * rows() + key_sum));
    }
    const bool own_key_sum = narrow() && c_.mesh.head == 1;
    const Hold sums =
        ledger_.hold(attention, (narrow() ? query_sum : 0) + (own_key_sum ? key_sum : 0));
    if (gathers()) {
      const Hold all = ledger_.hold(attention, c_.mesh.ring() * (traded_keys() + key_sum));
      return library_backward();
    }
    const bool queries_travel = c_.attention.backward == RingBackward::queries;
    // q, dout, lse and delta behind one another; a ring of one packs them, too.
    const int64_t query_block = 2 * queries() + 2 * rows();
    const Hold packed = ledger_.hold(attention, queries_travel && distributed() ? query_block : 0);
    const Hold blocks =
        ledger_.hold(attention, ring_blocks(queries_travel ? query_block : traded_keys()));
    const Hold travelling =
        ledger_.hold(attention, ring_sums(queries_travel ? query_sum : key_sum));
    library_backward();
  }

  // --- a block
  // ----------------------------------------------------------------------------------------------------------
  using Kept = std::vector<Hold>;  // with Recompute::none: input, q and kv, attention and lse,
                                   // middle, products

  Kept forward_layer() {
    Kept kept;
    kept.push_back(ledger_.hold(activations, hidden(t_)));
    Hold projected = ledger_.hold(activations, queries() + keys());
    { const Hold normed = ledger_.hold(activations, hidden(t_) + t_ * kF32); }
    Hold result = ledger_.hold(activations, queries() + rows());
    attention_forward();
    if (c_.recompute == Recompute::none) {
      kept.push_back(std::move(projected));
      kept.push_back(std::move(result));
      kept.push_back(ledger_.hold(activations, hidden(t_)));
      kept.push_back(ledger_.hold(activations, products(t_)));
    } else {
      projected.release();
      if (c_.recompute == Recompute::block) result.release();
      kept.push_back(std::move(result));
    }
    feed_forward();
    return kept;
  }

  /// One piece of tokens: the norm, the products unless they are kept, SwiGLU's result; in backward
  /// a norm's sums besides.
  void feed_forward(bool backward = false) {
    const int64_t piece = std::min(t_, kFeedForwardTokens);
    const int64_t e = m_.hidden_size;
    const int64_t f = m_.intermediate_size;
    const Hold normed = ledger_.hold(activations, hidden(piece) + piece * kF32);
    const Hold own =
        ledger_.hold(activations, c_.recompute == Recompute::none ? 0 : products(piece));
    product(piece, e, 2 * f);
    const Hold hidden_units = ledger_.hold(activations, products(piece) / 2);
    product(piece, f, e);
    if (!backward) return;
    product(e, piece, f);
    product(piece, e, f);
    product(2 * f, piece, e);
    product(piece, 2 * f, e);
    norm_partials();
  }

  /// What a policy dropped comes back first.
  void backward_layer(Kept kept) {
    Kept restored;
    if (c_.recompute != Recompute::none) {
      kept.push_back(ledger_.hold(activations, hidden(t_)));
      restored.push_back(ledger_.hold(activations, queries() + keys()));
      { const Hold normed = ledger_.hold(activations, hidden(t_) + t_ * kF32); }
    }
    if (c_.recompute == Recompute::block) {
      restored.push_back(ledger_.hold(activations, queries() + rows()));
      attention_forward();
    }
    feed_forward(true);
    kept.pop_back();  // the middle, or the products and the middle, are spent
    if (c_.recompute == Recompute::none) kept.pop_back();
    Hold dattention = ledger_.hold(activations, queries());
    const Hold gradients_of_heads = ledger_.hold(activations, queries() + keys());
    attention_backward();
    dattention.release();
    const Hold normed = ledger_.hold(activations, hidden(t_) + t_ * kF32);
    norm_partials();
  }

  /// Nothing is kept.
  void forward_only() {
    {
      const Hold projected = ledger_.hold(activations, queries() + keys());
      { const Hold normed = ledger_.hold(activations, hidden(t_) + t_ * kF32); }
      const Hold result = ledger_.hold(activations, queries() + rows());
      attention_forward();
    }
    feed_forward();
  }

  void head() {
    const Hold normed = ledger_.hold(activations, 2 * hidden(t_) + t_ * kF32);
    const int64_t chunk = std::min(t_, head_chunk_tokens(m_.vocab_size));
    const Hold chunk_logits =
        ledger_.hold(logits, chunk * m_.vocab_size * (kF32 + (narrow() ? a_ : 0)));
    product(chunk, m_.hidden_size, m_.vocab_size);
    product(m_.vocab_size, chunk, m_.hidden_size);
    product(chunk, m_.vocab_size, m_.hidden_size);
  }

 private:
  int64_t ring() const { return c_.mesh.ring(); }
  bool distributed() const { return c_.mesh.world() > 1; }
  bool double_ring() const { return c_.attention.strategy == AttentionStrategy::double_ring; }
  int64_t inner() const { return double_ring() ? c_.mesh.inner : c_.mesh.ring(); }
  int64_t outer() const { return double_ring() ? c_.mesh.outer : 1; }
  bool gathers() const {
    return c_.attention.strategy == AttentionStrategy::all_gather && ring() > 1;
  }
  /// kv of the heads that a head rank has, for all rows of its ring position; more where key/value
  /// heads are replicated.
  int64_t traded_keys() const {
    const int64_t heads = std::max<int64_t>(1, m_.num_key_value_heads / c_.mesh.head);
    return t_ * c_.mesh.head * 2 * heads * m_.head_dim * a_;
  }

  /// What the CPU packs of the operands of a product (rows, depth) x (depth, columns)
  /// (core/cpu/packed_product.h).
  void product(int64_t rows, int64_t depth, int64_t columns) {
    const Hold packed =
        ledger_.hold(workspace, c_.gpu ? 0 : cpu::packed_product_bytes(rows, depth, columns, c_.dtype));
  }

  // --- libraries, on a GPU
  // ----------------------------------------------------------------------------------------------
  bool cudnn() const { return c_.gpu && narrow(); }

  void library_forward() {  // log-sum-exps as cuDNN writes them; where results are joined, its
                            // block, too
    if (!cudnn()) return;
    const Hold block = ledger_.hold(workspace, rows() + (ring() > 1 ? queries() : 0));
  }
  /// core/cuda/attention.cpp: log-sum-exps, an output, dq, dk and dv in bf16; and cuDNN's: dq in
  /// f32, a number a row, and with grouped heads dk and dv of every query head.
  void library_backward() {
    if (!cudnn()) return;
    const int64_t shared = m_.num_key_value_heads < m_.num_attention_heads ? 2 * queries() : 0;
    const Hold block = ledger_.hold(workspace, rows() + 2 * queries() + keys());
    const Hold library = ledger_.hold(workspace, queries() / a_ * kF32 + rows() + shared);
  }
  /// Sums of dweight over pieces of rows (core/cuda/norm.cu).
  void norm_partials() {
    if (!c_.gpu) return;
    const Hold partial =
        ledger_.hold(workspace, std::min<int64_t>(t_, 512) * m_.hidden_size * kF32);
  }

  Ledger& ledger_;
  const TrainingShape& c_;
  const ModelConfig& m_;
  int64_t t_;
  int64_t a_;
};

int64_t tokens_of_rank(const TrainingShape& c) {
  std::vector<int64_t> offsets;
  for (int64_t b = 0; b <= c.batch_size; ++b) offsets.push_back(b * c.context_length);
  if (c.mesh.sequence() == 1) return offsets.back();
  const SequenceLayout layout(c.layout, offsets, c.mesh.ring(), c.mesh.head);
  return layout.tokens_per_rank() / c.mesh.head;
}

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
  state.push_back(ledger.hold(activations, angles * (trained ? 3 : 2) * kF32));
  const auto whole_gradients = [&](size_t group) {
    return ledger.hold(gradients,
                       c.sharding == ShardState::gradients ? groups[group].whole * kF32 : 0);
  };
  Step step(ledger, c, t);
  const Hold ids = ledger.hold(activations, 2 * t * kF32);
  const Hold stream = ledger.hold(activations, step.hidden(t));
  const auto layers = static_cast<size_t>(c.model.num_hidden_layers);
  std::vector<Step::Kept> kept;
  for (size_t l = 0; l < layers; ++l) {
    ledger.at(concat("forward of layer ", l));
    kept.push_back(step.forward_layer());
  }
  ledger.at("the head");
  const Hold losses = ledger.hold(activations, 2 * t * kF32);
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
  for (const GroupSize& g : group_sizes(whole)) {
    // A store for inference has masters, too, as it is made today.
    state.push_back(ledger.hold(parameters, g.whole * size_of(g.dtype) + g.masters()));
  }
  state.push_back(ledger.hold(workspace, library_bytes(c.gpu)));
  state.push_back(ledger.hold(
      cache, c.model.num_hidden_layers * share(c.capacity) * 2 * c.model.key_value_width() * a));
  const int64_t t = share(c.prompt);
  Step step(ledger, whole, t);
  ledger.at("the prompt");
  const Hold table = ledger.hold(activations, t * c.model.head_dim * kF32);
  const Hold stream = ledger.hold(activations, step.hidden(t));
  for (int64_t l = 0; l < c.model.num_hidden_layers; ++l) step.forward_only();
  const Hold row = ledger.hold(logits, c.model.vocab_size * kF32);
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

}  // namespace ringbolt
