#include "io/llama2c.h"

#include <array>
#include <bit>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "io/atomic_file.h"

namespace ringbolt {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are little-endian");

constexpr int64_t kHeaderBytes = 7 * 4;
constexpr int64_t kFloat = 4;

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw IoError(message(concat("cannot read ", path, " as a llama2.c checkpoint"), why,
                        "Name a legacy llama2.c .bin file, or a Ringbolt checkpoint."));
}

class Llama2cWeights final : public WeightSource {
 public:
  explicit Llama2cWeights(std::string path) : path_(std::move(path)) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(path_, error);
    if (error) throw system_error("open", path_, error.value());
    if (bytes == 0) refuse(path_, "the file is empty");
    file_.open(path_, std::ios::binary);
    if (!file_) throw system_error("open", path_, EACCES);
    std::array<int32_t, 7> header{};
    if (static_cast<int64_t>(bytes) < kHeaderBytes ||
        !file_.read(reinterpret_cast<char*>(header.data()), kHeaderBytes)) {
      refuse(path_, concat("its ", bytes, " bytes are shorter than the header"));
    }
    read_header(header);
    const int64_t expected = lay_out();
    if (static_cast<int64_t>(bytes) != expected) {
      refuse(path_,
             concat("its header asks for ", expected, " bytes and the file has ", bytes,
                    static_cast<int64_t>(bytes) < expected ? ": it is cut off"
                                                           : ": something follows the data"));
    }
  }

  const ModelConfig& config() const override { return config_; }
  bool has(const std::string& name) const override { return tensors_.count(name) != 0; }
  void read(const std::string& name, int64_t first, std::span<float> out) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) refuse(path_, concat("it has no weight ", name));
    const Place& place = found->second;
    if (first < 0 || first > place.elements - std::ssize(out)) {
      refuse(path_, concat("the elements from ", first, " to ", first + std::ssize(out),
                           " lie outside ", name));
    }
    file_.clear();
    file_.seekg(place.byte + first * kFloat);
    if (!file_.read(reinterpret_cast<char*>(out.data()), std::ssize(out) * kFloat)) {
      refuse(path_, concat("reading ", name, " failed"));
    }
  }
  std::string description() const override { return concat("llama2.c checkpoint ", path_); }

 private:
  struct Place {
    int64_t byte;
    int64_t elements;
  };

  void read_header(const std::array<int32_t, 7>& h) {
    struct Field {
      const char* name;
      int64_t largest;  // far beyond any model, and small enough that the file's size fits 64 bits
    };
    constexpr std::array<Field, 7> kFields{{{"dim", 1 << 18},
                                            {"hidden_dim", 1 << 20},
                                            {"layers", 1 << 12},
                                            {"heads", 1 << 16},
                                            {"kv_heads", 1 << 16},
                                            {"vocabulary", 1 << 24},
                                            {"sequence length", 1 << 30}}};
    for (size_t i = 0; i < h.size(); ++i) {
      const int64_t value = i == 5 ? std::abs(int64_t{h[i]}) : int64_t{h[i]};
      if (value < 1 || value > kFields[i].largest) {
        refuse(path_, concat("its header says ", kFields[i].name, " = ", h[i]));
      }
    }
    if (h[0] % h[3] != 0)
      refuse(path_, concat("its header says dim = ", h[0], " for ", h[3], " heads"));
    config_.hidden_size = h[0];
    config_.intermediate_size = h[1];
    config_.num_hidden_layers = h[2];
    config_.num_attention_heads = h[3];
    config_.num_key_value_heads = h[4];
    config_.head_dim = h[0] / h[3];
    config_.vocab_size = std::abs(h[5]);
    config_.tie_word_embeddings = h[5] > 0;
    config_.max_position_embeddings = h[6];
    config_.rms_norm_eps = 1e-5;
    config_.rope_theta = 10000.0;
    config_.rotary_pairing = RotaryPairing::interleaved;
    try {
      validate(config_);
    } catch (const UsageError& error) {
      refuse(path_, error.what());
    }
  }

  /// Where each tensor lies; returns the size that the file must have, in bytes.
  int64_t lay_out() {
    const ModelConfig& c = config_;
    const int64_t table = c.vocab_size * c.hidden_size;
    int64_t byte = kHeaderBytes;
    const auto place = [&](const std::string& name, int64_t elements) {
      tensors_[name] = {byte, elements};
      byte += elements * kFloat;
    };
    const auto place_in_layers = [&](const std::string& name, int64_t elements) {
      for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
        place(concat("model.layers.", layer, ".", name, ".weight"), elements);
      }
    };
    place("model.embed_tokens.weight", table);
    place_in_layers("input_layernorm", c.hidden_size);
    place_in_layers("self_attn.q_proj", c.query_width() * c.hidden_size);
    place_in_layers("self_attn.k_proj", c.key_value_width() * c.hidden_size);
    place_in_layers("self_attn.v_proj", c.key_value_width() * c.hidden_size);
    place_in_layers("self_attn.o_proj", c.hidden_size * c.query_width());
    place_in_layers("post_attention_layernorm", c.hidden_size);
    place_in_layers("mlp.gate_proj", c.intermediate_size * c.hidden_size);
    place_in_layers("mlp.down_proj", c.hidden_size * c.intermediate_size);
    place_in_layers("mlp.up_proj", c.intermediate_size * c.hidden_size);
    place("model.norm.weight", c.hidden_size);
    byte += 2 * c.max_position_embeddings * (c.head_dim / 2) * kFloat;  // freq_cos, freq_sin
    if (!c.tie_word_embeddings) place("lm_head.weight", table);
    return byte;
  }

  std::string path_;
  mutable std::ifstream file_;
  ModelConfig config_;
  std::map<std::string, Place> tensors_;
};

}  // namespace

std::unique_ptr<WeightSource> open_llama2c(const std::string& path) {
  return std::make_unique<Llama2cWeights>(path);
}

}  // namespace ringbolt
