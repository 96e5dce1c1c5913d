#include "io/weights.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "core/base/random.h"
#include "io/checkpoint.h"
#include "io/llama2c.h"
#include "tests/io/files.h"
#include "tests/support/data.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::overwrite;
using test::TemporaryFolder;
using testing_support::data_path;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

/// dim 6, hidden 10, 2 layers, 3 heads, 1 kv head, vocabulary 7, length 5: element i of the file's
/// floats is i.
std::string small_file(bool tied) {
  constexpr int64_t kTable = 7 * 6;
  constexpr int64_t kLayer = 6 + 36 + 12 + 12 + 36 + 6 + 3 * 60;
  const int64_t floats = kTable + 2 * kLayer + 6 + 2 * 5 * 1 + (tied ? 0 : kTable);
  std::vector<float> x(static_cast<size_t>(floats));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  return bytes_of(std::vector<int32_t>{6, 10, 2, 3, 1, tied ? 7 : -7, 5}) + bytes_of(x);
}

float first_of(const WeightSource& weights, const std::string& name, int64_t at = 0) {
  std::array<float, 1> x{};
  weights.read(name, at, x);
  return x[0];
}

TEST(Llama2c, FindsEachTensorAtItsPlace) {
  const TemporaryFolder folder;
  for (const bool tied : {true, false}) {
    overwrite(folder / "m.bin", small_file(tied));
    const auto weights = open_weights(folder / "m.bin");
    const ModelConfig& c = weights->config();
    EXPECT_EQ(c.head_dim, 2);
    EXPECT_EQ(c.rotary_pairing, RotaryPairing::interleaved);
    EXPECT_EQ(c.rms_norm_eps, 1e-5);
    EXPECT_EQ(c.rope_theta, 10000.0);
    EXPECT_EQ(c.tie_word_embeddings, tied);
    EXPECT_EQ(first_of(*weights, "model.embed_tokens.weight"), 0.0F);
    int64_t at = 42;
    // Both layers of each tensor lie together.
    const std::vector<std::pair<std::string, int64_t>> order{
        {"input_layernorm", 6},   {"self_attn.q_proj", 36}, {"self_attn.k_proj", 12},
        {"self_attn.v_proj", 12}, {"self_attn.o_proj", 36}, {"post_attention_layernorm", 6},
        {"mlp.gate_proj", 60},    {"mlp.down_proj", 60},    {"mlp.up_proj", 60}};
    for (const auto& [name, elements] : order) {
      for (const std::string layer : {"0", "1"}) {
        EXPECT_EQ(first_of(*weights, "model.layers." + layer + "." + name + ".weight"),
                  static_cast<float>(at))
            << name;
        EXPECT_EQ(
            first_of(*weights, "model.layers." + layer + "." + name + ".weight", elements - 1),
            static_cast<float>(at + elements - 1));
        at += elements;
      }
    }
    EXPECT_EQ(first_of(*weights, "model.norm.weight"), static_cast<float>(at));
    EXPECT_EQ(weights->has("lm_head.weight"), !tied);
    if (!tied) {
      EXPECT_EQ(first_of(*weights, "lm_head.weight"), static_cast<float>(at + 6 + 10));
    }
    for (const ParameterGroup& group : parameter_groups(c)) {
      for (const ParameterSpec& spec : group.tensors)
        EXPECT_TRUE(weights->has(spec.name)) << spec.name;
    }
    std::vector<float> x(3);
    expect_message(error_of([&] { weights->read("model.norm.weight", 4, x); }),
                   {"4 to 7", "model.norm.weight"});
    expect_message(error_of([&] { weights->read("nothing", 0, x); }), {"nothing"});
  }
}

TEST(Llama2c, SaysWhyABrokenFileIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "m.bin";
  const std::string good = small_file(true);
  const auto refusal = [&](const std::string& contents) {
    overwrite(path, contents);
    return error_of([&] { open_weights(path); });
  };
  const auto with_field = [&](size_t field, int32_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + 4 * field, &value, 4);
    return refusal(bad);
  };
  expect_message(error_of([&] { open_weights(folder / "none.bin"); }),
                 {folder / "none.bin", "No such file"});
  expect_message(refusal(""), {path, "empty"});
  expect_message(refusal(good.substr(0, 27)), {path, "27 bytes", "header"});
  expect_message(refusal(good.substr(0, 28)), {path, "has 28", "cut off"});
  expect_message(refusal(good.substr(0, good.size() - 1)), {path, "cut off"});
  expect_message(refusal(good + "x"), {path, "follows"});
  expect_message(with_field(0, 0), {"dim = 0"});
  expect_message(with_field(2, -3), {"layers = -3"});
  expect_message(with_field(2, 2'000'000'000), {"layers = 2000000000"});
  expect_message(with_field(3, 4), {"dim = 6 for 4 heads"});
  expect_message(with_field(4, 2), {path, "3 attention heads"});
  expect_message(with_field(5, INT32_MIN), {"vocabulary = -2147483648"});
  expect_message(with_field(3, 6), {path, "odd"});
  expect_message(refusal(std::string(4000, 'a')), {path, "dim = "});
  expect_message(refusal("GGUF" + std::string(4000, '\1')), {path, "dim = "});
}

TEST(Llama2c, ReadsThePublishedCheckpoints) {
  RINGBOLT_NEEDS_DATA();
  const auto stories = open_weights(data_path("checkpoints/stories260K.bin").string());
  ModelConfig expected = model_shape("260k");
  expected.rotary_pairing = RotaryPairing::interleaved;
  expected.tie_word_embeddings = true;
  EXPECT_EQ(stories->config(), expected);
  const auto tok105 =
      open_weights(data_path("checkpoints/babyllama_tok105_model5000.bin").string());
  EXPECT_EQ(tok105->config().vocab_size, 105);
  EXPECT_EQ(tok105->config().head_dim, 16);
  // Trained weights: norms near 1, matrices small, nothing else than numbers.
  for (const WeightSource* weights : {stories.get(), tok105.get()}) {
    for (const ParameterGroup& group : parameter_groups(weights->config())) {
      for (const ParameterSpec& spec : group.tensors) {
        std::vector<float> x(static_cast<size_t>(spec.shape.elements()));
        weights->read(spec.name, 0, x);
        double squares = 0;
        for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
        const double rms = std::sqrt(squares / static_cast<double>(x.size()));
        EXPECT_GT(rms, 1e-3) << spec.name;
        EXPECT_LT(rms, 10) << spec.name;
      }
    }
  }
}

/// A checkpoint of the tiny shape whose weights are random.
void write_model(const std::string& folder, int64_t step, const std::string& left_out = "") {
  const auto ranks = make_single_communicator();
  CheckpointWriter writer(folder, *ranks, "a test");
  CheckpointInfo info;
  info.model = model_shape("tiny");
  info.step = step;
  for (const ParameterGroup& group : parameter_groups(info.model)) {
    for (const ParameterSpec& spec : group.tensors) {
      if (spec.name == left_out) continue;
      const std::vector<float> x(static_cast<size_t>(spec.shape.elements()),
                                 static_cast<float>(step));
      writer.write("weights/" + spec.name, spec.shape, 0,
                   ConstView::of<float>(x.data(), spec.shape));
    }
  }
  writer.finish(info);
}

TEST(Weights, OpensACheckpointItsIndexOrTheNewestOfARun) {
  const TemporaryFolder folder;
  write_model(checkpoint_folder(folder.path(), 5), 5);
  write_model(checkpoint_folder(folder.path(), 10), 10);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  EXPECT_EQ(first_of(*open_weights(folder / "checkpoint-000005"), name), 5.0F);
  EXPECT_EQ(first_of(*open_weights(folder / "checkpoint-000005/"), name), 5.0F);
  EXPECT_EQ(first_of(*open_weights(folder / "checkpoint-000005/index.h5"), name), 5.0F);
  EXPECT_EQ(first_of(*open_weights(folder.path()), name), 10.0F);
  const auto weights = open_weights(folder.path());
  EXPECT_EQ(weights->config(), model_shape("tiny"));
  EXPECT_NE(weights->description().find("step 10"), std::string::npos);
}

TEST(Weights, RefusesAFolderWithoutAnyAndACheckpointThatLacksOne) {
  const TemporaryFolder folder;
  expect_message(error_of([&] { open_weights(folder.path()); }), {folder.path(), "no index.h5"});
  write_model(folder / "c", 1, "model.norm.weight");
  expect_message(error_of([&] { open_weights(folder / "c"); }),
                 {folder / "c", "model.norm.weight"});
}

}  // namespace
}  // namespace ringbolt
