"""A function in Python as an attention library: ``fn(q, k, v, ...) -> (out, lse)``, or ``out`` alone.

The function sees one sequence: its queries, and all of its rows of K and V so far. Prefill and decode both go through
it. RoPE, the cache, batches, pages and pad rows are the harness's.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import (
    PHASES,
    Array,
    AttentionSession,
    BackendError,
    Batch,
    Description,
    LayerConfig,
    Numerics,
    Phase,
    PythonError,
    SessionConfig,
    Unsupported,
)
from pytest_greta.backends.complete import described
from pytest_greta.dtypes import DTYPES
from pytest_greta.texts import Text, text

AttentionFunction = Callable[..., Any]
"""``fn(q, k, v, **parameters)`` with q [T, heads, dqk], k [rows, kv_heads, dqk] and v [rows, kv_heads, dv]; the last
query is that of the last row. out [T, heads, dv] in q's dtype, lse float32 [T, heads]."""

PARAMETERS = ("scale", "mask", "window", "softcap", "sinks", "alibi", "k_scale", "v_scale", "layer", "phase")
"""What a function is given by name where its signature has that name: float ``scale``; bool ``mask`` [T, rows], true
where the query sees the row, causality and window both; int ``window`` (0: none); float ``softcap`` (0: none);
float32 ``sinks`` and ``alibi`` [heads], ``k_scale`` and ``v_scale`` [kv_heads], each None where the layer has none; int
``layer``; ``phase``, "prefill" or "decode"."""
_SERVES: Mapping[str, tuple[str, ...]] = {
    "window": ("mask", "window"),
    "softcap": ("softcap",),
    "sinks": ("sinks",),
    "alibi": ("alibi",),
    "k_scale": ("k_scale",),
    "v_scale": ("v_scale",),
}
"""What a layer may ask for, and the parameters of which any will do."""
_ALWAYS = ("gqa", "ragged", "q_len", "kv_start")
"""Features that need nothing of the function, or are its shapes'."""
DTYPES_OF_ALL = ("f32", "bf16", "f16")


class Tensors(Protocol):
    """How arrays are handed to a function, and taken from it."""

    kind: Text
    """As messages name it: "NumPy array"."""

    def give(self, array: Array) -> Any: ...

    def take(self, value: Any) -> Array | None:
        """The same bytes as a NumPy array, without a copy where that can be; None for what is not of this kind."""
        ...


class NumpyTensors:
    kind = text("function.numpy_array")

    def give(self, array: Array) -> Array:
        return array

    def take(self, value: Any) -> Array | None:
        return value if isinstance(value, np.ndarray) else None


@dataclass(frozen=True)
class _Function:
    """One phase's function, and the parameters that it is given."""

    call: AttentionFunction
    name: str
    """Of the kernel, in the evidence."""
    wanted: frozenset[str]

    @classmethod
    def of(cls, call: AttentionFunction) -> _Function:
        """Raises ``BackendError`` for what is no function of q, k, v and ``PARAMETERS``."""
        name = getattr(call, "__name__", type(call).__name__)
        try:
            signature = inspect.signature(call)
        except (TypeError, ValueError):
            raise BackendError("GRETA_INVALID_ARGUMENT", text("function.no_signature", name=name)) from None
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = list(signature.parameters.values())
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if len(positional) < len("qkv") and not any_number:
            raise BackendError("GRETA_INVALID_ARGUMENT", text("function.three", name=name, signature=str(signature)))
        others = [p for p in parameters if p.kind in named and p not in positional[: len("qkv")]]
        for p in others:
            if p.name not in PARAMETERS and p.default is p.empty:
                words = {"name": name, "parameter": p.name, "known": ", ".join(PARAMETERS)}
                raise BackendError("GRETA_INVALID_ARGUMENT", text("function.parameter", **words))
        return cls(call, name, frozenset(p.name for p in others) & frozenset(PARAMETERS))

    def serves(self, feature: str) -> bool:
        return any(name in self.wanted for name in _SERVES[feature])


def function_backend(
    function: AttentionFunction,
    *,
    decode: AttentionFunction | None = None,
    name: str = "",
    numerics: Numerics | Mapping[Phase, Numerics] | None = None,
    lse: bool = True,
    dtypes: Sequence[str] = DTYPES_OF_ALL,
    kv_dtypes: Sequence[str] | None = None,
    device: str = "",
) -> FunctionBackend:
    """``function`` as a backend, for the hook ``pytest_greta_backends``, an entry point or ``greta.probe``.

    ``function``: see ``AttentionFunction`` and ``PARAMETERS``; one without ``mask`` is causal by itself: query i of T
    sees the first rows - T + i + 1 rows. ``decode``: another function for that phase. ``numerics``: what it declares,
    by phase or for both; plain float32 where nothing is said. ``lse``: false for a function that returns ``out``
    alone, and is then judged by that alone. ``dtypes``: those of activations that it takes; ``kv_dtypes``: those of a
    cache that is not in the activation's type. ``device``: "" hands over NumPy arrays (of bf16 those of ``ml_dtypes``);
    "cpu", "cuda" and "rocm" hand over tensors of torch on that device.

    Raises ``BackendError`` for a function whose parameters are not known, ``BackendMissing`` where torch or the device
    is not there.
    """
    tensors: Tensors = NumpyTensors()
    if device:
        from pytest_greta.pytorch.arrays import TorchTensors

        tensors = TorchTensors(device)
    functions = {"prefill": _Function.of(function), "decode": _Function.of(decode or function)}
    return FunctionBackend(
        functions,
        _description(functions, name, numerics, lse, dtypes, kv_dtypes, device),
        tensors,
        mixed=kv_dtypes is not None,
    )


def _description(
    functions: Mapping[str, _Function],
    name: str,
    numerics: Numerics | Mapping[Phase, Numerics] | None,
    lse: bool,
    dtypes: Sequence[str],
    kv_dtypes: Sequence[str] | None,
    device: str,
) -> Description:
    one = functions["prefill"].call is functions["decode"].call
    kernels = {phase: function.name for phase, function in functions.items()}
    if not one and len(set(kernels.values())) == 1:  # two lambdas
        kernels = {phase: f"{kernel} ({phase})" for phase, kernel in kernels.items()}
    said = numerics if isinstance(numerics, Mapping) else dict.fromkeys(PHASES, numerics or Numerics())
    served = {feature for feature in _SERVES if all(f.serves(feature) for f in functions.values())}
    scales = {"k_scale", "v_scale"}
    features = {*_ALWAYS, *(served - scales), *(["kv_scale"] if scales <= served else [])}
    return Description(
        name=name or functions["prefill"].name,
        version="",
        device_kind={"": "cpu", "rocm": "hip"}.get(device, device),
        features=frozenset(features),
        act_dtypes=tuple(dtypes),
        kv_dtypes=tuple(dtypes if kv_dtypes is None else kv_dtypes),
        p_dtypes=(),
        kernels=kernels,
        numerics={phase: said.get(phase, Numerics()) for phase in PHASES},
        kv="stateless",
        one_kernel=one,
        path=_place(functions["prefill"].call),
        lse=lse,
    )


def _place(function: AttentionFunction) -> str:
    """file:line, so that two functions of one name are two libraries."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


@dataclass(frozen=True)
class FunctionBackend:
    """Implements ``AttentionBackend``. ``mixed``: the cache may be in another type than the activations."""

    functions: Mapping[str, _Function]
    description: Description
    tensors: Tensors
    mixed: bool = False

    def describe(self) -> Description:
        return self.description

    def device_count(self) -> int:
        return 1

    def open(self, config: SessionConfig) -> AttentionSession:
        """Raises ``Unsupported`` for what a layer asks and the function's signature does not name."""
        own = self.description
        if not self.mixed and config.kv_dtype != config.act_dtype:
            raise Unsupported("kv_dtype", text("function.kv_dtype", name=own.name, dtype=config.act_dtype))
        for function in self.functions.values():
            for feature in _asked(config.layers):
                if not function.serves(feature):
                    parameters = " / ".join(_SERVES[feature])
                    raise Unsupported(feature, text("function.unserved", name=function.name, parameters=parameters))
            usual = config.head_dim_qk**-0.5
            if "scale" not in function.wanted and not np.isclose(config.softmax_scale or usual, usual, rtol=1e-6):
                raise Unsupported("scale", text("function.unserved", name=function.name, parameters="scale"))
        # the rest of the protocol are capabilities, none of which it declares
        return cast("AttentionSession", FunctionSession(self, config))


def _asked(layers: Iterable[LayerConfig]) -> set[str]:
    """What a layer has beyond plain causal attention."""
    return {feature for layer in layers for feature in _SERVES if getattr(layer, feature)}


class FunctionSession:
    """A stateless session: ``k_new`` and ``v_new`` of ``attend`` hold all rows of each sequence."""

    def __init__(self, backend: FunctionBackend, config: SessionConfig) -> None:
        self._backend, self._config = backend, config
        self._scale = float(config.softmax_scale or config.head_dim_qk**-0.5)

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        assert k_new is not None
        assert v_new is not None
        c, sinks = self._config, self._config.layers[layer].sinks
        # of a query that sees no row
        out = np.zeros((len(q), c.n_heads, c.head_dim_v), DTYPES[c.act_dtype].numpy)
        lse = np.full((len(q), c.n_heads), -np.inf if sinks is None else sinks, np.float32)
        first = 0
        for s in range(batch.n_seqs):
            length, begin, end = int(batch.kv_len[s]), int(batch.cu_q[s]), int(batch.cu_q[s + 1])
            start = 0 if batch.kv_start is None else int(batch.kv_start[s])
            rows = slice(first + start, first + length)
            first += length
            begin = max(begin, end - (length - start))
            if begin < end:
                call = _Call(self._backend, phase, layer, c, self._scale)
                own, own_lse = call.made(q[begin:end], k_new[rows], v_new[rows])
                out[begin:end] = own
                if own_lse is not None:
                    lse[begin:end] = own_lse
        return out, lse if self._backend.description.lse else None

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _Call:
    """One call of the user's function: what goes in, and what may come out."""

    backend: FunctionBackend
    phase: Phase
    layer: int
    config: SessionConfig
    scale: float

    def made(self, q: Array, k: Array, v: Array) -> tuple[Array, Array | None]:
        """Raises ``BackendError`` where the function raises, or returns something else than it should."""
        function, tensors = self.backend.functions[self.phase], self.backend.tensors
        # copies: a function may scribble on its arguments, and what is traced is the harness's
        given = {"q": np.array(q), "k": np.array(k), "v": np.array(v)}
        arguments = [tensors.give(array) for array in given.values()]
        more = {name: value for name, value in self._parameters(len(q), len(k)) if name in function.wanted}
        try:
            result = function.call(*arguments, **more)
        except BackendError:  # it said so itself, as a case that it does not support
            raise
        except (Exception, SystemExit) as error:
            raise self._error("function.raised", error=_said(error), place=_raised_at(error, function.call)) from error
        pair = self._pair(result)
        rows, c = (len(q), self.config.n_heads), self.config
        out = self._taken("out", pair[0], q.dtype, (*rows, c.head_dim_v), given)
        lse = None if pair[1] is None else self._taken("lse", pair[1], np.dtype(np.float32), rows, given)
        return out, lse

    def _parameters(self, T: int, rows: int) -> Iterable[tuple[str, Any]]:
        layer, give = self.config.layers[self.layer], self.backend.tensors.give
        yield "scale", self.scale
        yield "mask", give(visible(T, rows, layer.window))
        yield from (("window", layer.window), ("softcap", layer.softcap), ("layer", self.layer), ("phase", self.phase))
        for name in ("sinks", "alibi", "k_scale", "v_scale"):
            values = getattr(layer, name)
            yield name, None if values is None else give(np.array(values, np.float32))

    def _pair(self, result: Any) -> tuple[Any, Any]:
        pair = isinstance(result, (tuple, list))
        if self.backend.description.lse:
            if not pair or len(result) != 2 or result[1] is None:
                raise self._error("function.no_lse", got=described(result))
            return result[0], result[1]
        if pair and (len(result) != 2 or result[1] is not None):
            raise self._error("function.has_lse", got=described(result))
        return (result[0] if pair else result), None

    def _taken(self, name: str, value: Any, dtype: Any, shape: tuple[int, ...], given: Mapping[str, Array]) -> Array:
        array = self.backend.tensors.take(value)
        if array is None or array.dtype != dtype or array.shape != shape:
            expected = f"{dtype} {list(shape)}"
            kind = self.backend.tensors.kind
            raise self._error("function.array", array=name, got=described(value), kind=kind, expected=expected)
        for argument, own in given.items():
            if np.may_share_memory(array, own):
                raise self._error("function.view", array=name, argument=argument)
        return array

    def _error(self, key: str, **words: object) -> BackendError:
        name = self.backend.functions[self.phase].name
        return PythonError(text(key, name=name, phase=self.phase, layer=self.layer, **words))


def visible(T: int, rows: int, window: int = 0) -> NDArray[np.bool_]:
    """[T, rows]: which rows each of the last T queries of a sequence sees; ``window`` 0: all up to its own."""
    own, keys = np.arange(rows - T, rows)[:, None], np.arange(rows)
    seen: NDArray[np.bool_] = keys <= own
    return seen & (keys > own - window) if window else seen


def _said(error: BaseException) -> str:
    return traceback.format_exception_only(type(error), error)[-1].strip()


def _raised_at(error: BaseException, function: AttentionFunction) -> str:
    """The deepest line in the function's own file, where there is one: libraries below it raise at places of theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(inspect.unwrap(function), "__code__", None)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename] or frames
    return f"{own[-1].filename}:{own[-1].lineno}"
