"""A body in a process of its own: what it returns, or what became of that process.

The process has a pipe on which a record counts only with the key that was drawn for it, and its stdout is a file that
must stay empty. So neither ``exit(0)`` nor ``printf`` looks like an end, and what forks, hangs or crashes costs itself.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import BackendError, BackendMissing
from pytest_greta.conformance.finding import Finding
from pytest_greta.conformance.guarded import libc

Record = dict[str, Any]
Body = Callable[["Tell"], Record]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
PERIOD = 0.1
"""Seconds between two looks at a body that runs."""


class Tell:
    """The body's end of its pipe."""

    def __init__(self, fd: int, key: str) -> None:
        self._fd, self._key = fd, key

    def __call__(self, function: str) -> None:
        self._write(function=function)

    def end(self, record: Record) -> None:
        self._write(end=record)

    def _write(self, **record: Any) -> None:
        os.write(self._fd, (json.dumps({"key": self._key, **record}) + "\n").encode())


def prepare() -> None:
    """Once for all bodies of this process."""
    _, c = libc()
    c.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a body leaves behind becomes ours, to be seen and ended
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # for sigtimedwait


def apart(body: Body, seconds: float) -> Record:
    """What ``body`` returns in a process of its own, or what became of that process."""
    key = secrets.token_hex(16)
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as stderr:
        pid = os.fork()
        if pid == 0:
            _in_child(body, Tell(writing, key), writing, printed.fileno(), stderr.fileno())
        os.close(writing)
        status = _wait(pid, seconds)
        left = _end_everything_of(pid)
        os.set_blocking(reading, False)
        said = b""
        with suppress(BlockingIOError):
            while chunk := os.read(reading, 65536):
                said += chunk
        os.close(reading)
        printed.seek(0)
        stderr.seek(0)
        found = _judge(status, said, key, seconds, printed.read(2000).decode(errors="replace"), left)
        words = stderr.read()[-2000:].decode(errors="replace").strip()
    return {**found, **({"stderr": words} if words and found["kind"] != "ok" else {})}


def _in_child(body: Body, tell: Tell, writing: int, printed: int, stderr: int) -> None:
    """Never returns."""
    try:
        os.setsid()
        libc()[1].prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, at in ((nothing, 0), (printed, 1), (stderr, 2)):
            os.dup2(fd, at)
        os.closerange(3, writing)
        os.closerange(writing + 1, 4096)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pid = os.getpid()
        try:
            record = body(tell)
        except Finding as finding:
            record = {"kind": finding.kind, **finding.values}
        except (BackendError, BackendMissing) as error:
            said = error.said
            record = {"kind": "said", "said": {"en": said.en, "es": said.es}}
        except BaseException:
            record = {"kind": "internal", "words": traceback.format_exc(limit=-2)}
        if os.getpid() == pid:
            ffi, c = libc()
            c.fflush(ffi.NULL)
            if record["kind"] == "ok" and _forked():
                record["kind"] = "fork"
            tell.end(record)
    finally:
        os._exit(0)


def _forked() -> bool:
    """Whether this process has, or had, a child: nothing else here makes one."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0 or _has_children()


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _wait(pid: int, seconds: float) -> int | None:
    """The wait status of ``pid``; None where it had to be ended: it used, or slept, ``seconds``.

    Not by the clock alone: on a busy machine a process may wait longer than that for a core.
    """
    asleep, begin = 0.0, time.monotonic()
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, min(PERIOD, seconds))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        now = time.monotonic()
        running, used = _life(pid)
        asleep += 0.0 if running else min(now - begin, PERIOD)
        begin = now
        if max(asleep, used) >= seconds:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None


def _life(pid: int) -> tuple[bool, float]:
    """Whether a thread of the process runs or waits for a core, and the seconds of processor that all have used."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            states.append(_fields(stat)[0])
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return "R" in states, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fields(stat: Path) -> list[str]:
    """What follows the name, which may hold anything: state, parent, ..."""
    return stat.read_text(encoding="latin-1").rpartition(")")[2].split()


def _end_everything_of(pid: int) -> bool:
    """Ends what a case left behind: its session's processes and those that it orphaned to us. Was there any?"""
    left = False
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
        left = True
    while _has_children():
        left = True
        for orphan in _children():
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(orphan, 0)
    return left


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                if int(_fields(entry / "stat")[1]) == own:
                    found.append(int(entry.name))
    return found


def _judge(status: int | None, said: bytes, key: str, seconds: float, printed: str, left: bool) -> Record:
    function, end = "dlopen", None
    for line in said.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("key") == key:
            function, end = record.get("function", function), record.get("end", end)
    at: Record = {"function": function}
    if status is None:
        return {**at, "kind": "hang", "seconds": seconds}
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return {**at, "kind": "crash", "number": number, "signal": signal.Signals(number).name}
    if end is None:
        return {**at, "kind": "exit", "code": os.WEXITSTATUS(status)}
    found: Record = {**at, **end}
    if found["kind"] == "ok" and left:
        found["kind"] = "fork"
    if found["kind"] == "ok" and printed:
        return {**found, "kind": "printed", "words": printed.strip()[:60]}
    return found
