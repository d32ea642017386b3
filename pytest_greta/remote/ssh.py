"""The host, reached by the user's own ``ssh``: their configuration, keys, agent and known hosts; no password prompt.

The remote command is a constant but for the name of the Python, so that no path or pattern of the user's ever goes
through the host's shell; all else is JSON and bytes on stdin.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pytest_greta.exit_codes import USAGE
from pytest_greta.remote.agent import MARK
from pytest_greta.report.text import clean
from pytest_greta.texts import SaidError, Text, text

AGENT = Path(__file__).with_name("agent.py")

TOO_OLD = 71
"""Exit code of ``BOOT`` under a Python that cannot run pytest-greta (EX_OSERR, which nothing else here gives)."""

BOOT = (
    f"import sys; sys.version_info < (3, 10) and sys.exit({TOO_OLD}); "
    "n = int(sys.stdin.buffer.readline()); exec(sys.stdin.buffer.read(n))"
)
"""Runs the agent that comes on stdin behind its length. No quote, backslash or exclamation mark: any login shell."""

ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""A connection that says nothing for a minute is a lost one; the run does not need it."""

_NO_SSH = (126, 127)
_SSH_FAILED = 255
_REASONS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "remote.key_changed"),
    (r"[Hh]ost key verification failed|No .* host key is known", "remote.key_unknown"),
    (r"Permission denied|Too many authentication failures", "remote.denied"),
    (r"Could not resolve hostname", "remote.unknown_host"),
)
_NOT_FOUND = re.compile(r"not found|No such file|Permission denied", re.I)
_PATIENCE = 5.0
"""Seconds for ssh to end by itself after the last answer."""

_SHOWN = 5
"""Lines of ssh's own words that are repeated."""


class RemoteError(SaidError):
    """Something on the way to the host or there. ``code``: the exit code, 2 where nothing was started, else 3."""

    def __init__(self, said: Text, code: int = USAGE, details: tuple[str, ...] = ()) -> None:
        super().__init__(said)
        self.code, self.details = code, details


@dataclass(frozen=True)
class Host:
    """``name`` as ssh takes it: an alias of the user's configuration, ``user@host`` or ``ssh://user@host:port``.

    ``config``: another configuration file of ssh's. ``python``: the interpreter there, a command or a path.
    """

    name: str
    python: str = "python3"
    config: Path | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith("-") or not self.name.isprintable() or " " in self.name:
            raise RemoteError(text("remote.bad_host", host=repr(self.name)))

    def command(self) -> list[str]:
        python = self.python.removeprefix("~/")  # a session starts in the home folder, and no shell shall expand it
        config = ["-F", str(self.config)] if self.config else []
        return ["ssh", *config, "-T", "-o", "BatchMode=yes", *ALIVE, "--", self.name, shlex.join([python, "-c", BOOT])]

    def call(self, command: str, payload: bytes = b"", **request: object) -> dict[str, Any]:
        """One question, one answer. Raises ``RemoteError``."""
        with self.talk(command, payload, **request) as conversation:
            return conversation.answer()

    @contextlib.contextmanager
    def talk(self, command: str, payload: bytes = b"", **request: object) -> Iterator[Conversation]:
        """Several answers, and a stream behind them. ssh is gone when this ends."""
        agent = AGENT.read_bytes()
        asked = json.dumps({"command": command, **request}).encode()
        with tempfile.TemporaryFile() as errors:
            try:
                ssh = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            except OSError as error:
                raise RemoteError(text("remote.no_ssh", why=error.strerror or str(error))) from None
            with ssh:
                assert ssh.stdin is not None
                assert ssh.stdout is not None
                try:
                    with contextlib.suppress(BrokenPipeError), ssh.stdin as stdin:  # the exit code says why it went
                        stdin.write(b"%d\n%s%s\n%s" % (len(agent), agent, asked, payload))
                    yield Conversation(self, ssh, ssh.stdout, errors)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        ssh.wait(_PATIENCE)
                finally:
                    ssh.terminate()


@dataclass(frozen=True)
class Conversation:
    """The answers of one call, in turn."""

    host: Host
    ssh: subprocess.Popen[bytes]
    stream: IO[bytes]
    errors: IO[bytes]

    def answer(self) -> dict[str, Any]:
        """The next one. Raises ``RemoteError``: what the host refused, or why there is none."""
        for line in self.stream:
            if line.startswith(MARK) and line.endswith(b"\n"):  # all else is what a login shell prints
                found: dict[str, Any] = json.loads(line.removeprefix(MARK))
                if "error" in found:
                    raise RemoteError(text(found["error"], **_printable(found["values"])))
                return found
        raise self.broken()

    def broken(self) -> RemoteError:
        """Why the stream ended too soon."""
        code = self.ssh.wait()
        self.errors.seek(0)
        lines = [clean(line) for line in self.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        host, said = clean(self.host.name), "\n".join(lines)
        details = tuple(lines[-_SHOWN:])
        if code == _SSH_FAILED:
            key = next((key for pattern, key in _REASONS if re.search(pattern, said)), "remote.no_connection")
            return RemoteError(text(key, host=host), details=details)
        if code == TOO_OLD:
            return RemoteError(text("remote.old_python", host=host, python=clean(self.host.python)))
        if code in _NO_SSH or _NOT_FOUND.search(said):
            return RemoteError(text("remote.no_python", host=host, python=clean(self.host.python)), details=details)
        return RemoteError(text("remote.no_answer", host=host, code=code), details=details)


def _printable(values: dict[str, Any]) -> dict[str, Any]:
    return {key: clean(value) if isinstance(value, str) else value for key, value in values.items()}
