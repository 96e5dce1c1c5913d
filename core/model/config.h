// The shape of a LLaMA-family model, in the terms of Hugging Face's config.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/backend/backend.h"
#include "core/base/shape.h"
#include "core/model/rope_scaling.h"

namespace ringbolt {

struct ModelConfig {
  int64_t vocab_size = 0;           ///< V
  int64_t hidden_size = 0;          ///< E
  int64_t intermediate_size = 0;    ///< F
  int64_t num_hidden_layers = 0;    ///< L
  int64_t num_attention_heads = 0;  ///< H
  int64_t num_key_value_heads = 0;  ///< K, divides H
  int64_t head_dim =
      0;  ///< D, even; hidden_size / num_attention_heads unless a model says otherwise
  int64_t max_position_embeddings = 0;  ///< the length it was trained at
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;  ///< rotary base
  RopeScaling rope_scaling;     ///< the rotary method on top of it
  RotaryPairing rotary_pairing = RotaryPairing::half_split;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;  ///< biases on q, k and v, as in Qwen2 (LLaMA has none)

  int64_t query_width() const { return num_attention_heads * head_dim; }
  int64_t key_value_width() const { return num_key_value_heads * head_dim; }
  int64_t parameter_count() const;
  /// L of the rotary method: its own, or the length that the model was trained at.
  int64_t rope_original_length() const {
    return rope_scaling.original_length > 0 ? rope_scaling.original_length
                                            : max_position_embeddings;
  }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

/// Throws: UsageError naming the first contradiction.
void validate(const ModelConfig& config);

/// A shape by name ("tiny", "30m", "llama2-7b", …) or spelled out
/// ("dim=64,layers=2,heads=4,kv-heads=2,vocab=512"). Items after a name change it:
/// "30m,vocab=259,tied,qkv-bias,norm-eps=1e-6". Throws: UsageError listing the names.
ModelConfig model_shape(const std::string& text);
std::vector<std::string> model_shape_names();

// --- the one list of parameters ------------------------------------------------------------------

enum class Decay { no, yes };  ///< weight decay: none on norms and biases
/// normal_residual: divided by sqrt(2 L). uniform_by_width: in +-1 / sqrt(columns), Kaiming's with
/// a = sqrt(5).
enum class InitialValue { zero, one, normal, normal_residual, uniform_by_width };
/// Whose weights: the model's, or those that a rotary method adds to it (CLEX). The latter may be
/// missing in a file and then have their initial values, are f32 in a model of any type (their
/// rounding would be multiplied by positions), and are clipped by a norm of their own (their
/// gradients are multiplied by positions, too).
enum class ParameterOwner { model, rotary_method };

/// One named tensor, and where it lies in its group's flat buffer.
struct ParameterSpec {
  std::string name;  ///< Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  Shape shape;       ///< (out, in) for matrices, as Hugging Face stores them
  Decay decay;
  InitialValue initial;
  int64_t offset = 0;  ///< elements from the start of the group
  ParameterOwner owner = ParameterOwner::model;
};

/// Parameters that are used, reduced and sharded together: the embedding, one layer, the head, or a
/// rotary method's.
struct ParameterGroup {
  std::string name;
  ParameterOwner owner = ParameterOwner::model;
  std::vector<ParameterSpec> tensors;
  int64_t elements = 0;  ///< of the flat buffer, the padding between tensors included

  DType dtype(DType of_model) const {
    return owner == ParameterOwner::model ? of_model : DType::f32;
  }
};

/// Group 0 is the embedding, 1 … L the layers, L + 1 the final norm and, where it is not tied, the
/// head. In a layer v lies right behind k and up right behind gate, so that each pair is one
/// matrix. With CLEX group L + 2 is its network, which has no weight decay, as its authors trained
/// it.
std::vector<ParameterGroup> parameter_groups(const ModelConfig& config);
/// The index of CLEX's group. Requires: the method is CLEX.
inline int64_t rotary_group(const ModelConfig& config) { return config.num_hidden_layers + 2; }

}  // namespace ringbolt
