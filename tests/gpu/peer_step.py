"""A training step of a LLaMA-2 7B-shaped model in PyTorch and Transformers, to be read beside `ringbolt bench --what step`.

    python3 peer_step.py [--layers 32] [--context 16384] [--steps 5] [--out peer.json]
    python3 peer_step.py --device cpu --hidden 64 --layers 2 --context 64 …        a trial of this script, not of a peer

Random weights; parameters and moments in bf16 (less memory and traffic than Ringbolt keeps: f32 masters and moments), fused
AdamW, activation checkpointing of whole blocks, the best attention that is installed. Prints one JSON object.
"""
import argparse
import json
import statistics
import time

import torch


def best_attention(device: str) -> str:
    if device == "cpu":
        return "sdpa"
    try:
        import flash_attn  # noqa: F401  (its presence is what matters)

        return "flash_attention_2"
    except ImportError:
        return "sdpa"


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=4096, help="a multiple of 64; its heads are 32, or fewer of 64")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", default="")
    options = parser.parse_args()

    from transformers import LlamaConfig, LlamaForCausalLM

    device = options.device
    attention = best_attention(device)
    config = LlamaConfig(
        hidden_size=options.hidden, intermediate_size=options.hidden * 43 // 16, num_hidden_layers=options.layers,
        num_attention_heads=min(32, options.hidden // 64),
        vocab_size=32000, max_position_embeddings=options.context, use_cache=False)
    config._attn_implementation = attention
    torch.manual_seed(1)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
    model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(config.vocab_size, (1, options.context), device=device)
    seconds = []
    for step in range(options.steps + 1):
        wait(device)
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        wait(device)
        if step > 0:  # the first one warms up
            seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    result = {
        "torch": torch.__version__, "attention": attention,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "hidden": options.hidden, "layers": options.layers, "context": options.context, "seconds": seconds,
        "tokens_per_second": options.context / median,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }
    print(json.dumps(result))
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
