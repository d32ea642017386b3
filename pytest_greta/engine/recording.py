"""What the calls of one path did, while they are made."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Description
from pytest_greta.backends.complete import Completed
from pytest_greta.engine.tracer import Tracer
from pytest_greta.engine.ways import Call
from pytest_greta.trace.paths import PathName
from pytest_greta.trace.records import KernelRun, Key, PathTrace, Tap


class Recording:
    """Its taps, its calls, and the kernels that its library counted during them."""

    def __init__(self, name: PathName, library: Description, session: Completed, tracer: Tracer) -> None:
        self.name, self.library, self.session, self.tracer = name, library, session, tracer
        self._ran: Counter[tuple[str, str]] = Counter()
        self._calls: list[Call] = []

    @contextlib.contextmanager
    def counting(self, call: Call) -> Iterator[None]:
        """The kernels that run inside the block are this path's; whatever else the session did is not."""
        before = Counter(self.session.counters())
        yield
        self._ran.update(Counter(self.session.counters()) - before - self.tracer.ran)
        self.tracer.ran.clear()
        self._calls.append(call)

    def trace(self, ids: NDArray[np.int64], beside: Mapping[Key, Tap] | None = None) -> PathTrace:
        rows = np.concatenate([call.rows for call in self._calls])
        positions = np.concatenate([call.batch.positions[call.probed] for call in self._calls]).astype(np.int64)
        source: Literal["library", "declared"] = "library" if "counters" in self.library.features else "declared"
        kernels = tuple(
            KernelRun(self.library.name, kernel, phase, calls, source)
            for (phase, kernel), calls in sorted(self._ran.items())
        )
        segments = tuple((call.phase, int(call.rows[0]), len(call.rows)) for call in self._calls)
        others = {**(beside or {}), **self.tracer.beside_taps()}
        return PathTrace(self.name, ids[rows], rows, positions, self.tracer.taps(), kernels, segments, others)
