// Checkpoints of llama2.c (https://github.com/karpathy/llama2.c, export.py's version 0, "legacy").
//
// Seven little-endian int32 (dim, hidden_dim, layers, heads, kv_heads, vocabulary, sequence length;
// a positive vocabulary means that the head is the embedding), then float32 tensors, each of all
// layers together: tok_emb, att_norm, wq, wk, wv, wo, ffn_norm, w1 (gate), w2 (down), w3 (up),
// final_norm, freq_cos, freq_sin (both ignored), and the head where it is not tied. Rotary pairs
// are interleaved, base 10000, RMSNorm's epsilon 1e-5.
#pragma once

#include <memory>
#include <string>

#include "io/weights.h"

namespace ringbolt {

/// Throws: IoError where the file is missing, empty, has an absurd header, or not exactly the size
/// that its header says.
std::unique_ptr<WeightSource> open_llama2c(const std::string& path);

}  // namespace ringbolt
