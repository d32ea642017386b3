"""A case times its matrix: the probes, with ids that stay the same from run to run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from pytest_greta.cases.expectations import DEFAULTS as EXPECTED
from pytest_greta.cases.lengths import SWEEP, sweep
from pytest_greta.cases.model import Case, Probe
from pytest_greta.engine.names import based

DEFAULTS: Mapping[str, Any] = {
    "model": "synthetic",
    "backend": "cpu",
    "dtype": "f32",
    "kv_dtype": None,
    "seed": 1,
    "layers": "all",
    "page_size": 0,
    "steps": 1,
    "gemm": "blas",
    "chunk": None,
    "q_len": 1,
    "left_pad": 0,
    "reuse": None,
    "batch": (),
    "lengths": None,
    "schedule": {},
    "contract": {},
    "numerics": {},
    "context": None,
    "timeout": None,
}
"""``kv_dtype`` of None becomes the probe's ``dtype``; ``context`` and ``timeout`` of None are the runner's choice;
``chunk`` and ``lengths`` of None are the whole prompt."""

OVERRIDES: tuple[str, ...] = ("mode", "backend", "library", "model", "layers", "seed")


def expand(case: Case, overrides: Mapping[str, Any] | None = None) -> list[Probe]:
    """The probes of a case: modes, then matrix keys, each in file order.

    ``overrides``: values of options by name (``OVERRIDES``), None for one that was not given; an overridden key is no
    longer a dimension of the matrix nor part of an id. A mode that the case has not leaves no probe. ``library`` is a
    path, and wins over ``backend``. Raises ``KeyError`` for a name that is no option.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    if unknown := set(given) - set(OVERRIDES):
        raise KeyError(f"{sorted(unknown)} cannot be overridden; expected some of {OVERRIDES}")
    modes = [mode for mode in case.modes if given.get("mode", mode) == mode]
    fixed: dict[str, Any] = {key: given[key] for key in ("backend", "model", "layers", "seed") if key in given}
    if "library" in given:  # as it was typed in a shell, so relative to where that was
        fixed["backend"] = {"library": str(Path(given["library"]).expanduser().absolute())}
    matrix = {key: values for key, values in case.matrix.items() if key not in fixed}
    probes: list[Probe] = []
    taken: set[str] = set()
    for mode in modes:
        for values in product(*matrix.values()):
            for cell in _swept(case, dict(zip(matrix, values, strict=True)), fixed):
                variant = "-".join(spell(key, value) for key, value in cell.items())
                probe_id = _free(f"{mode}-{variant}" if variant else mode, taken)
                chosen = _chosen(case, cell, fixed)
                expect = case.expect.get(mode, EXPECTED[mode])
                probes.append(Probe(probe_id, mode, probe_id[len(mode) + 1 :], case, chosen, expect))
    return probes


def _chosen(case: Case, cell: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of one cell."""
    stated: dict[str, Any] = {**case.settings, **cell}
    chosen: dict[str, Any] = {**DEFAULTS, **_resolved(stated, case.where.path.parent), **fixed}
    if chosen["kv_dtype"] is None:
        chosen["kv_dtype"] = chosen["dtype"]
    return chosen


def _swept(case: Case, cell: dict[str, Any], fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cell once for each length of its sweep; as it is where it asks for none."""
    chosen = _chosen(case, cell, fixed)
    count = case.prompt.known_length
    if chosen["lengths"] != SWEEP or count is None:
        return [cell]
    return [{**cell, "lengths": n} for n in sweep(chosen, count - int(chosen["steps"]))]


def spell(key: str, value: Any) -> str:
    """One cell of a matrix as part of a node id: ``bf16``, ``page_size=16``, ``schedule=decode.tile:64``."""
    text = _word(value)
    for bad, good in (("[", "("), ("]", ")"), ("::", ":")):
        text = text.replace(bad, good)
    text = "".join(char if char.isprintable() else "_" for char in text)
    return text if key == "dtype" else f"{key}={text}"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{_word(v)}" for name, v in _flat(value))
    if isinstance(value, (tuple, list)):
        return ",".join(_word(v) for v in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        pairs += _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else [(f"{prefix}{key}", inner)]
    return pairs


def _free(probe_id: str, taken: set[str]) -> str:
    """Two values that differ only in characters an id cannot hold still need two ids."""
    unique, number = probe_id, 1
    while unique in taken:
        number += 1
        unique = f"{probe_id}.{number}"
    taken.add(unique)
    return unique


def _resolved(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A model's path is relative to the case file; an id spells it as the file does, so it is resolved only here.

    The path of a library is resolved by ``open_backends``, which knows the case's folder.
    """
    if "model" not in settings:
        return dict(settings)
    return {**settings, "model": based(str(settings["model"]), folder)}
