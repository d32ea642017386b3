"""Which runs a study makes: everything drawn, from the seed alone. Pure; ``run.py`` makes one, ``tally.py`` counts.

Each run is drawn by a generator of its own, so that a run is the same whatever else was run before it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_greta.faults.fixtures import FIXTURES, SPAN, Fixture

Part = Literal["fault", "curve", "benign"]

BENIGN_PER_FAULT = 1.5
CURVE_SHARE = 0.15
"""Runs below the smallest magnitude, as a share of the fault runs: for the curve, never required to be found."""

WHOLE_MODEL = 512
"""Rows beyond which a benign run looks at one or two layers by themselves: time goes with rows times layers."""
MOST_ROWS, MOST_ROWS_QUICK = 4096, 384
REAL_MODEL, REAL_ROWS = "smollm2-135m", 2048
DTYPES = ("f32", "bf16", "f16")
KV_DTYPES = (*DTYPES, "fp8_e4m3fn", "fp8_e4m3fnuz")
P_ROUNDED: Sequence[tuple[str, float]] = (
    ("bf16", 1.0),
    ("f16", 1.0),
    ("fp8_e4m3fn", 1.0),
    ("fp8_e4m3fn", 256.0),
    ("fp8_e4m3fnuz", 128.0),
)
"""Types of P with scales at which exp(s - m), at most 1, stays below the type's largest number."""


@dataclass(frozen=True)
class Library:
    """What the draws must know of a library. ``tile``: the only one that its kernels have, forwards from key 0, with P
    rounded their own way, so that decode's splits alone can be asked for; None: any schedule. ``most_rows``: of a run;
    None: as many as a fixture or a healthy run may have."""

    tile: int | None = None
    most_rows: int | None = None


LIBRARIES: Mapping[str, Library] = {
    "cpu": Library(),
    "hip": Library(tile=64),
    "cuda": Library(tile=64),
    "hip-emulated": Library(tile=64, most_rows=160),
}
"""By backend: those that have a faulty twin. The emulation is some hundred times slower than a CPU's kernels."""


@dataclass(frozen=True)
class Shape:
    """What the draws must know of a model."""

    n_layers: int
    n_heads: int


@dataclass(frozen=True)
class Study:
    """All that a plan depends on. ``isas``: instruction sets of this processor, "" for a library that knows none;
    ``models``: of the healthy runs; ``backend``: one of ``LIBRARIES``."""

    seed: int
    runs: int
    quick: bool = False
    isas: tuple[str, ...] = ("portable",)
    models: tuple[str, ...] = ("synthetic",)
    backend: str = "cpu"

    @property
    def library(self) -> Library:
        return LIBRARIES[self.backend]


@dataclass(frozen=True)
class Planned:
    """One run. ``view``: the model's layers that are run, by themselves; None: all. ``keys``: those of a case."""

    id: str
    part: Part
    model: str
    rows: int
    """N; the prompt has so many random tokens and ``steps`` more."""
    keys: Mapping[str, Any]
    isa: str
    fixture: str = ""
    view: tuple[int, ...] | None = None
    inject: Mapping[str, Any] = field(default_factory=dict)


class Draw:
    """Draws that are the same with every version of Python: ``random.random`` alone is promised to be."""

    def __init__(self, *key: object) -> None:
        self._random = random.Random("/".join(map(str, key))).random  # a plan, no secret

    def one(self, values: Sequence[Any]) -> Any:
        return values[int(self._random() * len(values))]

    def chance(self, share: float) -> bool:
        return self._random() < share

    def log(self, low: float, high: float) -> float:
        return low * math.exp(self._random() * math.log(high / low))

    def rows(self, low: int, high: int) -> int:
        """Log-uniform whole number, both ends included."""
        return min(int(self.log(low, high + 1)), high)


def plan(study: Study, shape_of: Callable[[str], Shape], fixtures: Sequence[Fixture] = FIXTURES) -> list[Planned]:
    """Fault runs, those of the curve, benign runs. Kinds take turns, and the variants of each; in a quick study the
    variants do."""
    kinds = list(dict.fromkeys(f.kind for f in fixtures))
    variants = {kind: [f for f in fixtures if f.kind == kind] for kind in kinds}
    measured = [f for f in fixtures if f.smallest]
    planned = []
    for i in range(study.runs):
        turn = fixtures if study.quick else variants[kinds[i % len(kinds)]]
        at = i if study.quick else i // len(kinds)
        planned.append(_fault(study, "fault", i, turn[at % len(turn)], shape_of))
    for i in range(round(study.runs * CURVE_SHARE) if measured else 0):
        planned.append(_fault(study, "curve", i, measured[i % len(measured)], shape_of))
    for i in range(math.ceil(study.runs * BENIGN_PER_FAULT)):
        planned.append(_benign(study, i, shape_of))
    return planned


def in_turn(planned: Sequence[Planned]) -> list[Planned]:
    """The parts of a study mixed evenly: what is left tells how long it takes, and a study cut short has seen a bit of
    everything."""
    counts = {part: sum(p.part == part for p in planned) for part in ("fault", "curve", "benign")}
    seen = dict.fromkeys(counts, 0)
    places = []
    for p in planned:
        places.append((seen[p.part] + 0.5) / counts[p.part])
        seen[p.part] += 1
    return [p for _, p in sorted(zip(places, planned, strict=True), key=lambda pair: pair[0])]


def layers_looked_at(layer: int | None, n_layers: int, *, inside: bool = True) -> tuple[int, ...]:
    """The layer of a fault with its neighbours, so that naming it takes more than a single choice."""
    if not inside:
        return (0, n_layers - 1) if n_layers > 1 else (0,)
    middle = 0 if layer is None else layer
    return tuple(i for i in range(middle - 1, middle + 2) if 0 <= i < n_layers)


def _fault(study: Study, part: Part, number: int, fixture: Fixture, shape_of: Callable[[str], Shape]) -> Planned:
    name = f"{part}-{number:05d}"
    draw, shape = Draw(study.seed, name), shape_of(fixture.model)
    library = study.library
    keys: dict[str, Any] = {"dtype": draw.one(fixture.dtypes)}
    keys |= {key: draw.one(_had(library, key, values)) for key, values in fixture.keys.items()}
    if "kv_dtype" not in keys and draw.chance(0.5):
        keys["kv_dtype"] = draw.one(KV_DTYPES)
    if "schedule" not in keys and draw.chance(0.5):
        # a rounded P widens what attn_out is entitled to: a smallest magnitude is stated for none
        walk = _walk if fixture.smallest is not None or draw.chance(0.5) else _rounding
        keys["schedule"] = _schedule(draw, library, walk)
    if "gemm" not in keys and draw.chance(0.1):
        keys["gemm"] = "rowwise"
    least, most = fixture.rows
    rows = draw.rows(least, max(least, _at_most(library, most)))
    inject = _inject(draw, part, fixture, shape, rows, keys["dtype"])
    keys["layers"] = layers_looked_at(inject.get("layer"), shape.n_layers, inside=fixture.expect.layer)
    keys["seed"] = int(draw.log(1, 2**31))
    keys |= _backend(study)
    return Planned(name, part, fixture.model, rows, _given(keys), draw.one(study.isas), fixture.name, None, inject)


def _inject(draw: Draw, part: Part, fixture: Fixture, shape: Shape, rows: int, dtype: str) -> dict[str, Any]:
    resolved: Mapping[str, Callable[[], int]] = {
        "layer:any": lambda: int(draw.one(range(shape.n_layers))),
        "layer:upper": lambda: int(draw.one(range(1, shape.n_layers))),
        "head:any": lambda: int(draw.one(range(shape.n_heads))),
        "position:cached": lambda: int(draw.one(range(1, rows))),
        "position:decoded": lambda: rows,
    }
    inject: dict[str, Any] = {"fault": fixture.kind}
    for key, values in fixture.inject.items():
        value = draw.one(values)
        word = f"{key}:{value}"
        inject[key] = resolved[word]() if word in resolved else value
    if fixture.smallest is not None:
        least = fixture.smallest[dtype]
        low, high = (least, SPAN * least) if part == "fault" else (least / SPAN, least)
        sign = draw.one((-1.0, 1.0)) if fixture.signed else 1.0
        inject["magnitude"] = sign * draw.log(low, high)
    return _given(inject)


def _given(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None and value != ()}


def _backend(study: Study) -> dict[str, Any]:
    return {} if study.backend == Study.backend else {"backend": study.backend}


def _at_most(library: Library, rows: int) -> int:
    return rows if library.most_rows is None else min(rows, library.most_rows)


def _had(library: Library, key: str, values: Sequence[Any]) -> Sequence[Any]:
    """The values that the library has; all of them where it has none: that is counted as not run."""
    if key != "schedule" or library.tile is None:
        return values
    return [value for value in values if _fits(library, value)] or values


def _fits(library: Library, schedule: Mapping[str, Mapping[str, Any]]) -> bool:
    asked = [(phase, key, value) for phase, keys in schedule.items() for key, value in keys.items()]
    return all(
        (key == "tile" and value == library.tile) or (key == "splits" and (phase == "decode" or value == 1))
        for phase, key, value in asked
    )


def _schedule(draw: Draw, library: Library, walk: Callable[[Draw], dict[str, Any]]) -> dict[str, Any]:
    if library.tile is not None:
        return {"decode": {"splits": draw.one(range(1, 9))}}
    return {"prefill": walk(draw), "decode": walk(draw)}


def _walk(draw: Draw) -> dict[str, Any]:
    """How one phase walks the keys."""
    return {
        "tile": draw.one(range(16, 129)),
        "splits": draw.one(range(1, 9)),
        "direction": draw.one(("forward", "reverse")),
    }


def _rounding(draw: Draw) -> dict[str, Any]:
    """The rest of a schedule: where tiles begin, how the max runs, what P is rounded to."""
    walk = {**_walk(draw), "tile_origin": draw.one(("zero", "window"))}
    if draw.chance(0.5):
        p_dtype, p_scale = draw.one(P_ROUNDED)
        return {**walk, "p_dtype": p_dtype, "p_scale": p_scale}
    # without a running max, or with a lazy one, P may be far above 1: types that hold it
    return {**walk, "max_update": draw.one(("every_tile", "every_tile", "none", "lazy:4"))}


def _benign(study: Study, number: int, shape_of: Callable[[str], Shape]) -> Planned:
    name = f"benign-{number:05d}"
    draw = Draw(study.seed, name)
    model = draw.one(study.models)
    library = study.library
    most = MOST_ROWS_QUICK if study.quick else REAL_ROWS if model == REAL_MODEL else MOST_ROWS
    rows, companion = draw.rows(1, _at_most(library, most)), _at_most(library, 200)
    shape = shape_of(model)
    dtype = draw.one(DTYPES)
    steps = draw.one((1, 1, 2, 5))
    keys: dict[str, Any] = {
        "dtype": dtype,
        "kv_dtype": draw.one((dtype, dtype, *KV_DTYPES)),
        "gemm": draw.one(("blas", "rowwise")) if rows <= WHOLE_MODEL else "blas",
        "page_size": draw.one((0, 0, 1, 7, 16, 32)),
        "steps": steps,
        "q_len": draw.rows(1, steps),
        "left_pad": draw.rows(1, 40) if draw.chance(0.25) else 0,
        "chunk": draw.rows(max(1, rows // 16), rows) if draw.chance(0.3) else None,
        "batch": tuple(draw.rows(1, companion) for _ in range(draw.one((1, 2, 3)))) if draw.chance(0.3) else (),
        "seed": int(draw.log(1, 2**31)),
    }
    if draw.chance(0.2):
        keys["reuse"] = {"prefix": draw.rows(1, rows), "rollback": draw.one((0, 1, 3))}
    if draw.chance(0.75):
        keys["schedule"] = _schedule(draw, library, _rounding)
    view: tuple[int, ...] | None = None
    if model == REAL_MODEL:
        view = (draw.one(range(shape.n_layers)),)
    elif rows > WHOLE_MODEL or draw.chance(0.3):
        view = tuple(draw.one(range(shape.n_layers)) for _ in range(draw.one((1, 2))))
    else:
        keys["layers"] = layers_looked_at(draw.one(range(shape.n_layers)), shape.n_layers)
    keys |= _backend(study)
    return Planned(name, "benign", model, rows, _given(keys), draw.one(study.isas), view=view)
