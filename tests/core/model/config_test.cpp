#include "core/model/config.h"

#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace ringbolt {
namespace {

ModelConfig good() { return model_shape("dim=64,layers=2,heads=4,kv-heads=2,vocab=100"); }

/// What validate() says; empty if it is content.
std::string complaint(const ModelConfig& config) {
  try {
    validate(config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
}

TEST(ModelConfig, AcceptsWhatCanBe) {
  EXPECT_EQ(complaint(good()), "");
  ModelConfig config = good();
  config.head_dim = 256;
  EXPECT_EQ(complaint(config), "");
}

TEST(ModelConfig, NamesEachContradiction) {
  const auto with = [](auto change) {
    ModelConfig config = good();
    change(config);
    return complaint(config);
  };
  expect_words(with([](ModelConfig& c) { c.vocab_size = 0; }), {"vocab_size", "0", "positive"});
  expect_words(with([](ModelConfig& c) { c.num_hidden_layers = -3; }), {"num_hidden_layers", "-3"});
  expect_words(with([](ModelConfig& c) { c.num_key_value_heads = 3; }),
               {"4 attention heads", "3 key/value heads"});
  expect_words(with([](ModelConfig& c) { c.head_dim = 15; }), {"15", "odd"});
  expect_words(with([](ModelConfig& c) { c.head_dim = 258; }), {"258", "256"});
  expect_words(with([](ModelConfig& c) { c.rms_norm_eps = 0; }), {"rms_norm_eps"});
  expect_words(with([](ModelConfig& c) { c.rope_theta = 1; }), {"rotary base"});
  expect_words(
      with([](ModelConfig& c) { c.rope_scaling = {.method = RopeMethod::linear, .factor = 0.5}; }),
      {"linear", "0.5"});
}

TEST(ModelConfig, RefusesNumbersThatAreNone) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (double ModelConfig::*member : {&ModelConfig::rms_norm_eps, &ModelConfig::rope_theta}) {
    ModelConfig config = good();
    config.*member = nan;
    EXPECT_NE(complaint(config), "");
  }
  for (double RopeScaling::*member :
       {&RopeScaling::factor, &RopeScaling::beta_fast, &RopeScaling::low_freq_factor,
        &RopeScaling::partial_rotary_factor, &RopeScaling::rotated_share}) {
    ModelConfig config = good();
    config.rope_scaling.*member = nan;
    EXPECT_NE(complaint(config), "");
  }
}

TEST(ModelShape, KnowsEachNameItLists) {
  EXPECT_GE(model_shape_names().size(), 5U);
  for (const std::string& name : model_shape_names()) EXPECT_NO_THROW(model_shape(name)) << name;
  EXPECT_EQ(model_shape("llama2-7b").parameter_count(), 6738415616);
}

TEST(ModelShape, IsSpelledOutOrChanged) {
  const ModelConfig config =
      model_shape("dim=96,layers=3,heads=6,kv-heads=2,ffn=100,head-dim=8,vocab=77");
  EXPECT_EQ(config.hidden_size, 96);
  EXPECT_EQ(config.intermediate_size, 100);
  EXPECT_EQ(config.query_width(), 48);
  EXPECT_EQ(config.key_value_width(), 16);
  EXPECT_EQ(config.vocab_size, 77);
  EXPECT_EQ(model_shape("30m,vocab=259").vocab_size, 259);
  const ModelConfig changed = model_shape("30m,tied,qkv-bias,norm-eps=1e-6");
  EXPECT_TRUE(changed.tie_word_embeddings && changed.qkv_bias);
  EXPECT_DOUBLE_EQ(changed.rms_norm_eps, 1e-6);
  EXPECT_FALSE(model_shape("30m").tie_word_embeddings || model_shape("30m").qkv_bias);
  EXPECT_EQ(model_shape("30m,vocab=259").hidden_size, model_shape("30m").hidden_size);
}

TEST(ModelShape, RefusesWhatItCannotRead) {
  for (const char* text :
       {"", "huge", "dim=64", "dim=64,heads=4", "dim=64,layers=2,heads=four",
        "dim=64,layers=2,heads=4x", "dim=-64,layers=2,heads=4", "dim=64,layers=2,heads=4,depth=2",
        "dim=,layers=2,heads=4", "dim=99999999999999999999,layers=2,heads=4",
        "dim=64,layers=2,heads=4,kv-heads=3"}) {
    EXPECT_THROW(model_shape(text), UsageError) << "'" << text << "'";
  }
}

TEST(ParameterGroups, TileTheirBuffersWithoutGapsAndNameEachTensorOnce) {
  for (bool tied : {false, true}) {
    for (bool bias : {false, true}) {
      ModelConfig config = good();
      config.tie_word_embeddings = tied;
      config.qkv_bias = bias;
      const std::vector<ParameterGroup> groups = parameter_groups(config);
      ASSERT_EQ(groups.size(), 4U);
      std::set<std::string> names;
      int64_t total = 0;
      for (const ParameterGroup& group : groups) {
        int64_t next = 0;
        for (const ParameterSpec& spec : group.tensors) {
          EXPECT_EQ(spec.offset, next) << spec.name;
          EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
          EXPECT_EQ(spec.decay == Decay::yes, spec.shape.rank() == 2) << spec.name;
          next += spec.shape.elements();
        }
        EXPECT_EQ(next, group.elements) << group.name;
        total += group.elements;
      }
      EXPECT_EQ(total, config.parameter_count());
      EXPECT_EQ(names.contains("lm_head.weight"), !tied);
      EXPECT_EQ(names.contains("model.layers.1.self_attn.k_proj.bias"), bias);
      EXPECT_EQ(names.size(), 1U + 2 * (bias ? 12 : 9) + (tied ? 1 : 2));
    }
  }
}

TEST(ParameterGroups, HaveClexsNetworkLastInF32WithoutDecay) {
  ModelConfig config = good();
  config.rope_scaling = {.method = RopeMethod::clex, .factor = 4};
  config.rope_scaling.param_factor = 3;
  const std::vector<ParameterGroup> groups = parameter_groups(config);
  const auto index = static_cast<size_t>(rotary_group(config));
  ASSERT_EQ(groups.size(), index + 1);
  const ParameterGroup& network = groups[index];
  EXPECT_EQ(network.dtype(DType::bf16), DType::f32);
  EXPECT_EQ(groups[index - 1].dtype(DType::bf16), DType::bf16);
  ASSERT_EQ(network.tensors.size(), 2U);
  const int64_t pairs = config.head_dim / 2;
  EXPECT_EQ(network.tensors[0].shape, (Shape{pairs, 6 * pairs}));
  EXPECT_EQ(network.tensors[1].shape, (Shape{6 * pairs, pairs}));
  for (const ParameterSpec& spec : network.tensors) {
    EXPECT_EQ(spec.decay, Decay::no);
    EXPECT_EQ(spec.owner, ParameterOwner::rotary_method);
    EXPECT_EQ(spec.name.find("model.clex_layer.proj_func.ode_"), 0U);
  }
  config.rope_scaling.method = RopeMethod::dynamic_ntk;
  EXPECT_EQ(parameter_groups(config).size(), index);
}

TEST(ParameterGroups, KeepFusedMatricesTogether) {
  const ModelConfig config = good();
  const std::vector<ParameterSpec> layer = parameter_groups(config)[1].tensors;
  const auto offset = [&](const std::string& name) {
    for (const ParameterSpec& spec : layer) {
      if (spec.name == "model.layers.0." + name + ".weight") return spec.offset;
    }
    return int64_t{-1};
  };
  EXPECT_EQ(offset("self_attn.v_proj") - offset("self_attn.k_proj"),
            config.key_value_width() * config.hidden_size);
  EXPECT_EQ(offset("mlp.up_proj") - offset("mlp.gate_proj"),
            config.intermediate_size * config.hidden_size);
}

}  // namespace
}  // namespace ringbolt
