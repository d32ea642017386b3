"""The arrays of a trace beside its JSONL: a safetensors file from which ``Trace`` is rebuilt to the byte."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from pytest_greta.artifacts import replacing
from pytest_greta.dtypes import DTYPES, FP8_E4M3FN, FP8_E4M3FNUZ, Array, dtype_of
from pytest_greta.plain import to_plain
from pytest_greta.trace.records import KernelRun, Key, PathTrace, Tap, Trace

SIDECAR_SCHEMA = 1
_META = "greta"

_BYTES = (FP8_E4M3FN, FP8_E4M3FNUZ)
"""Older safetensors know no 8-bit floats: they go as bytes, their type in the metadata."""


def sidecar_of(jsonl: Path) -> Path:
    """Where the arrays of a trace lie, whether its records are packed or not."""
    return jsonl.with_name(jsonl.name.removesuffix(".gz").removesuffix(".jsonl") + ".safetensors")


class TraceError(Exception):
    """A stored trace cannot be used. The text names the file and what is wrong."""


def save_sidecar(path: Path, trace: Trace) -> None:
    """Write all taps of all paths with their positions, and what lay beside them. Raises ``ArtifactError``."""
    tensors: dict[str, Array] = {}
    taps: list[dict[str, Any]] = []
    paths: dict[str, Any] = {}
    for name, found in trace.paths.items():
        tensors |= {
            f"{name}.tokens": found.tokens,
            f"{name}.rows": found.rows,
            f"{name}.rope_positions": found.rope_positions,
        }
        paths[name] = {
            "segments": [list(s) for s in found.segments],
            "kernels": [dataclasses.asdict(k) for k in found.kernels],
        }
        for group, kept in (("taps", found.taps), ("beside", found.beside)):
            for key, tap in kept.items():
                stem = f"{name}.{key.layer}.{key.stage}" + (f".{key.part}" if key.part else "")
                tensors |= {f"{stem}.positions": tap.positions, f"{stem}.values": tap.values}
                place = {"path": name, "group": group, **key._asdict()}
                taps.append({**place, "stem": stem, "dtype": dtype_of(tap.values).name})
    meta = {
        "schema": SIDECAR_SCHEMA,
        "n_prefix": trace.n_prefix,
        "steps": trace.steps,
        "layers": list(trace.layers),
        "act_dtype": trace.act_dtype,
        "kv_dtype": trace.kv_dtype,
        "facts": to_plain(trace.facts),
        "paths": paths,
        "taps": taps,
    }
    packed = {name: _pack(array) for name, array in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(packed, temporary, {_META: json.dumps(meta)})
        except SafetensorError as error:  # it hides the errno of a full disk
            raise OSError(errno.EIO, str(error)) from error


def load_sidecar(path: Path) -> Trace:
    """The trace that ``save_sidecar`` wrote. Raises ``TraceError``."""
    try:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        meta = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_META])
        return _rebuild(meta, dict(deserialize(data)))  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise TraceError(f"{path}: not the sidecar of a full trace ({type(error).__name__}: {error})") from None


def _pack(array: Array) -> Array:
    array = np.ascontiguousarray(array)
    return array.view(np.uint8) if any(array.dtype == d.numpy for d in _BYTES) else array


def _array(stored: dict[str, Any], dtype: np.dtype[Any]) -> Array:
    array: Array = np.frombuffer(stored["data"], dtype).reshape(stored["shape"])
    return array


def _rebuild(meta: dict[str, Any], stored: dict[str, dict[str, Any]]) -> Trace:
    def int64(name: str) -> NDArray[np.int64]:
        return _array(stored[name], np.dtype(np.int64))

    taps: dict[str, dict[Key, Tap]] = {name: {} for name in meta["paths"]}
    beside: dict[str, dict[Key, Tap]] = {name: {} for name in meta["paths"]}
    for tap in meta["taps"]:
        values = _array(stored[f"{tap['stem']}.values"], DTYPES[tap["dtype"]].numpy)
        key = Key(tap["layer"], tap["stage"], tap["part"])
        group = beside if tap.get("group") == "beside" else taps
        group[tap["path"]][key] = Tap(int64(f"{tap['stem']}.positions"), values)
    paths = {
        name: PathTrace(
            path=name,
            tokens=int64(f"{name}.tokens"),
            rows=int64(f"{name}.rows"),
            rope_positions=int64(f"{name}.rope_positions"),
            taps=taps[name],
            kernels=tuple(KernelRun(**run) for run in found["kernels"]),
            segments=tuple((str(phase), int(first), int(count)) for phase, first, count in found["segments"]),
            beside=beside[name],
        )
        for name, found in meta["paths"].items()
    }
    return Trace(
        n_prefix=meta["n_prefix"],
        steps=meta["steps"],
        layers=tuple(meta["layers"]),
        act_dtype=meta["act_dtype"],
        kv_dtype=meta["kv_dtype"],
        paths=paths,
        facts=meta["facts"],
    )
