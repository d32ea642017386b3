"""What a model is, apart from how it is run: sizes, the stages that it has and the weights that they use.

The engine executes this; the checks read the same facts, from the checkpoint and never from the engine's own state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig

Array = NDArray[Any]


@dataclass(frozen=True)
class ModelConfig:
    """Hyper-parameters, as the checkpoint states them."""

    arch: str
    n_layers: int
    width: int
    ffn_width: int
    n_heads: int
    n_kv_heads: int
    head_dim_qk: int
    head_dim_v: int
    vocab: int
    context: int
    rms_eps: float
    """Of every norm, LayerNorm's too."""
    softmax_scale: float
    layers: tuple[LayerConfig, ...]
    qkv_bias: bool = False
    o_bias: bool = False
    ffn_bias: bool = False
    norm: Literal["norm", "layer_norm"] = "norm"
    """RMS norm, or LayerNorm with a bias (GPT-2)."""
    learned_positions: bool = False
    """A learned row of each position is added to the embedding (GPT-2)."""
    qk_norm: bool = False
    post_norms: bool = False
    """A norm behind attention and FFN, before each is added to the residual (Gemma 2)."""
    ffn_act: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    """silu(gate) * up, or gelu(gate) * up with the tanh form of GELU (Gemma), or gelu(up) and no gate (GPT-2)."""
    embed_scale: float = 1.0
    """What a row of the embedding is multiplied by, as a float32 (Gemma: sqrt(width))."""
    logits_softcap: float = 0.0
    """Logits are cap * tanh(logits / cap); 0: as they are (Gemma 2: 30)."""

    @property
    def group(self) -> int:
        """Query heads a kv head."""
        return self.n_heads // self.n_kv_heads


Op = Literal[
    "embedding", "positions", "same", "norm", "layer_norm", "linear", "rope", "cache", "attention", "add",
    "swiglu", "geglu", "gelu",
]  # fmt: skip


@dataclass(frozen=True)
class StageSpec:
    """One stage: ``op`` over the traced stages ``inputs`` with the weights ``weights`` (names of ``Weights``).

    ``inputs`` may name "x_out" in a layer's "x_in": the previous layer's, or ``embed_out`` in layer 0. For ``linear``
    the weights are (matrix [out, in],) or (matrix, bias [out]); for ``norm`` (weight [width or head_dim],), for
    ``layer_norm`` (weight, bias); for ``positions`` (table [context, width],), of which each position adds a row.
    """

    layer: int
    stage: str
    op: Op
    inputs: tuple[str, ...]
    weights: tuple[str, ...] = ()


class Weights(Protocol):
    """Float32 tensors by name: ``embed``, ``layers.3.q``, ... A matrix is [out, in], rows contiguous."""

    def __getitem__(self, name: str) -> NDArray[np.float32]: ...

    def __contains__(self, name: object) -> bool: ...


class F32Weights:
    """``Weights`` from arrays in memory, read-only, float32."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = {name: np.ascontiguousarray(t, dtype=np.float32) for name, t in tensors.items()}
        for tensor in self._tensors.values():
            tensor.setflags(write=False)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors


class Tokenizer(Protocol):
    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


BlockKind = Literal["q8_0", "q8_1", "q8_K"]
"""Activations in 8-bit blocks, by ggml's names."""


@dataclass(frozen=True)
class BlockDot:
    """How an engine multiplies with a quantised matrix [out, n]: over the activation in blocks of ``kind``.

    ``minima`` [out, n / g]: what the matrix's type adds to every element of a group of g beside its steps; the kernel
    multiplies it with the sum of the group's activations. None: it adds nothing.
    """

    kind: BlockKind
    minima: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ModelSource:
    """A model as its checkpoint gives it. ``origin`` goes into the evidence: the file's checksum, or the seed."""

    name: str
    config: ModelConfig
    weights: Weights
    tokenizer: Tokenizer
    origin: str
    extras: dict[str, Any] = field(default_factory=dict)
    own_engine: Callable[..., Any] | None = None
    """``engine.engine.OwnEngine`` of a model that brings its own forward pass; None: our decoder runs it."""
    in_act: Callable[[str], ModelSource] | None = None
    """The same with its weights and scales as a model in activations of that type has them; None: they are float32 in
    every type."""
    blocks: Mapping[str, BlockDot] = field(default_factory=dict)
    """By matrix; of an engine that declares ``dot_blocks``."""

    def random_tokens(self, seed: int | Sequence[int], count: int) -> tuple[int, ...]:
        """``count`` ids drawn from ``seed`` over the whole vocabulary."""
        ids = np.random.default_rng(seed).integers(self.config.vocab, size=count)
        return tuple(int(i) for i in ids)


def decoder_stages(config: ModelConfig) -> tuple[StageSpec, ...]:
    """The stages of a decoder of the llama family, or of GPT-2's, in order."""
    specs = [StageSpec(-1, "embed_out", "embedding", (), ("embed",))]
    if config.learned_positions:
        specs.append(StageSpec(-1, "pos_embed", "positions", ("embed_out",), ("positions",)))
    gated = config.ffn_act != "gelu"

    def norm(layer: int, stage: str, source: str, name: str) -> StageSpec:
        names = (name, f"{name}_bias") if config.norm == "layer_norm" else (name,)
        return StageSpec(layer, stage, config.norm, (source,), names)

    for i in range(config.n_layers):

        def w(*names: str, i: int = i) -> tuple[str, ...]:
            return tuple(f"layers.{i}.{name}" for name in names)

        def linear(stage: str, source: str, name: str, bias: bool, i: int = i) -> StageSpec:
            names = w(name, f"{name}_bias", i=i) if bias else w(name, i=i)
            return StageSpec(i, stage, "linear", (source,), names)

        specs += [
            StageSpec(i, "x_in", "same", ("pos_embed",) if i == 0 and config.learned_positions else ("x_out",)),
            norm(i, "attn_norm", "x_in", f"layers.{i}.attn_norm"),
            linear("q_proj", "attn_norm", "q", config.qkv_bias),
            linear("k_proj", "attn_norm", "k", config.qkv_bias),
            linear("v_proj", "attn_norm", "v", config.qkv_bias),
        ]
        q, k = "q_proj", "k_proj"
        if config.qk_norm:
            specs += [
                StageSpec(i, "q_norm", "norm", ("q_proj",), w("q_norm")),
                StageSpec(i, "k_norm", "norm", ("k_proj",), w("k_norm")),
            ]
            q, k = "q_norm", "k_norm"
        specs += [
            StageSpec(i, "q_rope", "rope", (q,)),
            StageSpec(i, "k_rope", "rope", (k,)),
            StageSpec(i, "kv_write", "cache", ("k_rope", "v_proj")),
            StageSpec(i, "kv_read", "same", ("kv_write",)),
            StageSpec(i, "lse", "attention", ("q_rope", "kv_write")),
            StageSpec(i, "attn_out", "attention", ("q_rope", "kv_write")),
            linear("o_proj", "attn_out", "o", config.o_bias),
        ]
        attended, fed = "o_proj", "down_proj"
        if config.post_norms:
            specs.append(StageSpec(i, "post_attn_norm", "norm", ("o_proj",), w("post_attn_norm")))
            attended, fed = "post_attn_norm", "post_ffn_norm"
        specs += [
            StageSpec(i, "residual_attn", "add", ("x_in", attended)),
            norm(i, "ffn_norm", "residual_attn", f"layers.{i}.ffn_norm"),
            *([linear("gate_proj", "ffn_norm", "gate", config.ffn_bias)] if gated else []),
            linear("up_proj", "ffn_norm", "up", config.ffn_bias),
            StageSpec(i, "ffn_act", config.ffn_act, ("gate_proj", "up_proj") if gated else ("up_proj",)),
            linear("down_proj", "ffn_act", "down", config.ffn_bias),
        ]
        if config.post_norms:
            specs.append(StageSpec(i, "post_ffn_norm", "norm", ("down_proj",), w("post_ffn_norm")))
        specs.append(StageSpec(i, "x_out", "add", ("residual_attn", fed)))
    return (
        *specs,
        norm(-1, "final_norm", "x_out", "final_norm"),
        StageSpec(-1, "logits", "linear", ("final_norm",), ("lm_head",)),
    )
