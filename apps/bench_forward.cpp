#include "apps/bench_forward.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "apps/attention_choice.h"
#include "apps/memory_check.h"
#include "apps/rank_device.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/bench/random_data.h"
#include "io/table.h"
#include "parallel/bench_forward.h"
#include "parallel/placement.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

/// "2.88e17".
std::string scientific(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2e", value);
  std::string result(text.data());
  if (const size_t plus = result.find("e+"); plus != std::string::npos) result.erase(plus + 1, 1);
  return result;
}

/// One type of one model on these ranks.
class ForwardRun {
 public:
  ForwardRun(const ForwardBench& bench, DType dtype, Backend& backend, Communicator& world,
             Communicator& tensors)
      : bench_(bench),
        dtype_(dtype),
        backend_(backend),
        world_(world),
        decision_(
            decide_attention(bench.mesh, mesh_of(bench, world), tensors, backend, bench.config,
                             {StorePurpose::inference, dtype, tokens(), bench.attention_dtype})),
        shape_(shape_that_fits(available_bytes(bench.device, bench.mesh.ranks, world))),
        mesh_(world, tensors, decision_.mesh) {}

  void report_to(RankReport& report) {
    const ForwardRates before = rates();
    const ForwardTiming timing = time();
    const ForwardRates after = rates();
    const ForwardFloor floor{model_forward_flops(bench_.config, tokens()), higher(before, after),
                             world_.size()};
    report.text += text(timing, floor) + "\n";
    report.rows.push_back(json(timing, floor)
                              .set("attention_flops_per_second_before", before.attention)
                              .set("attention_flops_per_second_after", after.attention));
  }

 private:
  int64_t tokens() const { return bench_.config.max_position_embeddings; }

  static MeshShape mesh_of(const ForwardBench& bench, Communicator& world) {
    const MeshShape mesh = bench.mesh.mesh(world.size(), bench.config);
    if (mesh.data > 1) {
      throw UsageError(message(concat("--sequence-ranks ", mesh.sequence(), " leaves ranks idle"),
                               concat("there are ", world.size(), ", and one sequence"),
                               "Leave it out: all ranks share the sequence."));
    }
    return mesh;
  }

  EvaluationShape shape_that_fits(int64_t available) const {
    EvaluationShape shape =
        evaluation_shape(bench_.config, dtype_, bench_.mesh, decision_, bench_.device);
    shape.context_length = tokens();
    shape.piece_tokens = piece_tokens_that_fit(shape, available);
    return shape;
  }

  bool on_gpu() const { return bench_.device.device == Device::cuda; }

  /// At lengths where a device has about the rate of the longest; shorter sequences at their own.
  ForwardRates rates() {
    const int64_t attention = on_gpu() ? 131072 : 8192;
    const int64_t matrices = on_gpu() ? 8192 : 512;
    return measure_forward_rates(backend_, world_, bench_.config, dtype_, bench_.attention_dtype,
                                 std::min(tokens(), attention), std::min(tokens(), matrices),
                                 bench_.seconds);
  }

  ForwardTiming time() {
    ResidentParameters parameters(backend_, bench_.config, dtype_, StorePurpose::inference);
    fill_random_weights(backend_, parameters);
    Transformer model(backend_, parameters, shape_.piece_tokens);
    const auto placement = make_placement(backend_, mesh_, bench_.mesh.layout, decision_.choice);
    const RotaryMethod method(bench_.config);
    const RotaryTables rotary = rotary_tables(backend_, method, tokens());
    const int64_t short_length = std::min(tokens(), on_gpu() ? shape_.piece_tokens : 256);
    static_cast<void>(time_forward(backend_, world_, model, *placement, rotary, short_length, {}));
    Progress progress(concat("forward, ", name_of(dtype_)), bench_.config.num_hidden_layers,
                      "layers", bench_.progress);
    ForwardTiming timing =
        time_forward(backend_, world_, model, *placement, rotary, tokens(),
                     {.seconds = bench_.seconds}, [&](int64_t done) { progress.update(done); });
    progress.finish();
    return timing;
  }

  /// Attention's share of the floor in a layer's time.
  double layer_share(const ForwardTiming& timing, const ForwardFloor& floor) const {
    const auto layers = static_cast<double>(bench_.config.num_hidden_layers);
    return floor.attention_seconds() / layers / median(timing.layer_seconds);
  }

  std::string text(const ForwardTiming& t, const ForwardFloor& floor) const {
    const auto [fastest, slowest] =
        std::minmax_element(t.layer_seconds.begin(), t.layer_seconds.end());
    const auto percent = [](double share) { return fixed(100 * share, 1) + " %"; };
    Table table(
        {"floor of", "FLOP", "GFLOP/s a rank", "measured at", "seconds", "share of the time"});
    table.add_row(
        {"attention", scientific(floor.flops.attention), fixed(floor.rates.attention / 1e9, 1),
         format_grouped(floor.rates.attention_tokens) + " tokens",
         fixed(floor.attention_seconds(), 2), percent(floor.attention_seconds() / t.seconds)});
    table.add_row({"and products", scientific(floor.flops.matrices),
                   fixed(floor.rates.matrices / 1e9, 1),
                   format_grouped(floor.rates.matrix_tokens) + " tokens",
                   fixed(floor.seconds_with_products(), 2),
                   percent(floor.seconds_with_products() / t.seconds)});
    return concat(bench_.name, ", ", name_of(dtype_), ", attention in ",
                  name_of(bench_.attention_dtype, dtype_),
                  ": random weights, for time and memory alone\n",
                  world_.size() > 1 ? describe(bench_.mesh, decision_) + "\n" : "",
                  format_grouped(tokens()), " tokens forward: ", fixed(t.seconds, 2), " s, ",
                  format_rate(static_cast<double>(tokens()) / t.seconds), " tokens/s; ",
                  t.layer_seconds.size(), " layers of ", fixed(median(t.layer_seconds), 3), " s (",
                  fixed(*fastest, 3), " - ", fixed(*slowest, 3),
                  "), of which attention's floor is ", percent(layer_share(t, floor)), "\n",
                  memory_line(evaluation_memory(shape_), t.peak_bytes), "\n\n", table.str());
  }

  Json json(const ForwardTiming& t, const ForwardFloor& floor) const {
    const auto [fastest, slowest] =
        std::minmax_element(t.layer_seconds.begin(), t.layer_seconds.end());
    return Json::object()
        .set("name", "forward")
        .set("model", bench_.name)
        .set("weights", "random")
        .set("dtype", name_of(dtype_))
        .set("attention_dtype", name_of(bench_.attention_dtype, dtype_))
        .set("ranks", to_json(bench_.mesh, decision_))
        .set("tokens", tokens())
        .set("layers", bench_.config.num_hidden_layers)
        .set("piece_tokens", shape_.piece_tokens)
        .set("loss", t.loss)
        .set("passes", t.passes)
        .set("seconds", t.seconds)
        .set("tokens_per_second", static_cast<double>(tokens()) / t.seconds)
        .set("rotary_table_seconds", t.table_seconds)
        .set("layer_median_seconds", median(t.layer_seconds))
        .set("layer_min_seconds", *fastest)
        .set("layer_max_seconds", *slowest)
        .set("attention_flops", floor.flops.attention)
        .set("attention_flops_per_second", floor.rates.attention)
        .set("timed_attention_tokens", floor.rates.attention_tokens)
        .set("matrix_flops", floor.flops.matrices)
        .set("matrix_flops_per_second", floor.rates.matrices)
        .set("timed_matrix_tokens", floor.rates.matrix_tokens)
        .set("floor_seconds", floor.attention_seconds())
        .set("floor_share", floor.attention_seconds() / t.seconds)
        .set("floor_share_of_layer", layer_share(t, floor))
        .set("floor_with_products_seconds", floor.seconds_with_products())
        .set("floor_with_products_share", floor.seconds_with_products() / t.seconds)
        .set("memory", memory_json(evaluation_memory(shape_), t.peak_bytes));
  }

  const ForwardBench& bench_;
  DType dtype_;
  Backend& backend_;
  Communicator& world_;
  AttentionDecision decision_;
  EvaluationShape shape_;
  Mesh mesh_;
};

}  // namespace

RankReport bench_forward(const ForwardBench& bench, Backend& backend, Communicator& world,
                         Communicator& tensors) {
  RankReport report;
  for (const DType dtype : bench.dtypes)
    ForwardRun(bench, dtype, backend, world, tensors).report_to(report);
  return report;
}

}  // namespace ringbolt
