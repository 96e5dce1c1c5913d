// Predicted step times: what can be computed by hand, and what a choice among divisions of the
// ranks must keep to. How near they come to runs, tests/benchmarks/plan_check.sh shows.
#include "parallel/step_time.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/bench/workloads.h"

namespace ringbolt {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TrainingShape shape(const std::string& model, int64_t length, MeshShape mesh = {}) {
  TrainingShape c;
  c.model = model_shape(model);
  c.context_length = length;
  c.mesh = mesh;
  if (mesh.world() > 1) c.sharding = ShardState::optimizer;
  return c;
}

/// Round figures; links so fast that they do not count unless a test says so.
DeviceRates rates() {
  DeviceRates r{};
  r.matmul_flops = 7e14;
  r.copy_bytes_per_second = 4e12;
  r.attention.forward_flops = 6e14;
  r.attention.backward_flops = 5e14;
  r.attention.inner = r.attention.outer = {kInfinity, 0};
  return r;
}

TEST(StepTime, CountsTheProductsOfATrainingStep) {
  TrainingShape c = shape("30m", 2000);
  c.batch_size = 3;
  const DeviceRates r = rates();
  const TrainingFlops flops = training_flops(c.model, 3, 2000);
  const double attention =
      12.0 * static_cast<double>(c.model.query_width() * c.model.num_hidden_layers * 3) * 2000 *
      2001 / 2;
  const StepTime time = predict_step(c, r);
  EXPECT_NEAR(time.products, (flops.causal - attention) / r.matmul_flops, 1e-12 * time.products);
  // A third of the projections' and feed-forward's work comes again, but for the product after
  // SwiGLU.
  c.recompute = Recompute::block;
  const auto e = static_cast<double>(c.model.hidden_size);
  const double again =
      6000 * 2 * e *
      static_cast<double>(c.model.num_hidden_layers *
                          (2 * c.model.query_width() + 2 * c.model.key_value_width() +
                           2 * c.model.intermediate_size));
  EXPECT_NEAR(predict_step(c, r).products - time.products, again / r.matmul_flops,
              1e-9 * time.products);
}

TEST(StepTime, CountsTheAttentionOfEveryLayer) {
  TrainingShape c = shape("30m", 4096);
  const DeviceRates r = rates();
  const double pairs = 4096.0 * 4096 / 2;
  const double layers = static_cast<double>(c.model.num_hidden_layers);
  const double width = static_cast<double>(c.model.query_width());
  const double forward = layers * 4 * width * pairs / r.attention.forward_flops;
  const double backward = layers * 10 * width * pairs / r.attention.backward_flops;
  EXPECT_NEAR(predict_step(c, r).attention, forward + backward, 1e-12);
  c.recompute = Recompute::block_keep_attention;
  EXPECT_NEAR(predict_step(c, r).attention, forward + backward, 1e-12);
  c.recompute = Recompute::block;
  EXPECT_NEAR(predict_step(c, r).attention, 2 * forward + backward, 1e-12);
}

TEST(StepTime, OfRanksWithoutCommunicationIsTheirShare) {
  const double whole = predict_step(shape("llama2-7b", 16384), rates()).total();
  for (const MeshShape mesh :
       {MeshShape{.inner = 4}, MeshShape{.inner = 2, .head = 2}, MeshShape{.head = 4}}) {
    const StepTime time = predict_step(shape("llama2-7b", 16384, mesh), rates());
    EXPECT_EQ(time.exposed, 0);
    EXPECT_EQ(time.reduction, 0);
    EXPECT_NEAR(time.total(), whole / 4, 1e-9 * whole);
  }
}

// What is waited for is a difference of two sums: where all is hidden it is 0, not a rounding below
// it, which would shorten the step and be shown as "-0.0%".
TEST(StepTime, WaitsForNothingWhereTransfersAreHidden) {
  DeviceRates r = rates();
  r.attention.inner = {4e11, 5e-6};
  r.attention.outer = {5e10, 1e-5};
  r.attention.ranks_per_node = 8;
  for (int ring = 2; ring <= 32; ++ring) {  // beyond, blocks are too short to hide theirs
    const StepTime time = predict_step(shape("llama2-13b", 1 << 20, {.inner = ring}), r);
    EXPECT_GE(time.exposed, 0) << "ring " << ring;
    EXPECT_LE(time.exposed, 1e-9 * time.total()) << "ring " << ring;
  }
}

TEST(StepTime, OfTheExchangeIsWhatZeroSays) {
  DeviceRates r = rates();
  r.attention.inner = {1e11, 0};
  r.attention.outer = {1e10, 0};
  r.attention.ranks_per_node = 4;
  const auto parameters = static_cast<double>(model_shape("llama2-7b").parameter_count());
  // f32 gradients out, bf16 weights back; then all of it over the slower link.
  EXPECT_NEAR(predict_step(shape("llama2-7b", 4096, {.data = 4}), r).reduction,
              0.75 * parameters * 6 / 1e11, 1e-9);
  EXPECT_NEAR(predict_step(shape("llama2-7b", 4096, {.data = 8}), r).reduction,
              0.875 * parameters * 6 / 1e10, 1e-9);
  EXPECT_EQ(predict_step(shape("llama2-7b", 4096), r).reduction, 0);
}

TEST(PlanSteps, PutsTheFastestThatFitsFirst) {
  DeviceRates r = rates();
  r.attention.inner = {4e11, 5e-6};
  r.attention.outer = {5e10, 1e-5};
  r.attention.ranks_per_node = 8;
  TrainingShape c = shape("llama2-7b", 1 << 20);
  c.recompute = Recompute::block_keep_attention;
  c.sharding = ShardState::gradients;
  c.gpu = true;
  const int64_t available = int64_t{139} << 30;
  const std::vector<StepCandidate> candidates = plan_steps(c, 16, r, available);
  ASSERT_GT(candidates.size(), 10U);
  EXPECT_LE(candidates.front().memory_bytes, available);
  EXPECT_GE(candidates.front().shape.mesh.sequence(), 8) << "a million tokens do not fit fewer";
  bool fitted = true;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const StepCandidate& s = candidates[i];
    EXPECT_EQ(s.shape.mesh.world(), 16);
    const bool fits = s.memory_bytes <= available;
    EXPECT_TRUE(fitted || !fits) << "what fits comes first";
    if (i > 0 && fits == fitted) {
      EXPECT_LE(s.tokens_per_second(), candidates[i - 1].tokens_per_second());
    }
    fitted = fits;
  }
  // With memory to spare each rank has a sequence of its own: nothing is exchanged for attention.
  EXPECT_EQ(plan_steps(c, 16, r, std::nullopt).front().shape.mesh.data, 16);
}

TEST(PlanSteps, KeepsTheRingWithinANodeWhereTheNetworkIsSlow) {
  DeviceRates r = rates();
  r.attention.inner = {4e11, 5e-6};
  r.attention.outer = {1e9, 1e-5};
  r.attention.ranks_per_node = 8;
  TrainingShape c = shape("llama2-7b", 1 << 17);
  c.recompute = Recompute::block_keep_attention;
  const StepCandidate best = plan_steps(c, 16, r, int64_t{1} << 50).front();
  EXPECT_LE(best.shape.mesh.sequence(), 8);
}

}  // namespace
}  // namespace ringbolt
