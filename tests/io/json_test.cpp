#include "io/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "io/model_json.h"
#include "tests/io/files.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;

TEST(Json, WritesWhatItReadsInTheSameOrder) {
  const std::string text =
      R"({"z":1,"a":[true,null,"caf\u00e9",-2.5,1e-300],"big":9007199254740993,"nested":{"x":{}},"empty":[]})";
  const Json json = Json::parse(text, "a test");
  EXPECT_EQ(json.dump(),
            "{\"z\":1,\"a\":[true,null,\"caf\xC3\xA9\",-2.5,1e-300],\"big\":9007199254740993,"
            "\"nested\":{\"x\":{}},\"empty\":[]}");
  EXPECT_EQ(Json::parse(json.dump(2), "a test"), json);
  EXPECT_EQ(json.at("big").as_integer(), 9007199254740993);
  EXPECT_EQ(json.at("a").at(2).as_text(), "caf\xC3\xA9");
  EXPECT_EQ(json.at("a").at(3).as_real(), -2.5);
  EXPECT_EQ(json.find("none"), nullptr);
  EXPECT_EQ(json.at("a").size(), 5U);
}

TEST(Json, KeepsEveryBitOfANumber) {
  for (const double x :
       {0.1, 1.0 / 3, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 3.0}) {
    EXPECT_EQ(Json::parse(Json(x).dump(), "a test").as_real(), x);
  }
  EXPECT_EQ(Json(std::nan("")).dump(), "null");
  EXPECT_EQ(Json(std::numeric_limits<int64_t>::min()).dump(), "-9223372036854775808");
  EXPECT_EQ(Json::parse("18446744073709551615", "a test").as_real(), 0x1p64);
  EXPECT_EQ(Json(3.0).as_integer(), 3);
  EXPECT_EQ(Json(size_t{7}).as_real(), 7.0);
}

TEST(Json, BuildsObjectsAndLists) {
  Json json;
  json.set("b", 1).set("a", Json().push(1.5).push("x")).set("b", false);
  EXPECT_EQ(json.dump(), R"({"b":false,"a":[1.5,"x"]})");
  EXPECT_EQ(Json("bytes \xFF here").dump(), "\"bytes \xEF\xBF\xBD here\"");
}

TEST(Json, NamesFileAndPositionOfAMistake) {
  const TemporaryFolder folder;
  const std::string path = folder / "config.json";
  test::overwrite(path, "{\n  \"a\": 1,\n  \"b\": }\n");
  expect_message(error_of([&] { read_json_file(path); }), {path, "line 3, column 8"});
  test::overwrite(path, "");
  expect_message(error_of([&] { read_json_file(path); }), {path, "line 1, column 1"});
  test::overwrite(path, "{\"a\": 1} x");
  expect_message(error_of([&] { read_json_file(path); }), {path, "line 1, column 10"});
  expect_message(error_of([&] { read_json_file(folder / "none.json"); }),
                 {folder / "none.json", "No such file"});
  expect_message(error_of<UsageError>([] { Json("x").as_integer(); }),
                 {"a text", "a whole number"});
  expect_message(error_of<UsageError>([] { Json(1.5).as_integer(); }), {"a whole number"});
  expect_message(error_of<UsageError>([] { Json::object().at("k"); }), {"'k'"});
}

TEST(Json, WritesFilesWholeOrNotAtAll) {
  const TemporaryFolder folder;
  write_json_file(folder / "a.json", Json().set("x", 1));
  EXPECT_EQ(read_whole_file(folder / "a.json"), "{\n  \"x\": 1\n}\n");
  expect_message(error_of([&] { write_json_file(folder / "no/a.json", Json()); }),
                 {"no/a.json", "No such file"});
  expect_message(error_of([&] { write_json_file(folder.path(), Json()); }),
                 {folder.path(), "directory"});
  const test::SmallDisk disk(16);
  if (!disk.mounted()) GTEST_SKIP() << "NOT TESTED: this user may not mount a small disk";
  write_json_file(disk / "a.json", Json("old"));
  expect_message(
      error_of([&] { write_json_file(disk / "a.json", Json(std::string(100'000, 'x'))); }),
      {disk / "a.json", "No space left"});
  EXPECT_EQ(read_json_file(disk / "a.json").as_text(), "old");
  EXPECT_FALSE(std::filesystem::exists(disk / "a.json.partial"));
}

// --- model configurations ------------------------------------------------------------------------

TEST(ModelJson, GivesBackEveryModel) {
  for (const std::string& name : model_shape_names()) {
    ModelConfig c = model_shape(name);
    for (const bool other : {false, true}) {
      if (other) {
        c.head_dim = 48;
        c.rope_theta = 1234567.25;
        c.rope_scaling = {.method = RopeMethod::linear, .factor = 8.5};
        c.rotary_pairing = RotaryPairing::interleaved;
        c.tie_word_embeddings = true;
        c.qkv_bias = true;
        c.rms_norm_eps = 1e-6;
      }
      EXPECT_EQ(model_from_json(Json::parse(to_json(c).dump(), "x"), "x"), c) << name;
    }
  }
}

TEST(ModelJson, ReadsHuggingFacesConfigurations) {
  // The members of TinyLlama-1.1B's config.json that matter, and some that do not.
  const char* text =
      R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4,
    "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "vocab_size": 32000})";
  EXPECT_EQ(model_from_json(Json::parse(text, "x"), "x"), model_shape("tinyllama-1.1b"));
  Json json = Json::parse(text, "x");
  json.set("rope_scaling", Json().set("type", "linear").set("factor", 4));
  EXPECT_EQ(model_from_json(json, "x").rope_scaling,
            (RopeScaling{.method = RopeMethod::linear, .factor = 4}));
}

TEST(ModelJson, NamesTheMemberThatIsWrong) {
  const Json good = to_json(model_shape("tiny"));
  const auto refusal = [&](const std::string& name, Json value) {
    Json json = good;
    json.set(name, std::move(value));
    return error_of([&] { model_from_json(json, "dir/config.json"); });
  };
  expect_message(refusal("hidden_size", "64"), {"dir/config.json", "hidden_size", "a text"});
  expect_message(refusal("vocab_size", Json()), {"vocab_size is missing"});
  expect_message(refusal("num_key_value_heads", 3), {"dir/config.json", "3 key/value heads"});
  expect_message(refusal("num_attention_heads", 0), {"num_attention_heads is 0"});
  expect_message(refusal("rope_scaling", Json().set("rope_type", "yarm")), {"yarm", "yarn"});
  expect_message(refusal("model_type", "gpt2"), {"gpt2"});
  expect_message(refusal("hidden_act", "gelu"), {"gelu"});
  expect_message(refusal("attention_bias", true), {"attention_bias"});
  expect_message(refusal("ringbolt_rotary_pairing", "sideways"), {"sideways"});
  expect_message(error_of([] { model_from_json(Json(3), "x"); }), {"not a JSON object"});
}

}  // namespace
}  // namespace ringbolt
