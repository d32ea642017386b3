"""What an attention library looks like from Python: the C ABI of ``greta_attn.h``, name for name, over arrays.

Whoever implements ``AttentionBackend`` and ``AttentionSession`` can be probed. Only ``open``, ``attend`` and ``close``
are required of a session; the other methods are capabilities, named in ``Description.features``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_greta.dtypes import DTYPES, DType
from pytest_greta.texts import MendableError, SaidError, Text, as_text, chain, join, text

Array = NDArray[Any]
Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")


class BackendError(SaidError):
    """A library said no: its status code's name and its own words, in whatever language it speaks."""

    def __init__(self, status: str, message: str | Text) -> None:
        super().__init__(join(": ", status, message))
        self.status = status
        self.message_text = as_text(message)
        self.message = self.message_text.en


class Unsupported(BackendError):
    """A right request for something this library does not have: the case is "not run", not failed.

    ``mend``: the step after which it would be run, as ``BackendMissing`` has it; "" where there is none.
    """

    def __init__(self, feature: str, message: str | Text = "", mend: str | Text = "") -> None:
        super().__init__("GRETA_UNSUPPORTED", message or feature)
        self.feature = feature
        self.mend_text = as_text(mend)


class PythonError(BackendError):
    """A mistake of a backend in Python, which knows nothing of the ABI's status codes: it is said without one."""

    def __init__(self, message: Text) -> None:
        super().__init__("GRETA_INTERNAL", message)
        self.said = message
        self.args = (message.en,)


class BackendMissing(MendableError):
    """The library cannot be loaded here. ``kind`` is what ``--greta-require`` names: library, device, extra.

    ``message`` and ``mend``, the command or the step that would change that, are plain words, or ``Text`` in both
    languages.
    """


@dataclass(frozen=True)
class Schedule:
    """How a phase walks the keys. 0 and "" ask for the library's default."""

    tile: int = 0
    splits: int = 0
    direction: str = ""
    """forward, reverse"""
    tile_origin: str = ""
    """zero, window"""
    max_update: str = ""
    """every_tile, lazy:THRESHOLD, none"""
    p_dtype: str = ""
    p_scale: float = 0.0


@dataclass(frozen=True)
class LayerConfig:
    """Attention parameters of one layer; the defaults mean "none"."""

    rope_base: float = 10000.0
    rope_style: Literal["none", "half", "interleaved"] = "half"
    rotary_dim: int = 0
    """0: the whole head."""
    rope_factors: tuple[float, ...] | None = None
    window: int = 0
    softcap: float = 0.0
    k_scale: tuple[float, ...] | None = None
    v_scale: tuple[float, ...] | None = None
    sinks: tuple[float, ...] | None = None
    alibi: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SessionConfig:
    """``greta_config``. dtypes by name (``dtypes.DTYPES``)."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim_qk: int
    head_dim_v: int
    max_seqs: int
    max_len: int
    act_dtype: str
    kv_dtype: str
    softmax_scale: float
    layers: tuple[LayerConfig, ...]
    page_size: int = 0
    n_pages: int = 0
    device: int = 0
    threads: int = 0
    memory: Literal["host", "device"] = "host"
    """Where the arrays of each call lie."""
    stream: int = 0
    """The runtime's stream, by its handle; 0: one of the library's own."""
    schedule: Mapping[str, Schedule] = field(default_factory=dict)
    """By phase."""

    @property
    def blocks_per_seq(self) -> int:
        return 0 if self.page_size == 0 else -(-self.max_len // self.page_size)


@dataclass(frozen=True)
class Batch:
    """``greta_batch``. All int32. ``block_table`` [n_seqs, blocks_per_seq], None where the cache is contiguous."""

    cu_q: NDArray[np.int32]
    kv_len: NDArray[np.int32]
    positions: NDArray[np.int32]
    slots: NDArray[np.int32]
    seq_ids: NDArray[np.int32]
    kv_start: NDArray[np.int32] | None = None
    block_table: NDArray[np.int32] | None = None

    @property
    def n_seqs(self) -> int:
        return len(self.seq_ids)

    @property
    def n_tokens(self) -> int:
        return len(self.positions)


WHOLE_ROW = 2**31 - 1
"""``tile`` of a kernel that sees a row's keys at once: a tile that is never full."""


@dataclass(frozen=True)
class Numerics:
    """What one phase of a library declares of its arithmetic, and is then held to.

    The names, values and defaults are the table of declarations in ``docs/concepts/numerics.md``. ``tile`` and
    ``splits`` of 0 mean undeclared.
    """

    tile: int = 0
    splits: int = 0
    direction: str = "forward"
    tile_origin: str = "zero"
    max_update: str = "every_tile"
    p_dtype: str = "f32"
    p_scale: float = 1.0
    acc_bits: int = 24
    acc_round: str = "rne"
    k_step: int = 1
    flush: bool = False
    dot_bits: int = 24
    dot_blocks: bool = False
    """Activations go into 8-bit blocks before they meet a quantised matrix."""
    q_prescale: str = "f32"
    kv_dequant: str = "folded"
    l_from: str = "before"
    score_dtype: str = "f32"
    p_normalised: bool = False
    o_dtype: str = "f32"
    """What the running output is kept in from key to key."""
    split_partials: str = "f32"
    norm_cast: str = "f32"
    rope_dtype: str = "f32"
    act_round: str = "f32"
    angle: str = "f32"
    exp_rel: float = 2.0**-23
    tanh_rel: float = 2.0**-23
    erf_rel: float = 2.0**-22

    @property
    def rounds_p(self) -> bool:
        """P is stored below float32, so that the schedule shows in the output."""
        return self.p_dtype != "f32"

    @property
    def schedule_known(self) -> bool:
        return self.tile > 0 and self.splits > 0

    def in_act(self, act: str) -> Numerics:
        """The same for activations of type ``act``: P in it where ``p_dtype`` says so; and in float32, which all
        arithmetic is in, nothing is rounded by being kept in the activation type."""
        p_dtype = act if self.p_dtype == "act" else self.p_dtype
        kept: dict[str, Any] = dict.fromkeys(_KEPT, "f32") if act == "f32" else {}
        return replace(self, p_dtype=p_dtype, p_normalised=self.p_normalised and p_dtype != "f32", **kept)

    def __post_init__(self) -> None:
        """Raises ``BackendError`` for a value outside of its table: an impossible one would widen a bound without
        end."""
        for name, values in _CHOICES.items():
            if getattr(self, name) not in values:
                raise self._impossible(name, chain("or", values))
        ranges = dict(_RANGES)
        if self.p_dtype != "act":
            ranges["p_scale"] = (_least_scale(DTYPES[self.p_dtype]), _RANGES["p_scale"][1])
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise self._impossible(name, text("numerics.range", least=f"{least:g}", most=f"{most:g}"))
        kind, _, threshold = self.max_update.partition(":")
        if not (_is_threshold(threshold) if kind == "lazy" else kind in ("every_tile", "none") and not threshold):
            raise self._impossible("max_update", chain("or", ("every_tile", "lazy:THRESHOLD", "none")))

    def _impossible(self, name: str, expected: Text) -> BackendError:
        what = text("numerics.value", name=name, value=getattr(self, name), expected=expected)
        return BackendError("GRETA_INTERNAL", what)


def _is_threshold(words: str) -> bool:
    try:
        return 0.0 <= float(words) < math.inf
    except ValueError:
        return False


def _least_scale(dtype: DType) -> float:
    """The least ``p_scale`` at which a row's largest weight, 1, loses no more to subnormals than to its rounding, even
    where they are flushed. Below it the bound of the output excuses an output of nothing."""
    return dtype.smallest_normal / dtype.u


_KEPT = ("q_prescale", "score_dtype", "split_partials", "norm_cast", "rope_dtype", "act_round")
"""Declarations of a value that is kept in float32 or in the activation type."""
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "direction": ("forward", "reverse"),
    "tile_origin": ("zero", "window"),
    "p_dtype": ("act", *DTYPES),
    "o_dtype": ("f32", "bf16", "f16"),
    "acc_round": ("rne", "rz", "rd"),
    "q_prescale": ("f32", "act"),
    "kv_dequant": ("folded", "act"),
    "l_from": ("before", "after"),
    "score_dtype": ("f32", "act"),
    "split_partials": ("f32", "act"),
    "norm_cast": ("f32", "act"),
    "rope_dtype": ("f32", "act"),
    "act_round": ("f32", "act"),
    "angle": ("f32", "f64"),
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "tile": (0, WHOLE_ROW),
    "splits": (0, 4096),
    "p_scale": (2.0**-126, 2.0**127),
    "acc_bits": (8, 64),  # bfloat16's
    "k_step": (1, 4096),
    "dot_bits": (4, 64),  # fp8_e4m3's
    "exp_rel": (0.0, 2.0**-4),
    "tanh_rel": (0.0, 2.0**-4),
    "erf_rel": (0.0, 2.0**-4),
}
"""From the coarsest arithmetic that is in use to what no bound can feel; NaN lies in no range."""


@dataclass(frozen=True)
class Description:
    """``greta_describe``.

    ``features``: names of the capabilities; the optional functions (rope kv_write kv_read kv_load kv_trim counters sync
    device_count) and what an attention call may ask for (paged ragged gqa q_len kv_start window softcap sinks alibi
    kv_scale rope_factors partial_rotary schedule direction tile_origin max_update p_dtype p_scale ...). ``kernels``:
    the kernel that each phase runs, by phase.
    """

    name: str
    version: str
    device_kind: str
    features: frozenset[str]
    act_dtypes: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    p_dtypes: tuple[str, ...]
    kernels: Mapping[str, str]
    numerics: Mapping[str, Numerics]
    memory: tuple[str, ...] = ("host",)
    """Where the arrays of a call may lie: host, device."""
    kv: Literal["cached", "stateless"] = "cached"
    prefill_kv: Literal["cache", "fresh"] = "cache"
    one_kernel: bool = False
    """The library declares that both phases are one kernel."""
    path: str = ""
    """Of the shared object, where there is one; of a function in Python file:line."""
    numerics_by_act: Mapping[str, Mapping[str, Numerics]] = field(default_factory=dict)
    """By activation type, then phase, where a type's is not ``numerics``."""
    lse: bool = True
    """``attend`` gives the lse, which is then judged; without it the output alone is."""
    raw: Mapping[str, Any] = field(default_factory=dict)

    def declared(self, phase: Phase, act: str) -> Numerics:
        """What it declares of a phase for activations of type ``act``; plain float32 where it says nothing."""
        return self.numerics_by_act.get(act, self.numerics).get(phase, Numerics()).in_act(act)


class AttentionSession(Protocol):
    """``greta_session``. Shapes as in ``greta_attn.h``; a batch's arrays and all tensors are C-contiguous NumPy
    arrays. In a session over device memory tensors may be anything that speaks DLPack and lies there; then out and lse
    do, too."""

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        """q [n_tokens, n_heads, dqk] -> out [n_tokens, n_heads, dv] in q's dtype, lse float32 [n_tokens, n_heads] |
        None."""
        ...

    def close(self) -> None: ...

    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        """In place."""
        ...

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None: ...

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        """Stored rows in kv_dtype: k [count, n_kv_heads, dqk], v [count, n_kv_heads, dv]."""
        ...

    def kv_load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None: ...

    def kv_trim(self, seq: int, length: int) -> None: ...

    def counters(self) -> Mapping[tuple[str, str], int]:
        """Calls since open by (phase, kernel)."""
        ...

    def sync(self) -> None: ...


class AttentionBackend(Protocol):
    """An attention library, ready to open sessions."""

    def describe(self) -> Description: ...

    def device_count(self) -> int: ...

    def open(self, config: SessionConfig) -> AttentionSession:
        """Raises ``Unsupported`` for a feature it does not have, ``BackendError`` for a configuration it refuses."""
        ...
