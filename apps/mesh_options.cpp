#include "apps/mesh_options.h"

#include "core/base/error.h"

namespace ringbolt {
namespace {

void require(bool condition, const std::string& problem, const std::string& why,
             const std::string& what_to_try) {
  if (!condition) throw UsageError(message(problem, why, what_to_try));
}

}  // namespace

void MeshOptions::declare(OptionSet& options, StorePurpose purpose) {
  options.group("Ranks");
  options
      .add("local-ranks", "N", ranks.local_ranks,
           "Ranks as threads of this process; 1 leaves their number to mpirun -n N")
      .at_least(1)
      .at_most(1024);
  options
      .add("sequence-ranks", "N", sequence_ranks,
           "Ranks that share each sequence; ranks / N groups take different sequences")
      .at_least(1)
      .by_default("all");
  options
      .add("head-ranks", "N", head_ranks,
           "Of them, those that divide the heads by all-to-all; the others form the ring")
      .at_least(1)
      .by_default("1, or what --attention auto finds");
  options
      .add("inner-ranks", "N", inner_ranks,
           "Ring positions of a double ring's inner ring, such as those of one node")
      .at_least(1);
  options.choice<LayoutKind>(
      "layout", layout,
      {{"zigzag", LayoutKind::zigzag},
       {"striped", LayoutKind::striped},
       {"contiguous", LayoutKind::contiguous}},
      "How a sequence is dealt to ranks; contiguous leaves causal work uneven");
  options.choice<AttentionWord>(
      "attention", attention,
      {{"ring", AttentionWord::ring},
       {"double-ring", AttentionWord::double_ring},
       {"all-gather", AttentionWord::all_gather},
       {"auto", AttentionWord::automatic}},
      "How keys and values reach all ranks of a sequence; auto measures the ranks, takes what the "
      "cost model says (head ranks included), and says why");
  if (purpose == StorePurpose::training) {
    options.choice<RingBackwardWord>(
        "ring-backward", backward,
        {{"auto", RingBackwardWord::automatic},
         {"keys", RingBackwardWord::keys},
         {"queries", RingBackwardWord::queries}},
        "What travels in backward; auto takes what is faster or moves fewer bytes");
    options.choice<ShardState>(
        "shard-state", shard_state,
        {{"gradients", ShardState::gradients}, {"optimizer", ShardState::optimizer}},
        "What ranks divide: masters and moments (ZeRO-1), or gradients, too (ZeRO-2)");
  }
  ranks.declare_communicator(options);
  options
      .add("watchdog-seconds", "S", ranks.watchdog_seconds,
           "Longest wait for another rank before the run ends; 0 waits for ever")
      .at_least(0);
}

void MeshOptions::fit(const OptionSet& options, int64_t world) {
  if (world == 0) return;
  if (options.is_stored("sequence-ranks") && world % *sequence_ranks != 0) sequence_ranks.reset();
  const int64_t sequence = sequence_ranks.value_or(world);
  if (options.is_stored("head-ranks") && sequence % *head_ranks != 0) head_ranks.reset();
  const int64_t ring = sequence / head_ranks.value_or(1);
  if (options.is_stored("inner-ranks") && ring % *inner_ranks != 0) {
    inner_ranks.reset();
    if (options.is_stored("attention")) attention = AttentionWord::ring;
  }
}

MeshShape MeshOptions::mesh(int world, const ModelConfig& model) const {
  const int64_t sequence = sequence_ranks.value_or(world);
  require(world % sequence == 0,
          concat("--sequence-ranks ", sequence, " does not divide the ranks"),
          concat("there are ", world), "Give a divisor of the number of ranks, or leave it out.");
  const int64_t head = head_ranks.value_or(1);
  require(sequence % head == 0,
          concat("--head-ranks ", head, " does not divide the ranks of a sequence"),
          concat("there are ", sequence), "Give a divisor of it, or leave it out.");
  const int64_t kv_heads = model.num_key_value_heads;
  require(model.num_attention_heads % head == 0 && (kv_heads % head == 0 || head % kv_heads == 0),
          concat("--head-ranks ", head, " does not divide the heads"),
          concat("the model has ", model.num_attention_heads, ", and ", kv_heads, " of keys"),
          "Give a divisor of both.");
  const int64_t ring = sequence / head;
  const bool is_double = attention == AttentionWord::double_ring;
  require(is_double || !inner_ranks || *inner_ranks == ring,
          concat("--inner-ranks ", inner_ranks.value_or(0), " has no use"),
          "only a double ring has an inner ring", "Add --attention double-ring, or leave it out.");
  require(!is_double || inner_ranks, "--attention double-ring has no inner ring",
          "it is one ring of several rings", "Add --inner-ranks with the ranks of a node.");
  const int64_t inner = inner_ranks.value_or(ring);
  require(ring % inner == 0, concat("--inner-ranks ", inner, " does not divide the ring"),
          concat("it has ", ring, " positions"), "Give a divisor of it.");
  MeshShape shape;
  shape.data = static_cast<int>(world / sequence);
  shape.outer = static_cast<int>(ring / inner);
  shape.inner = static_cast<int>(inner);
  shape.head = static_cast<int>(head);
  return shape;
}

std::string name_of(AttentionStrategy strategy) {
  switch (strategy) {
    case AttentionStrategy::ring:
      return "ring";
    case AttentionStrategy::double_ring:
      return "double-ring";
    case AttentionStrategy::all_gather:
      return "all-gather";
  }
  return "?";
}

std::string name_of(RingBackward backward) {
  return backward == RingBackward::keys ? "keys" : "queries";
}

std::string name_of(ShardState state) {
  return state == ShardState::optimizer ? "optimizer" : "gradients";
}

}  // namespace ringbolt
