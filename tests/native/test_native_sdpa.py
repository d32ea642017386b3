"""A second opinion: PyTorch's scaled_dot_product_attention on the same inputs, judged like our own kernels.

Both must lie within the bound around float64; so a mistake in the reference would show as two implementations that are
wrong alike. PyTorch is no dependency: ``pip install torch==2.13.0``, then ``pytest -m oracle tests/native``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from attention_cases import backend, batch, config, int32, randn, reference

from pytest_greta.backends.base import LayerConfig, Schedule

pytestmark = pytest.mark.oracle

TORCH_EXP = 20 * 2.0**-23
"""Its flash kernel's exp is Sleef's of 20 ulp (``Vectorized::exp_u20``)."""


@dataclass(frozen=True)
class Drawn:
    act: str
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    page_size: int
    lengths: tuple[int, ...]
    schedule: Schedule
    seed: int


def draw(seed: int) -> Drawn:
    rng = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    kv_heads = pick(1, 2, 3)
    tile, window = pick(16, 31, 64), pick(0, 0, 1, 16, 40)
    edges = [1, 2, tile - 1, tile, tile + 1, 2 * tile + 1, max(1, window - 1), window + 1, 200]
    return Drawn(
        act=("f32", "bf16", "f16")[seed % 3], heads=kv_heads * pick(1, 2, 4), kv_heads=kv_heads,
        head_dim=pick(64, 80, 96, 128, 192, 256), window=window, page_size=pick(0, 5, 16),
        lengths=tuple(pick(*edges) for _ in range(pick(1, 2, 3))),
        schedule=Schedule(tile=tile, splits=pick(1, 2, 3)), seed=seed,
    )  # fmt: skip


def ours(drawn: Drawn, q: Any, k: Any, v: Any, rng: np.random.Generator) -> Any:
    """Prefill of all sequences at once, over permuted pages."""
    lengths, most = list(drawn.lengths), max(drawn.lengths)
    blocks = -(-most // drawn.page_size) if drawn.page_size else 0
    n = len(lengths)
    table = rng.permutation(n * blocks).reshape(n, blocks) if blocks else None
    c = config(
        n_heads=drawn.heads, n_kv_heads=drawn.kv_heads, head_dim_qk=drawn.head_dim, head_dim_v=drawn.head_dim,
        max_seqs=n, max_len=most, act_dtype=drawn.act, kv_dtype=drawn.act, page_size=drawn.page_size,
        n_pages=n * blocks, schedule={"prefill": drawn.schedule, "decode": drawn.schedule},
        layers=(LayerConfig(rope_style="none", window=drawn.window),),
    )  # fmt: skip
    b = batch(lengths, lengths, table=None if table is None else int32(table))
    with backend().open(c) as session:
        session.kv_write(0, b, k, v)
        return session.attend(0, "prefill", b, q)[0]


def theirs(drawn: Drawn, q: Any, k: Any, v: Any) -> Any:
    """One sequence, by the flash kernel; a window is a mask."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    def tensor(x: Any) -> Any:
        kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[drawn.act]
        return torch.from_numpy(x.astype(np.float32)).to(kind).transpose(0, 1)[None]

    n = len(q)
    mask = None
    if drawn.window:
        distance = np.arange(n)[:, None] - np.arange(n)[None, :]
        mask = torch.from_numpy((distance >= 0) & (distance < drawn.window))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = scaled_dot_product_attention(
            tensor(q), tensor(k), tensor(v), attn_mask=mask, is_causal=mask is None, enable_gqa=True,
            scale=float(np.float32(1 / np.sqrt(drawn.head_dim))),
        )  # fmt: skip
    return out[0].transpose(0, 1).to(torch.float64).numpy()


def test_pytorch_and_our_kernels_lie_within_the_same_bound_around_float64() -> None:
    torch = pytest.importorskip("torch", reason="pip install torch==2.13.0 (the CPU build will do)")
    worst, elements = {"ours": 0.0, "torch": 0.0}, 0
    for seed in range(90):
        drawn = draw(seed)
        rng = np.random.default_rng(seed)
        shapes = (
            (sum(drawn.lengths), heads, drawn.head_dim) for heads in (drawn.heads, drawn.kv_heads, drawn.kv_heads)
        )
        q, k, v = (randn(rng, shape, drawn.act) for shape in shapes)
        mine, first = ours(drawn, q, k, v, rng), 0
        for n in drawn.lengths:
            rows = slice(first, first + n)
            other = theirs(drawn, q[rows], k[rows], v[rows])
            for row in sorted({0, n - 1, *rng.integers(0, n, 4).tolist()}):
                for head in range(drawn.heads):
                    keys = slice(first + max(0, row + 1 - drawn.window if drawn.window else 0), first + row + 1)
                    kv_head = head * drawn.kv_heads // drawn.heads
                    arguments = (q[first + row, head], k[keys, kv_head], v[keys, kv_head],
                                 float(np.float32(1 / np.sqrt(drawn.head_dim))))  # fmt: skip
                    right = reference(*arguments, drawn.schedule, drawn.act)
                    # PyTorch rounds P to the activation type before it meets V, and says nothing of its tiles
                    loose = reference(*arguments, Schedule(tile=16, splits=8), drawn.act, p_dtype=drawn.act,
                                      exp_rel=TORCH_EXP)  # fmt: skip
                    own = np.abs(mine[first + row, head].astype(np.float64) - right.out) / right.out_bound
                    torchs = np.abs(other[row, head] - loose.out) / loose.out_bound
                    worst = {"ours": max(worst["ours"], own.max()), "torch": max(worst["torch"], torchs.max())}
                    elements += own.size
            first += n
    print(f"second opinion: 90 configurations, {elements} elements, worst rho {worst['ours']:.3f} ours, "
          f"{worst['torch']:.3f} PyTorch {torch.__version__}")  # fmt: skip
    assert worst["ours"] <= 1
    assert worst["torch"] <= 1
