#!/usr/bin/env python3
"""The training step and the attention that `ringbolt bench` times, in PyTorch on the CPU, to be set beside it.

    python3 tests/peers/pytorch_peer.py --threads 2 > pytorch.jsonl
    python3 tests/peers/pytorch_peer.py --only attention --tokens 4096 --modes eager

Needs a current PyTorch (2.4 or newer), and for --modes compiled a C++ compiler. Prints one JSON object a line: median, min
and max seconds over the repetitions after a warm-up, and the rate by Ringbolt's own counts (core/bench/workloads.h):

  training step  6 FLOP a token and matrix parameter (head included, embedding look-up not), and 12 D a visible
                 query-key pair and head; a causal sequence has S (S + 1) / 2 pairs
  attention      4 D a pair and head forward, 10 D backward (timed alone, on the forward's saved tensors)

Step: the shape `30m` (dim 512, 8 layers, 8 heads, ffn 1376, vocabulary 32000, untied), S 2048, one sequence, gradient
clipping at norm 1 and AdamW (fused). q, k, v and gate, up are one product each, attention is scaled_dot_product_attention.
The dtypes of the step:

  f32            everything in f32
  bf16_autocast  f32 parameters and optimizer, products and attention in bf16: what Ringbolt's bf16 does with its f32 masters
  bf16_params    parameters, gradients and moments in bf16, no f32 masters: less work and less exact than Ringbolt's
"""
import argparse
import contextlib
import json
import statistics
import sys
import time

import torch
import torch._functorch.config as functorch_config
import torch.nn.functional as F
from torch import nn

LAYERS, DIM, HEADS, FFN, VOCAB = 8, 512, 8, 1376, 32000


def rotate_half(x, cos, sin):
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm = nn.RMSNorm(DIM, eps=1e-5)
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.out = nn.Linear(DIM, DIM, bias=False)
        self.ffn_norm = nn.RMSNorm(DIM, eps=1e-5)
        self.gate_up = nn.Linear(DIM, 2 * FFN, bias=False)
        self.down = nn.Linear(FFN, DIM, bias=False)

    def forward(self, x, cos, sin):  # x (B, S, E)
        b, s, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, s, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, H, S, D)
        q, k = rotate_half(q, cos, sin), rotate_half(k, cos, sin)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, s, DIM))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(DIM, eps=1e-5)
        self.head = nn.Linear(DIM, VOCAB, bias=False)
        half = DIM // HEADS // 2
        angles = torch.outer(torch.arange(length).double(), 10000.0 ** (-torch.arange(half).double() / half))
        self.register_buffer("cos", torch.cat((angles, angles), -1).cos().float(), persistent=False)
        self.register_buffer("sin", torch.cat((angles, angles), -1).sin().float(), persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):
        x = self.embedding(ids)
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.float().view(-1, VOCAB), targets.view(-1))


def time_repeatedly(work, seconds, least=3):
    work()  # warm-up
    times, begin = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def report(name, mode, dtype, shape, times, flops, **more):
    median = statistics.median(times)
    line = {"name": name, "framework": f"pytorch {torch.__version__}", "mode": mode, "dtype": dtype, **shape,
            "threads": torch.get_num_threads(), "repetitions": len(times), "median_seconds": median,
            "min_seconds": min(times), "max_seconds": max(times), "gflops_per_second": flops / median / 1e9}
    line.update({key: value / median for key, value in more.items()})
    print(json.dumps(line), flush=True)


def training_step(mode, dtype, args):
    torch.manual_seed(1)
    length = args.context_length
    model = Llama(length)
    if dtype == "bf16_params":
        model = model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(VOCAB, (1, length))
    targets = torch.randint(VOCAB, (1, length))
    run = torch.compile(model) if mode == "compiled" else model

    def work():
        optimizer.zero_grad(set_to_none=True)
        autocast = torch.autocast("cpu", torch.bfloat16) if dtype == "bf16_autocast" else contextlib.nullcontext()
        with autocast:
            loss = run(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    times = time_repeatedly(work, args.seconds)
    matrices = LAYERS * DIM * (4 * DIM + 3 * FFN) + VOCAB * DIM
    flops = 6 * matrices * length + 12 * DIM * LAYERS * length * (length + 1) / 2
    shape = {"parameters": matrices + VOCAB * DIM + (2 * LAYERS + 1) * DIM, "context_length": length, "batch_size": 1}
    report("training_step", mode, dtype, shape, times, flops, tokens_per_second=length)


def attention(mode, dtype, tokens, head_dim, args):
    torch.manual_seed(1)
    kind = torch.float32 if dtype == "f32" else torch.bfloat16
    q, k, v, dout = (torch.empty(1, args.heads, tokens, head_dim).uniform_(-1, 1).to(kind) for _ in range(4))
    pairs = tokens * (tokens + 1) / 2
    shape = {"tokens": tokens, "heads": args.heads, "head_dim": head_dim}

    def causal(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    run = torch.compile(causal) if mode == "compiled" else causal
    with torch.no_grad():
        times = time_repeatedly(lambda: run(q, k, v), args.seconds)
    report("attention_forward", mode, dtype, shape, times, 4 * head_dim * pairs * args.heads)

    inputs = tuple(x.requires_grad_() for x in (q, k, v))
    out = run(*inputs)
    times = time_repeatedly(lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True), args.seconds)
    report("attention_backward", mode, dtype, shape, times, 10 * head_dim * pairs * args.heads)


def numbers(text):
    return [int(item) for item in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of repetitions for each figure, three at least")
    parser.add_argument("--only", choices=["step", "attention"])
    parser.add_argument("--modes", default="eager,compiled", help="of the step and of attention, a fused kernel in both")
    parser.add_argument("--dtypes", default="f32,bf16_autocast,bf16_params", help="of the step; attention: f32 and bf16")
    parser.add_argument("--context-length", type=int, default=2048)
    parser.add_argument("--tokens", type=numbers, default=[4096, 16384])
    parser.add_argument("--head-dims", type=numbers, default=[64, 128])
    parser.add_argument("--heads", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    if hasattr(functorch_config, "donated_buffer"):
        functorch_config.donated_buffer = False  # a compiled backward is repeated on the same saved tensors

    failed = 0
    work = []
    modes = args.modes.split(",")
    if args.only != "attention":
        work += [(training_step, mode, dtype, args) for mode in modes for dtype in args.dtypes.split(",")]
    if args.only != "step":
        work += [(attention, mode, dtype, tokens, head_dim, args) for mode in modes
                 for dtype in ("f32", "bf16") for tokens in args.tokens for head_dim in args.head_dims]
    for function, *arguments in work:
        try:
            function(*arguments)
        except Exception as error:  # one figure that fails must not lose the others
            failed += 1
            what = " ".join(str(item) for item in arguments[:-1])
            print(f"{function.__name__} {what} failed: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
