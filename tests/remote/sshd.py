"""A real OpenSSH server on the loopback address, with keys, client configuration and home folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GATE = """\
import pathlib, time

def pytest_runtest_setup(item):
    while not (pathlib.Path.home() / "open").exists():
        time.sleep(0.05)
"""
"""A plugin on the host, for --pytest-args="-p gate": no test begins before the gate is open."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def key(path: Path) -> str:
    """A new key pair; the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@dataclass
class Server:
    """``home`` is what the sessions have for HOME, a folder with a space in its name."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "a home"

    @property
    def config(self) -> Path:
        return self.folder / "ssh config"

    @property
    def log(self) -> Path:
        return self.folder / "sshd.log"

    def start(self) -> None:
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or ""
        assert sshd, "no OpenSSH server; install openssh-server"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where the server asks for it, as its package does at boot
        self.home.mkdir()
        (self.folder / "authorized").write_text(key(self.folder / "user"))
        public = key(self.folder / "host")
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}")
        kept = {k: v for k, v in os.environ.items() if k in ("GRETA_CACHE", "OMP_NUM_THREADS")}
        environ = {**kept, "HOME": str(self.home), "PYTHONPATH": f"{ROOT}:{self.folder}"}
        (self.folder / "gate.py").write_text(GATE)
        if "GRETA_CACHE" not in environ:
            environ["GRETA_CACHE"] = str(Path.home() / ".cache/pytest-greta")
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}",
            f'HostKey "{self.folder}/host"',
            f'AuthorizedKeysFile "{self.folder}/authorized"',
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "SetEnv " + " ".join(f'"{k}={v}"' for k, v in environ.items()),
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        self.config.write_text(self.client())
        self.process = subprocess.Popen([sshd, "-D", "-E", self.log, "-f", self.folder / "sshd_config"])
        self.wait_until_it_listens()

    def client(self, known: str = "known", identity: str = "user") -> str:
        lines = [
            "Host node",
            "  HostName 127.0.0.1",
            f"  Port {self.port}",
            f"  User {getpass.getuser()}",
            f'  IdentityFile "{self.folder}/{identity}"',
            "  IdentitiesOnly yes",
            "  IdentityAgent none",
            f'  UserKnownHostsFile "{self.folder}/{known}"',
            "  GlobalKnownHostsFile none",
            "  StrictHostKeyChecking ask",
        ]
        return "\n".join(lines) + "\n"

    def wait_until_it_listens(self) -> None:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def sessions(self) -> list[int]:
        """The server's processes that serve a connection, and nothing that was started in one."""
        assert self.process is not None
        found, todo = [], [self.process.pid]
        while todo:
            for child in children(todo.pop()):
                if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sshd"):
                    found.append(child)
                    todo.append(child)
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    # -- the command ---------------------------------------------------------------------------------------------------

    def words(self, action: str, *words: str, config: Path | None = None, python: str = sys.executable) -> list[str]:
        greta = [sys.executable, "-m", "pytest_greta.cli", "remote", action, "node"]
        return [*greta, "--ssh-config", str(config or self.config), "--python", python, *words]

    def greta(self, action: str, *words: str, cwd: Path, **how: Path) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
        command = self.words(action, *words, **how)
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)

    @contextlib.contextmanager
    def open_gate(self) -> Iterator[None]:
        (self.home / "open").touch()
        try:
            yield
        finally:
            (self.home / "open").unlink()

    def runs(self) -> list[Path]:
        return sorted(self.home.glob(".greta-remote/*/runs/*"))


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
