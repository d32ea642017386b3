"""``Recorder``: any other engine writes what it computed, and ``greta analyze --model`` judges it with every check.

Three runs of one prompt, N + steps tokens long: ``prefill``, all of it at once; ``prefix``, its first N tokens; and
``decode``, the rest one by one over the cache that ``prefix`` left. They are the paths full, prefix and decode of
``trace.records``, whose table has the shape of every stage.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from pytest_greta import environment
from pytest_greta.artifacts import write_atomic
from pytest_greta.backends.base import PHASES, Numerics
from pytest_greta.dtypes import BF16, DTYPES, Array, dtype_of
from pytest_greta.engine.load import load_source
from pytest_greta.engine.spec import ModelConfig, ModelSource, decoder_stages
from pytest_greta.jsonline import json_line
from pytest_greta.plain import to_plain
from pytest_greta.result import ProbeResult
from pytest_greta.texts import SaidError, join, text
from pytest_greta.trace.jsonl import TRACE_SCHEMA, records
from pytest_greta.trace.paths import PathName, phase_of
from pytest_greta.trace.records import KernelRun, Key, PathTrace, Tap, Trace
from pytest_greta.trace.sidecar import save_sidecar
from pytest_greta.trace.stages import MODEL
from pytest_greta.verdict import PASS, Evidence, Verdict

PATH_OF: Mapping[str, PathName] = {"prefill": "full", "prefix": "prefix", "decode": "decode"}
"""What a user calls a run, and the path that it is."""

NEEDED = ("q_rope", "kv_write", "attn_out")
"""Without these of every layer nothing is said of the attention, and so nothing at all."""

MODEL_NUMERICS = "model"
"""Beside the phases in ``numerics``: the arithmetic of norms, projections and FFN."""


class RecordError(SaidError, ValueError):
    """What was recorded cannot be a trace of this model."""


class Recorder:
    """Collects the stages of one prompt; ``close`` writes ``NAME_trace.jsonl`` and ``NAME_trace.safetensors``.

    ``model``: what the checks take weights and sizes from, as ``greta analyze --model`` will name it. ``tokens``: the
    whole prompt's ids; the last ``steps`` are those that are decoded. ``numerics``: what the engine's arithmetic is
    held to, by ``prefill``, ``decode`` and ``model``; plain float32 for what is left out. ``kernels``: the name of the
    attention kernel of each phase.
    """

    def __init__(
        self,
        folder: Path | str,
        model: str | ModelSource,
        tokens: Sequence[int],
        *,
        steps: int = 1,
        name: str = "recording",
        engine: str = "engine",
        kernels: Mapping[str, str] | None = None,
        numerics: Mapping[str, Numerics] | None = None,
    ) -> None:
        self.source = load_source(model) if isinstance(model, str) else model
        self.tokens = np.asarray(tokens, dtype=np.int64)
        self.steps, self.name, self.engine = steps, name, engine
        self.folder = Path(folder)
        self.kernels = {"prefill": "prefill", "decode": "decode", **(kernels or {})}
        self.numerics = dict(numerics or {})
        self._parts: dict[tuple[PathName, Key], list[Tap]] = {}
        if not 0 < steps < len(self.tokens):
            raise RecordError(text("record.steps", steps=steps, tokens=len(self.tokens)))
        outside = self.tokens[(self.tokens < 0) | (self.tokens >= self.source.config.vocab)]
        if len(outside):
            raise RecordError(text("record.token", token=int(outside[0]), vocab=self.source.config.vocab))
        for key in self.numerics:
            if key not in (*PHASES, MODEL_NUMERICS):
                raise RecordError(text("record.numerics", key=key))

    @property
    def n_prefix(self) -> int:
        return len(self.tokens) - self.steps

    def stage(
        self, phase: str, layer: int, name: str, positions: Sequence[int] | Array, array: Any, part: str = ""
    ) -> None:
        """Keep the rows of one stage: copied, because the engine's buffer lives on.

        ``phase``: ``prefill``, ``prefix`` or ``decode``. ``layer``: from 0; -1 for ``embed_out``, ``final_norm`` and
        ``logits``. ``positions`` [R]: the rows of the prompt. ``array``: anything NumPy or a torch tensor, [R, ...] in
        the type that the next stage reads; heads may lie in one dimension. ``part``: ``k`` or ``v`` of ``kv_write``
        and ``kv_read``. Raises ``RecordError``.
        """
        if phase not in PATH_OF:
            raise RecordError(text("record.phase", phase=phase, phases=", ".join(PATH_OF)))
        path, key = PATH_OF[phase], Key(layer, name, part)
        where = f"{phase} {'' if layer == MODEL else f'layer {layer} '}{name}{f' ({part})' if part else ''}"
        row = self._rows_of().get(key)
        if row is None:
            raise RecordError(text("record.stage", where=where, stages=", ".join(self._names(layer))))
        values, rows = _as_numpy(array, where), np.atleast_1d(np.asarray(positions, dtype=np.int64))
        if len(values) != len(rows) or values.size != len(rows) * int(np.prod(row)) or not len(rows):
            raise RecordError(
                text("record.shape", where=where, shape=list(values.shape), rows=len(rows), row=list(row))
            )
        first, last = (self.n_prefix, len(self.tokens)) if path == "decode" else (0, self._length(path))
        outside = rows[(rows < first) | (rows >= last)]
        if len(outside):
            raise RecordError(text("record.row", where=where, row=int(outside[0]), first=first, last=last - 1))
        self._parts.setdefault((path, key), []).append(Tap(rows, values.reshape(len(rows), *row).copy()))

    def read(self, path: Path | str) -> None:
        """Keep the stages of a JSON Lines file that the engine wrote, one ``stage`` a line: an object with ``phase``,
        ``layer``, ``stage``, ``positions``, ``dtype`` (f32, bf16, f16, ...), ``shape``, ``data`` (base64 of the bytes,
        little-endian, last dimension first) and, for the cache, ``part``. Raises ``RecordError`` with file and line."""
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    one = orjson.loads(line)
                    flat = np.frombuffer(base64.b64decode(one["data"], validate=True), DTYPES[one["dtype"]].numpy)
                    place = str(one["phase"]), int(one["layer"]), str(one["stage"])
                    self.stage(*place, one["positions"], flat.reshape(one["shape"]), str(one.get("part", "")))
                except (ValueError, KeyError, TypeError) as error:
                    said = error.said if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
                    raise RecordError(text("record.line", path=path, line=number, error=said)) from None

    def close(self) -> Path:
        """Write the trace; returns the JSONL file. Raises ``RecordError`` where something is missing, and
        ``ArtifactError`` where it cannot be written."""
        trace = self.trace()
        kernels = tuple(
            {"path": name, "rows": [count for _, _, count in path.segments], **to_plain(run)}
            for name, path in trace.paths.items()
            for run in path.kernels
        )
        evidence = Evidence(kernels=kernels, weights=self.source.origin)
        result = ProbeResult(
            suite="recording",
            case=self.name,
            probe="kv_aligned",
            mode="kv_aligned",
            variant=self.engine,
            nodeid=self.name,
            where=self.name,
            outcome="passed",
            expected="",
            verdict=Verdict(PASS, None, mode="kv_aligned", evidence=evidence),
            n_tokens=len(self.tokens),
            settings={"engine": self.engine, "recorded": ", ".join(trace.facts["recorded"])},
            roundings={name: to_plain(declared) for name, declared in self.numerics.items()},
            environment=environment.describe(),
        )
        lines = [json_line(to_plain(record)) for record in records(result, trace, ())]
        lines.append(json_line({"event": "trace_end", "schema": TRACE_SCHEMA, "records": len(lines)}))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}_trace.jsonl"
        save_sidecar(path.with_suffix(".safetensors"), trace)
        write_atomic(path, b"".join(lines))
        return path

    def trace(self) -> Trace:
        """What was recorded, as the checks read it. Raises ``RecordError`` where something is missing."""
        found: dict[str, PathTrace] = {path: self._path(path) for path in PATH_OF.values()}
        layers = sorted({key.layer for _, key in self._parts} - {MODEL})
        for path, recorded in found.items():
            taken = {key.stage for key in recorded.taps}
            for layer in layers or [0]:
                for stage in NEEDED:
                    if not any(key[:2] == (layer, stage) for key in recorded.taps):
                        run = next(name for name, own in PATH_OF.items() if own == path)
                        raise RecordError(text("record.missing", run=run, layer=layer, stage=stage, taken=len(taken)))
        types = {
            dtype_of(tap.values).name for path in found.values() for key, tap in path.taps.items() if _carries(key)
        }
        if len(types) != 1:
            raise RecordError(text("record.types", types=", ".join(sorted(types))))
        caches = {dtype_of(t.values).name for p in found.values() for k, t in p.taps.items() if k.stage == "kv_write"}
        if len(caches) != 1:
            raise RecordError(text("record.types", types=", ".join(sorted(caches))))
        facts = {
            "weights": self.source.origin,
            "tokens": self.tokens.tolist(),
            "way": {"left_pad": 0},
            "recorded": sorted({key.stage for _, key in self._parts}),
        }
        return Trace(self.n_prefix, self.steps, tuple(layers), types.pop(), caches.pop(), found, facts)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()

    # -- parts -----------------------------------------------------------------------------------------------------

    def _length(self, path: PathName) -> int:
        return self.n_prefix if path == "prefix" else len(self.tokens)

    def _names(self, layer: int) -> list[str]:
        return list(dict.fromkeys(key.stage for key in self._rows_of() if key.layer == layer))

    def _rows_of(self) -> dict[Key, tuple[int, ...]]:
        """The shape of a row of every stage of the model."""
        if not hasattr(self, "_shapes"):
            self._shapes = dict(_shapes(self.source))
        return self._shapes

    def _path(self, path: PathName) -> PathTrace:
        start = self.n_prefix if path == "decode" else 0
        rows = np.arange(start, self._length(path), dtype=np.int64)
        taps = {key: _joined(parts, key) for (own, key), parts in self._parts.items() if own == path}
        phase = phase_of(path)
        layers = len({key.layer for key in taps if key.stage == "attn_out"})
        runs = [(phase, start, len(rows))] if phase == "prefill" else [(phase, int(row), 1) for row in rows]
        kernel = KernelRun(self.engine, self.kernels[phase], phase, layers * len(runs), "declared")
        return PathTrace(path, self.tokens[rows], rows, rows.copy(), taps, (kernel,) if layers else (), tuple(runs))


def _shapes(source: ModelSource) -> Iterator[tuple[Key, tuple[int, ...]]]:
    c = source.config
    for spec in decoder_stages(c):
        row = _row(spec.stage, c)
        if spec.stage == "kv_write":
            sizes = {"k": c.head_dim_qk, "v": c.head_dim_v}
            yield from ((Key(spec.layer, spec.stage, part), (c.n_kv_heads, dim)) for part, dim in sizes.items())
        elif spec.stage == "kv_read":
            sizes = {"k": c.head_dim_qk, "v": c.head_dim_v, "k_after": c.head_dim_qk, "v_after": c.head_dim_v}
            yield from ((Key(spec.layer, spec.stage, part), (c.n_kv_heads, dim)) for part, dim in sizes.items())
        else:
            yield Key(spec.layer, spec.stage), row


def _row(stage: str, c: ModelConfig) -> tuple[int, ...]:
    heads = {"q": (c.n_heads, c.head_dim_qk), "k": (c.n_kv_heads, c.head_dim_qk), "v": (c.n_kv_heads, c.head_dim_v)}
    if stage.partition("_")[0] in heads:
        return heads[stage.partition("_")[0]]
    own = {
        "lse": (c.n_heads,),
        "attn_out": (c.n_heads, c.head_dim_v),
        "logits": (c.vocab,),
        **dict.fromkeys(("gate_proj", "up_proj", "ffn_act"), (c.ffn_width,)),
    }
    return own.get(stage, (c.width,))


def _carries(key: Key) -> bool:
    """The stage is in the activation type."""
    return key.stage not in ("kv_write", "kv_read", "lse", "logits")


def _joined(parts: Sequence[Tap], key: Key) -> Tap:
    """The rows of all calls, ascending; of two snapshots of the cache the later one counts."""
    if key.stage == "kv_read":
        parts = parts[-1:]
    rows = np.concatenate([part.positions for part in parts])
    order = np.argsort(rows, kind="stable")
    again = np.flatnonzero(np.diff(rows[order]) == 0)
    if len(again):
        raise RecordError(text("record.twice", where=f"layer {key.layer} {key.stage}", row=int(rows[order][again[0]])))
    return Tap(rows[order], np.concatenate([part.values for part in parts])[order])


def _as_numpy(array: Any, where: str) -> NDArray[Any]:
    """On the CPU, in a type that an attention library stores."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        array = array.detach().cpu().contiguous()
        brain = array.dtype == torch.bfloat16  # NumPy has none
        array = array.view(torch.int16).numpy().view(BF16.numpy) if brain else array.numpy()
    values = np.atleast_1d(np.asarray(array))
    try:
        dtype_of(values)
    except TypeError as error:
        raise RecordError(join(": ", where, str(error))) from None
    return values
