"""The side of ``greta remote`` that works on the host. It is sent there with each call and imports nothing of ours.

Read by the host's Python from stdin (``ssh.BOOT``), it takes one line of JSON, the request, and answers with lines of
JSON behind ``MARK``; whatever else a login shell prints is no answer. Folders on the host::

    ~/.greta-remote/<hostname>/        of one machine: several may share a home folder
      lock        held with flock by a run as long as any process of it lives
      runs/<run>/ or, with a folder of the user's, a link to <folder>/<run>
        agent.py, greta_remote_progress.py, pytest.ini, cases/   what was sent
        run.json    what was asked for
        artifacts/, pytest.log, progress
        ended.json  pytest's exit code and the SHA-256 of every file, written when it is over

``python agent.py FD`` in a run's folder is the run itself, in a session of its own, so that no lost connection ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

MARK = b"@greta "
RESERVE = 4 << 20
"""Bytes that must be free beside what is sent: room for logs and reports. Traces may need far more."""

POLL, HEARTBEAT = 0.5, 10.0
"""Seconds between two looks at a run, and between two answers where nothing changes: a broken pipe shows by them."""

GRACE = 30.0
"""Seconds that a stopped pytest has to write its reports."""

DOCTOR = 60.0
"""Seconds for ``greta doctor``, which asks drivers and has a patience of its own."""

PACKAGES = ("pytest-greta", "pytest", "pytest-xdist", "numpy")
MODULES = ("pytest_greta", "pytest", "_greta_native")
"""What a run needs, by the names under which it is imported."""


class Refused(Exception):
    """A key of ``catalogue/remote.py`` and its values: the words are put together at home, in both languages."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


def answer(plain: dict[str, Any]) -> None:
    sys.stdout.buffer.write(MARK + json.dumps(plain).encode() + b"\n")
    sys.stdout.buffer.flush()


# -- folders, the lock, states -----------------------------------------------------------------------------------------


def base() -> Path:
    folder = Path.home() / ".greta-remote" / socket.gethostname()
    (folder / "runs").mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def take_lock(how: int) -> int | None:
    """A descriptor that holds the lock, or None where a run has it. The kernel frees it with the last process."""
    descriptor = os.open(base() / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def holder() -> dict[str, Any] | None:
    """The run that holds the lock: its name and start. None: nobody does, whatever the file says."""
    descriptor = take_lock(fcntl.LOCK_SH)
    if descriptor is not None:
        os.close(descriptor)
        return None
    with contextlib.suppress(ValueError):
        found: dict[str, Any] = json.loads((base() / "lock").read_bytes())
        return found
    return {"run": "?", "since": 0.0}  # taken, and its name not yet written


def find(name: str) -> Path:
    """The folder of a run, of the latest where none is named."""
    runs = sorted(path for path in (base() / "runs").iterdir() if (path / "run.json").is_file())
    for path in reversed(runs):
        if name in ("", path.name):
            return path
    raise Refused("remote.no_run", run=name or "-")


def state(folder: Path) -> dict[str, Any]:
    """running; ended, with pytest's exit code; or lost: its processes are gone and it never came to its end."""
    asked = json.loads((folder / "run.json").read_bytes())
    found = {"run": folder.name, "folder": str(folder.resolve()), **asked, **progress(folder), "free": free(folder)}
    held = holder()
    with contextlib.suppress(OSError, ValueError):  # looked for after the lock: a run writes it and then lets go
        return {**found, "state": "ended", **json.loads((folder / "ended.json").read_bytes())}
    if held is not None and held["run"] == folder.name:
        return {**found, "state": "running"}
    return {**found, "state": "lost", "code": None, "files": {}}


def progress(folder: Path) -> dict[str, Any]:
    """Tests in all, done and failed, and seconds since the first; ``total`` is None before all are collected."""
    try:
        head, _, done = (folder / "progress").read_bytes().partition(b"\n")
        total, began = head.split()
        return {
            "total": int(total),
            "done": len(done),
            "failed": done.count(b"F"),
            "seconds": time.time() - float(began),
        }
    except (OSError, ValueError):
        return {"total": None, "done": 0, "failed": 0, "seconds": 0.0}


def free(folder: Path) -> int:
    """Bytes that this user may still write there, or where the folder would be."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def files(folder: Path) -> list[str]:
    """What goes home."""
    paths = [folder / "pytest.log", *sorted((folder / "artifacts").rglob("*"))]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file() and not path.is_symlink()]


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path."""
    found = {}
    for name in files(folder):
        digest = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found[name] = digest.hexdigest()
    return found


# -- the commands ------------------------------------------------------------------------------------------------------


def check(request: dict[str, Any]) -> None:
    """What a run would find here."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    folder = Path(request["folder"]).expanduser() if request["folder"] else base()
    missing = [name for name in MODULES if util.find_spec(name) is None]
    answer(
        {
            "hostname": socket.gethostname(),
            "user": getpass.getuser(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "executable": sys.executable,
            "versions": versions,
            "missing": missing,
            "doctor": [] if missing else doctor(),
            "folder": str(folder),
            "free": free(folder),
        }
    )


def doctor() -> list[dict[str, Any]]:
    """What ``greta doctor`` misses here, in both languages; nothing where it does not answer: it stops no run."""
    words = [sys.executable, "-m", "pytest_greta.cli", "doctor", "--json"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=DOCTOR, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout)["missing"]
        return found
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def start(request: dict[str, Any]) -> None:
    """Unpacks what was sent into a fresh folder and runs pytest there, apart from this connection."""
    sent = sys.stdin.buffer.read()
    if hashlib.sha256(sent).hexdigest() != request["sha256"]:
        raise Refused("remote.cut_sending")
    held = _lock_or_refuse()
    root = Path(request["folder"]).expanduser().absolute() if request["folder"] else base() / "runs"
    if free(root) < len(sent) + RESERVE:
        raise Refused("remote.no_room", path=str(root), free=free(root), need=len(sent) + RESERVE)
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    folder = root / name
    root.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    try:
        asked = {**request["asked"], "hostname": socket.gethostname(), "user": getpass.getuser()}
        _unpack(sent, folder, asked)
        if request["folder"]:
            (base() / "runs" / name).symlink_to(folder)
        os.pwrite(held, json.dumps({"run": name, "since": time.time()}).encode(), 0)
    except OSError:  # a full disk, most likely; nothing of a run that never began is left
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with (folder / "pytest.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "agent.py", str(held)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[held],
            start_new_session=True,
        )
    answer({"run": name, "folder": str(folder)})


def _unpack(sent: bytes, folder: Path, asked: dict[str, Any]) -> None:
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        for entry in tar:
            target, file = folder / entry.name, tar.extractfile(entry)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read() if file else b"")
    (folder / "run.json").write_text(json.dumps(asked))


def _lock_or_refuse() -> int:
    for _ in range(5):  # somebody who only looks holds it for a moment
        descriptor = take_lock(fcntl.LOCK_EX)
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            return descriptor
        time.sleep(0.1)
    by = holder() or {"run": "?", "since": 0.0}
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(by["since"])) if by["since"] else "?"
    raise Refused("remote.locked", run=by["run"], since=since)


def status(request: dict[str, Any]) -> None:
    """All runs, or the one that was named."""
    if request["run"]:
        answer({"runs": [state(find(request["run"]))]})
        return
    folders = sorted(path for path in (base() / "runs").iterdir() if (path / "run.json").is_file())
    answer({"runs": [state(folder) for folder in folders]})


def follow(request: dict[str, Any]) -> None:
    """The state again and again, until the run is over."""
    folder = find(request["run"])
    said: tuple[Any, ...] = ()
    last = 0.0
    while True:
        now = state(folder)
        shown = (now["state"], now["total"], now["done"], now["failed"])
        if shown != said or time.monotonic() - last > HEARTBEAT:
            answer({key: value for key, value in now.items() if key != "files"})
            said, last = shown, time.monotonic()
        if now["state"] != "running":
            return
        time.sleep(POLL)


def stop(request: dict[str, Any]) -> None:
    """Asks the run to end as Ctrl-C would; it is the run's own process that does it, so no other is ever hit."""
    folder = find(request["run"])
    if state(folder)["state"] == "running":
        (folder / "stop").touch()
    follow(request)


def fetch(request: dict[str, Any]) -> None:
    """The state with the checksums made at the end of the run, and the files behind it as a tar stream."""
    folder = find(request["run"])
    now = state(folder)
    if now["state"] == "running":
        raise Refused("remote.still_running", run=folder.name)
    if now["state"] == "lost":
        now["files"] = sums(folder)
    answer(now)
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in files(folder):  # what is there, not what should be: the other side compares
            tar.add(folder / name, name)
    sys.stdout.buffer.flush()


# -- the run itself ----------------------------------------------------------------------------------------------------


def run(held: int) -> None:
    """pytest in this folder. It inherits the lock, which so lives as long as it does, even without this process."""
    folder = Path.cwd()
    asked = json.loads((folder / "run.json").read_bytes())
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, **asked["environment"], "PYTHONPATH": path, "GRETA_REMOTE_PROGRESS": str(folder / "progress")}
    with (folder / "pytest.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pytest", *asked["arguments"]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=[held],
        )
        code = _wait(child, folder / "stop")
    temporary = folder / "ended.tmp"
    with temporary.open("w") as file:
        json.dump({"code": code, "files": sums(folder)}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / "ended.json")


def _wait(child: subprocess.Popen[bytes], stopped: Path) -> int:
    asked_at = 0.0
    while True:
        try:
            return child.wait(timeout=POLL)
        except subprocess.TimeoutExpired:
            if not asked_at and stopped.exists():
                asked_at = time.monotonic()
                child.send_signal(signal.SIGINT)
            elif asked_at and time.monotonic() - asked_at > GRACE:
                child.kill()


COMMANDS: dict[str, Callable[[dict[str, Any]], None]] = {
    command.__name__: command for command in (check, start, status, follow, stop, fetch)
}


def main() -> None:
    if len(sys.argv) > 1:
        run(int(sys.argv[1]))
        return
    try:
        request = json.loads(sys.stdin.buffer.readline())
        COMMANDS[request["command"]](request)
    except Refused as refused:
        answer({"error": refused.key, "values": refused.values})
    except BrokenPipeError:  # the connection went away; the run goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = str(error.filename or Path.home())
        answer({"error": "remote.host_os", "values": {"path": where, "why": error.strerror or str(error)}})


if __name__ == "__main__":
    main()
