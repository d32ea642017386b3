"""Runs by several processes, each of which may die: what it was running is then a record of its own."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from pytest_greta.jsonline import json_line
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.selftest.plan import Planned
from pytest_greta.selftest.run import Record, execute

TIMEOUT = 1200.0
"""Seconds for one run. The longest planned take seven of one core; on a busy machine that is minutes."""
_TICK = 1.0


def run_all(
    planned: Iterable[Planned],
    jobs: int,
    done: Callable[[Record], None],
    tick: Callable[[], None] = lambda: None,
    timeout: float = TIMEOUT,
) -> None:
    """Every run, ``done`` once each in the order in which they end; ``tick`` about once a second.

    ``jobs`` of 0: in this process, where a crash is the end of all.
    """
    waiting = deque(planned)
    if jobs == 0:
        from pytest_greta.probing import blas_threads

        with blas_threads(1):
            while waiting:
                done(execute(waiting.popleft()))
                tick()
        return
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:

        def start() -> None:
            worker = _Worker()
            stack.callback(worker.kill)
            selector.register(worker.out, selectors.EVENT_READ, worker)
            worker.send(waiting.popleft())

        for _ in range(min(jobs, len(waiting))):
            start()
        while selector.get_map():
            ready = {key.data for key, _ in selector.select(_TICK)}
            tick()
            for worker in [key.data for key in selector.get_map().values()]:
                late = worker.late(timeout)
                if worker not in ready and not late:
                    continue
                record = worker.receive() if worker in ready else worker.stopped(f"no answer in {timeout:g} s")
                if record is None:  # half a line
                    continue
                done(record)
                if not worker.lives:
                    selector.unregister(worker.out)
                    worker.kill()
                    if waiting:
                        start()
                elif waiting:
                    worker.send(waiting.popleft())
                else:
                    selector.unregister(worker.out)
                    worker.close()


class _Worker:
    """One process and the run that it was given last."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest_greta.selftest.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        self.out = self._process.stdout.fileno()
        self.lives = True
        self._buffer = b""
        self._at, self._since = "", 0.0

    def send(self, planned: Planned) -> None:
        assert self._process.stdin is not None
        self._at, self._since = planned.id, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died after its last record: seen when it is read from
            self._process.stdin.write(json_line(to_plain(planned)))
            self._process.stdin.flush()

    def late(self, timeout: float) -> bool:
        return time.monotonic() - self._since > timeout

    def receive(self) -> Record | None:
        """The record of the run, where all of it is here; where the process ended, what it ended with."""
        data = os.read(self.out, 1 << 16)
        if not data:
            return self.stopped(_how(self._process.wait()))
        self._buffer += data
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        return from_plain(Record, orjson.loads(line))

    def stopped(self, why: str) -> Record:
        self.lives = False
        return Record(self._at, error=why, seconds=time.monotonic() - self._since)

    def close(self) -> None:
        """Nothing more to do: it ends by itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code}"
    try:
        return f"the process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was ended by signal {-code}"
