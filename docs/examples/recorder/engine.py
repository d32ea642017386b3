"""A small engine of its own: NumPy, a KV cache, nothing of pytest_greta but the Recorder's lines.

    python engine.py FOLDER            # writes FOLDER/mine_trace.jsonl and .safetensors
    greta analyze --traces-dir FOLDER --mode kv_aligned --model synthetic --output report.md

It runs the weights of ``synthetic``. ``--bug`` makes its decode turn keys and queries by one position too many.
"""

import argparse

import numpy as np

import pytest_greta as greta

PROMPT = "The cache remembers what the prompt said."


class Engine:
    def __init__(self, model, record, bug=False):
        self.c, self.w, self.record, self.bug = model.config, model.source.weights, record, bug
        self.cache = [([], []) for _ in range(self.c.n_layers)]  # k and v of each layer, a row a token

    def run(self, phase, tokens, first):
        """The logits behind ``tokens``, which stand at rows first, first + 1, ... of the prompt."""
        rows = list(range(first, first + len(tokens)))
        put = lambda layer, name, x, part="": self.record.stage(phase, layer, name, rows, x, part)  # noqa: E731
        x = self.w["embed"][tokens]
        put(-1, "embed_out", x)
        for i in range(self.c.n_layers):
            put(i, "x_in", x)
            h = self.norm(x, f"layers.{i}.attn_norm")
            q, k, v = (self.heads(h @ self.w[f"layers.{i}.{name}"].T) for name in "qkv")
            for name, value in (("attn_norm", h), ("q_proj", q), ("k_proj", k), ("v_proj", v)):
                put(i, name, value)
            q, k = self.rope(q, rows, phase), self.rope(k, rows, phase)
            put(i, "q_rope", q)
            put(i, "k_rope", k)
            for kept, new in zip(self.cache[i], (k, v), strict=True):
                kept.extend(new)
            put(i, "kv_write", np.array(self.cache[i][0][first:]), "k")
            put(i, "kv_write", np.array(self.cache[i][1][first:]), "v")
            out, lse = self.attend(q, *map(np.array, self.cache[i]), rows)
            put(i, "lse", lse)
            put(i, "attn_out", out)
            o = out.reshape(len(rows), -1) @ self.w[f"layers.{i}.o"].T
            put(i, "o_proj", o)
            x = x + o
            put(i, "residual_attn", x)
            h = self.norm(x, f"layers.{i}.ffn_norm")
            gate, up = (h @ self.w[f"layers.{i}.{name}"].T for name in ("gate", "up"))
            act = gate / (1 + np.exp(-gate)) * up
            down = act @ self.w[f"layers.{i}.down"].T
            for name, value in (
                ("ffn_norm", h),
                ("gate_proj", gate),
                ("up_proj", up),
                ("ffn_act", act),
                ("down_proj", down),
            ):
                put(i, name, value)
            x = x + down
            put(i, "x_out", x)
        x = self.norm(x, "final_norm")
        put(-1, "final_norm", x)
        put(-1, "logits", x @ self.w["lm_head"].T)

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self.c.rms_eps)) * self.w[name]

    def heads(self, x):
        return x.reshape(len(x), -1, self.c.head_dim_qk)

    def rope(self, x, rows, phase):
        half = x.shape[-1] // 2
        where = np.array(rows) + (self.bug and phase == "decode")
        angle = where[:, None, None] * self.c.layers[0].rope_base ** (-np.arange(half) / half)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attend(self, q, k, v, rows):
        k, v = (np.repeat(x, self.c.group, axis=1) for x in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) * np.float32(self.c.softmax_scale)
        scores = np.where(np.arange(len(k)) <= np.array(rows)[:, None], scores, np.float32(-np.inf))
        top = scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights / total, v), (top + np.log(total))[..., 0].T


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--bug", action="store_true")
    args = parser.parse_args()
    model = greta.load_model("synthetic")
    tokens = model.tokenize(PROMPT)
    with greta.Recorder(args.folder, "synthetic", tokens, name="mine", engine="mine 1.0") as record:
        Engine(model, record, args.bug).run("prefill", tokens, 0)
        two = Engine(model, record, args.bug)
        two.run("prefix", tokens[:-1], 0)
        two.run("decode", tokens[-1:], len(tokens) - 1)


if __name__ == "__main__":
    main()
