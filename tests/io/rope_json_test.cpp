// Rotary methods in configurations: Hugging Face's names of all versions, and our own.
#include "io/rope_json.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "io/model_json.h"

namespace ringbolt {
namespace {

ModelConfig llama(int64_t length = 4096) {
  ModelConfig config = model_shape("llama2-7b");
  config.max_position_embeddings = length;
  return config;
}

/// LLaMA-2's configuration with these members on top.
ModelConfig read(const std::string& members, int64_t length = 4096) {
  Json json = to_json(llama(length));
  const Json more = Json::parse(members, "the test");
  for (const auto& [name, value] : more.members()) json.set(name, value);
  return model_from_json(json, "config.json");
}

std::string refusal(const std::string& members) {
  try {
    read(members);
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

TEST(RopeJson, ReadsTheOldAndTheNewNameOfTheKind) {
  const RopeScaling linear{.method = RopeMethod::linear, .factor = 8};
  EXPECT_EQ(read(R"({"rope_scaling": {"type": "linear", "factor": 8}})").rope_scaling, linear);
  EXPECT_EQ(read(R"({"rope_scaling": {"rope_type": "linear", "factor": 8.0}})").rope_scaling,
            linear);
  EXPECT_EQ(read(R"({"rope_scaling": {"type": "yarn", "rope_type": "linear", "factor": 8}})")
                .rope_scaling,
            linear);
  EXPECT_EQ(read(R"({"rope_scaling": {"rope_type": "default"}})").rope_scaling, RopeScaling());
  EXPECT_EQ(read(R"({"rope_scaling": null})").rope_scaling, RopeScaling());
}

TEST(RopeJson, ReadsRopeParametersWithTheBaseInside) {
  const ModelConfig c = read(
      R"({"rope_scaling": null, "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8,
          "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192,
          "partial_rotary_factor": 0.5}})",
      131072);
  EXPECT_EQ(c.rope_theta, 5e5);
  EXPECT_EQ(c.rope_scaling.method, RopeMethod::llama3);
  EXPECT_EQ(c.rope_scaling.factor, 8);
  EXPECT_EQ(c.rope_scaling.original_length, 8192);
  EXPECT_EQ(c.rope_scaling.partial_rotary_factor, 0.5);
}

TEST(RopeJson, YarnWithoutItsOriginalLengthTakesTheModels) {
  const ModelConfig c = read(R"({"rope_scaling": {"type": "yarn", "factor": 4}})", 2048);
  EXPECT_EQ(c.rope_scaling.original_length, 2048);
  EXPECT_EQ(c.rope_scaling.beta_fast, 32);
  EXPECT_TRUE(c.rope_scaling.truncate);
}

TEST(RopeJson, YarnWithoutAFactorExtendsToTheModelsLength) {
  const ModelConfig c = read(
      R"({"rope_scaling": {"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 4096,
          "beta_fast": 16, "truncate": false, "mscale": 0.707, "mscale_all_dim": 1.0}})",
      131072);
  EXPECT_EQ(c.rope_scaling.factor, 32);
  EXPECT_EQ(c.rope_scaling.beta_fast, 16);
  EXPECT_FALSE(c.rope_scaling.truncate);
  EXPECT_EQ(c.rope_scaling.mscale, 0.707);
  EXPECT_EQ(c.rope_scaling.mscale_all_dim, 1.0);
}

std::string ones(int count, const std::string& number) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i == 0 ? "" : ",") + number;
  return "[" + list + "]";
}

TEST(RopeJson, LongRopeFindsItsOriginalLengthBesideTheObject) {
  // As Phi-3's files have it, "su" being the oldest name.
  for (const char* kind : {"su", "longrope"}) {
    const ModelConfig c =
        read(concat(R"({"original_max_position_embeddings": 4096, "rope_scaling": {"type": ")",
                    kind, R"(", "short_factor": )", ones(64, "1.05"), R"(, "long_factor": )",
                    ones(64, "2.5"), "}}"),
             131072);
    EXPECT_EQ(c.rope_scaling.method, RopeMethod::longrope);
    EXPECT_EQ(c.rope_scaling.original_length, 4096);
    EXPECT_EQ(c.rope_scaling.factor, 32);
    EXPECT_EQ(c.rope_scaling.long_factor, std::vector<double>(64, 2.5));
  }
  EXPECT_NE(refusal(concat(R"({"rope_scaling": {"type": "longrope", "factor": 4, "short_factor": )",
                           ones(63, "1"), R"(, "long_factor": )", ones(64, "1"), "}}"))
                .find("short_factor has 63 numbers"),
            std::string::npos);
}

TEST(RopeJson, TheOriginalLengthThatIsGivenCountsNotTheModels) {
  // transformers 4 took max_position_embeddings for it, which files of extended models have raised.
  for (
      const char* place :
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 4096}})",
       R"({"original_max_position_embeddings": 4096, "rope_scaling": {"rope_type": "yarn", "factor": 16}})"}) {
    EXPECT_EQ(read(place, 65536).rope_scaling.original_length, 4096) << place;
    EXPECT_EQ(read(place, 65536).rope_original_length(), 4096) << place;
  }
  EXPECT_EQ(
      read(R"({"rope_scaling": {"type": "yarn", "factor": 16}})", 65536).rope_original_length(),
      65536);
}

TEST(RopeJson, PartialRotationStandsBesideTheObjectOrInIt) {
  EXPECT_EQ(read(R"({"partial_rotary_factor": 0.25, "rope_scaling": null})")
                .rope_scaling.partial_rotary_factor,
            0.25);
  EXPECT_EQ(
      read(R"({"partial_rotary_factor": 0.25, "rope_scaling": {"type": "linear", "factor": 2}})")
          .rope_scaling.partial_rotary_factor,
      0.25);
  EXPECT_EQ(read(R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})")
                .rope_scaling.partial_rotary_factor,
            0.25);
}

TEST(RopeJson, AnAttentionFactorIsKeptAsGivenAndAbsentOtherwise) {
  const auto factor = [](const std::string& more) {
    return read(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4)" + more + "}}")
        .rope_scaling.attention_factor;
  };
  EXPECT_EQ(factor(R"(, "attention_factor": 1.0)"), 1.0);
  EXPECT_EQ(factor(R"(, "attention_factor": null)"), std::nullopt);
  EXPECT_EQ(factor(""), std::nullopt);
}

TEST(RopeJson, DynamicRefersToTheModelsLength) {
  const RopeScaling s =
      read(R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})").rope_scaling;
  EXPECT_EQ(s.method, RopeMethod::dynamic_ntk);
  EXPECT_EQ(s.original_length, 4096);
}

TEST(RopeJson, GivesBackEveryMethod) {
  int compared = 0;
  for (const std::string& name : rope_method_names()) {
    ModelConfig c = llama();
    RopeScaling& s = c.rope_scaling;
    s.method = rope_method(name);
    if (s.method != RopeMethod::none) s.factor = 3;
    s.original_length = 1024;
    s.attention_factor = 1.125;
    s.beta_fast = 30;
    s.beta_slow = 2;
    s.ramp = YarnRamp::rotations;
    s.truncate = false;
    s.mscale = 0.5;
    s.mscale_all_dim = 0.75;
    s.low_freq_factor = 2;
    s.high_freq_factor = 3;
    s.interpolated_dimensions = 60;
    s.window = 77;
    s.group = 3;
    s.resonance = true;
    s.partial_rotary_factor = 0.5;
    s.rotated_share = 0.75;
    s.rotated_pairs = RotatedPairs::lowest;
    s.log_scale = LogScale::clipped;
    if (s.method == RopeMethod::clex) {
      s.param_factor = 2;
      s.clex_activation = ClexActivation::silu;
      s.time_step = 0.05;
    }
    if (s.method == RopeMethod::longrope) {
      s.short_factor.assign(32, 1.5);
      s.long_factor.assign(32, 2.25);
    }
    EXPECT_EQ(model_from_json(Json::parse(to_json(c).dump(), "x"), "x"), c) << name;
    Json with_parameters = to_json(llama());
    with_parameters.set("rope_parameters", rope_parameters_json(c));
    EXPECT_EQ(model_from_json(with_parameters, "x").rope_scaling, s) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 17);
}

TEST(RopeJson, WritesWhatHuggingFaceReads) {
  ModelConfig c = llama();
  c.rope_theta = 5e5;
  c.rope_scaling = {.method = RopeMethod::llama3, .factor = 8, .original_length = 8192};
  EXPECT_EQ(
      rope_scaling_json(c).dump(),
      R"({"rope_type":"llama3","type":"llama3","factor":8.0,"original_max_position_embeddings":8192,)"
      R"("low_freq_factor":1.0,"high_freq_factor":4.0})");
  c.rope_scaling = {.method = RopeMethod::yarn, .factor = 4, .original_length = 4096};
  EXPECT_EQ(rope_parameters_json(c).dump(),
            R"({"rope_type":"yarn","rope_theta":500000.0,"factor":4.0,)"
            R"("original_max_position_embeddings":4096})");
  EXPECT_TRUE(rope_scaling_json(llama()).is_null());
}

TEST(RopeJson, ReadsAndWritesClexAsItWasReleased) {
  const RopeScaling s =
      read(
          R"({"rope_scaling": {"type": "clex", "max_factor": 16, "param_factor": 2, "act": "silu", "time_dt": 0.02}})")
          .rope_scaling;
  EXPECT_EQ(s.method, RopeMethod::clex);
  EXPECT_EQ(s.factor, 16);
  EXPECT_EQ(s.param_factor, 2);
  EXPECT_EQ(s.clex_activation, ClexActivation::silu);
  EXPECT_EQ(s.time_step, 0.02);
  EXPECT_EQ(s.original_length, 4096);
  EXPECT_EQ(read(R"({"rope_scaling": {"type": "clex", "factor": 8}})").rope_scaling.factor, 8);
  ModelConfig c = llama();
  c.rope_scaling = {.method = RopeMethod::clex, .factor = 16};
  EXPECT_EQ(
      rope_scaling_json(c).dump(),
      R"({"rope_type":"clex","type":"clex","max_factor":16,"param_factor":1,"act":"tanh","time_dt":0.01})");
  EXPECT_NE(
      refusal(R"({"rope_scaling": {"type": "clex", "max_factor": 4, "act": "relu"}})").find("relu"),
      std::string::npos);
  EXPECT_NE(refusal(R"({"rope_scaling": {"type": "clex", "max_factor": 4, "time_dt": 0}})")
                .find("time_dt"),
            std::string::npos);
}

TEST(RopeJson, ReadsTheConfigurationsOfOlderCheckpoints) {
  // As version 0.1 wrote them, with its linear factor as the only method.
  const ModelConfig c = model_from_json(
      Json::parse(
          R"({"model_type":"llama","vocab_size":259,"hidden_size":64,"intermediate_size":192,"num_hidden_layers":2,
              "num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":128,
              "hidden_act":"silu","rms_norm_eps":1e-5,"rope_theta":10000.0,
              "rope_scaling":{"type":"linear","factor":8.5},"tie_word_embeddings":false,
              "ringbolt_rotary_pairing":"interleaved"})",
          "index.h5"),
      "index.h5");
  EXPECT_EQ(c.rope_scaling, (RopeScaling{.method = RopeMethod::linear, .factor = 8.5}));
}

TEST(RopeJson, RefusesWhatItDoesNotKnow) {
  const auto expect = [](const std::string& members, const std::vector<std::string>& words) {
    const std::string text = refusal(members);
    for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << text;
  };
  expect(R"({"rope_scaling": {"type": "yarm", "factor": 4}})", {"config.json", "yarm", "yarn"});
  expect(R"({"rope_scaling": {"type": "yarn", "factor": 4, "beta_fest": 16}})",
         {"beta_fest", "beta_fast"});
  expect(R"({"rope_scaling": {"type": "linear"}})", {"factor is missing"});
  expect(R"({"rope_scaling": {"type": "llama3", "factor": 8}})",
         {"original_max_position_embeddings is missing"});
  expect(R"({"rope_scaling": {"type": "linear", "factor": "8"}})", {"factor", "a text"});
  expect(R"({"rope_scaling": {"type": "linear", "factor": 0.5}})", {"0.5"});
  expect(R"({"rope_scaling": {"type": "yarn", "factor": 4, "log_scale": "half"}})",
         {"log_scale", "half", "clipped"});
  expect(R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
         {"full_attention", "layer"});
  expect(R"({"rope_scaling": 3})", {"not a JSON object"});
}

}  // namespace
}  // namespace ringbolt
