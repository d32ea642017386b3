"""The weights that the checks hold a model to: read from its checkpoint, not from the module that runs.

A model in a narrower type rounds its weights to it, and so does the reference; the bytes come from the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_greta.dtypes import DType
from pytest_greta.engine.spec import ModelConfig, ModelSource
from pytest_greta.engine.store import ModelError, sha256_of
from pytest_greta.hf.families import NORMS, WEIGHTS, Family
from pytest_greta.texts import text

Read = Callable[[str], NDArray[np.float32]]
F32Array = NDArray[np.float32]


def files_of(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder. Raises ``ModelError`` where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError("io", text("hf.no_weights", path=folder), text("hf.mend.safetensors"))
    return files


def checksum(files: list[Path]) -> str:
    """Of one file its sha256; of several that of their sums."""
    import hashlib

    sums = [sha256_of(path) for path in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def reader(files: list[Path], body: str) -> tuple[Read, frozenset[str]]:
    """(a function that gives a stored tensor as float32, the names that there are).

    A checkpoint of the decoder alone has names without the decoder's own in front.
    """
    from safetensors import safe_open

    where: dict[str, Path] = {}
    for path in files:
        with safe_open(path, framework="pt") as opened:
            where |= dict.fromkeys(opened.keys(), path)
    bare = not any(name.startswith(f"{body}.") for name in where)

    def stored(name: str) -> str:
        return name.removeprefix(f"{body}.") if bare else name

    def read(name: str) -> F32Array:
        with safe_open(where[stored(name)], framework="pt") as opened:
            values: F32Array = opened.get_tensor(stored(name)).float().numpy()
        return values

    return read, frozenset(f"{body}.{n}" if bare and n != "lm_head.weight" else n for n in where)


def module_reader(module: Any) -> tuple[Read, frozenset[str]]:
    """The same of a module in memory, as it is now: a copy, so that what it does later is still held to it."""
    state = {name: value.detach().float().cpu().numpy().copy() for name, value in module.state_dict().items()}
    return state.__getitem__, frozenset(state)


def gguf_reader(source: ModelSource, family: Family, config: ModelConfig) -> tuple[Read, frozenset[str]]:
    """The same of a GGUF by our own reader, under the names that transformers gives its tensors.

    llama.cpp's converter permutes the rows of a llama's q and k, so that neighbours are rotated, and stores Gemma's
    norms as 1 + weight; transformers undoes both when it loads the file.
    """
    tied = source.weights["lm_head"] is source.weights["embed"]
    names = _names(family, config, frozenset(() if tied else ("lm_head.weight",)))
    ours = {place.stored: name for name, place in names}
    interleaved = source.config.layers[0].rope_style == "interleaved"

    def read(stored: str) -> F32Array:
        name = ours[stored]
        values = source.weights[name]
        kind = name.rpartition(".")[2].removesuffix("_bias")
        if interleaved and kind in ("q", "k"):
            heads = config.n_heads if kind == "q" else config.n_kv_heads
            values = values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if family.one_plus_weight and kind in NORMS:
            values = values - np.float32(1.0)
        return values

    return read, frozenset(ours)


class HfWeights:
    """Implements ``spec.Weights``, each tensor read when it is first asked for and kept. Read-only float32 arrays.

    ``act``: what the model's parameters are stored in.
    """

    def __init__(self, read: Read, names: frozenset[str], family: Family, config: ModelConfig, act: DType) -> None:
        self._read, self._family, self._act = read, family, act
        self._made: dict[str, F32Array] = {}
        self._stored = dict(_names(family, config, names))
        for name, place in self._stored.items():
            if place.stored not in names:
                raise ModelError("tensor", text("hf.no_tensor", name=place.stored, stage=name), text("mend.fetch"))

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __getitem__(self, name: str) -> F32Array:
        if name not in self._made:
            place = self._stored[name]
            values = self._read(place.stored).astype(self._act.numpy).astype(np.float32)
            if place.transposed:
                values = values.T
            if place.part is not None:
                values = np.split(values, 3)[place.part]
            if self._family.one_plus_weight and name.rpartition(".")[2] in NORMS:
                values = np.float32(1.0) + values
            values = np.ascontiguousarray(values)
            values.setflags(write=False)
            self._made[name] = values
        return self._made[name]


class Place(NamedTuple):
    """Where a weight is in a checkpoint: the tensor's name, whether it is [in, out], and which third of its outputs."""

    stored: str
    transposed: bool = False
    part: int | None = None


def _names(family: Family, config: ModelConfig, present: frozenset[str]) -> Iterator[tuple[str, Place]]:
    """(name in ``spec.Weights``, its place in the checkpoint)."""
    outside: Mapping[str, str] = {stage: site.module for stage, site in family.outside.items()}
    embedding = f"{family.body}.{outside['embed_out']}.weight"
    yield "embed", Place(embedding)
    if family.positions:
        yield "positions", Place(f"{family.body}.{family.positions}.weight")
    yield "final_norm", Place(f"{family.body}.{outside['final_norm']}.weight")
    if family.layer_norm:
        yield "final_norm_bias", Place(f"{family.body}.{outside['final_norm']}.bias")
    # a tied output matrix is stored once
    yield "lm_head", Place("lm_head.weight" if "lm_head.weight" in present else embedding)
    biased = {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj"), config.qkv_bias),
        "o_proj": config.o_bias,
        **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), config.ffn_bias),
        **dict.fromkeys(("attn_norm", "ffn_norm"), family.layer_norm),
    }
    for i in range(config.n_layers):
        for stage, short in WEIGHTS.items():
            if (site := family.layer.get(stage)) is None:
                continue
            stored = f"{family.body}.{family.layers}.{i}.{site.module}"
            yield f"layers.{i}.{short}", Place(f"{stored}.weight", family.transposed and stage not in NORMS, site.part)
            if biased.get(stage):
                yield f"layers.{i}.{short}_bias", Place(f"{stored}.bias", part=site.part)
