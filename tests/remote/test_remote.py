"""``greta remote`` without a server: what is refused, what is packed, what is made of an answer."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pytest_greta import cli
from pytest_greta.cases.model import CaseError
from pytest_greta.packed import pack as packed_line
from pytest_greta.remote import agent, fetching, greta_remote_progress, ssh
from pytest_greta.remote.fetching import Fetched
from pytest_greta.remote.judge import judge
from pytest_greta.remote.pack import PackError, pack
from tests.support import results as samples

DAY = "2026-02-07"


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "a b", "a\nb", "a\x1b[2J"])
def test_what_is_no_host(host, capsys):
    assert cli.main(["remote", "status", "--lang", "en", "--", host]) == 2
    assert "is no host; expected a name of your ssh configuration" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "words", [["--date", "7.2.2026"], ["--mode", "both"], ["--pytest-args", "'open"], ["--devices", "0,x"], ["--what"]]
)
def test_usage(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["remote", "run", "node", *words])
    assert ended.value.code == 2


def test_no_shell_sees_what_the_user_wrote():
    host = ssh.Host("me@node", python="~/my venv/bin/python; rm -rf $HOME")
    *words, name, command = host.command()
    assert name == "me@node"
    assert words[-1] == "--"
    assert "BatchMode=yes" in words
    assert not [word for word in words if "StrictHostKeyChecking" in word or "UserKnownHosts" in word]
    assert shlex.split(command) == ["my venv/bin/python; rm -rf $HOME", "-c", ssh.BOOT]
    assert not set(ssh.BOOT) & set("'\"\\!`$\n")  # csh and fish read these otherwise


def test_the_agent_needs_nothing_of_ours():
    for module in (agent, greta_remote_progress):
        tree = ast.parse(Path(module.__file__).read_text("utf-8"))
        names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "pytest"}


# -- packing -----------------------------------------------------------------------------------------------------------


def project(folder: Path, prompt: str = "../prompts/a b.txt") -> Path:
    (folder / "my cases/.hidden").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "prompts/a b.txt").write_text("Hello")
    (folder / "my cases/big.gguf").write_text("not to be sent")
    for name, marks in (("my cases/x.greta.yaml", "[one, two]"), ("my cases/.hidden/y.greta.yaml", "[three]")):
        case = f"{{id: a, model: synthetic, prompt_file: '{prompt}', mode: kv_aligned, marks: {marks}}}"
        (folder / name).write_text(f"suite: {name[-11]}\ncases:\n  - {case}\n")
    (folder / "my cases/.hidden/y.greta.yaml").write_text("suite: broken")
    return folder / "my cases"


def test_cases_and_their_prompts_are_packed_and_nothing_else(tmp_path):
    packed = pack(project(tmp_path))
    with tarfile.open(fileobj=io.BytesIO(packed.data)) as tar:
        content = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert set(content) == {
        "cases/my cases/x.greta.yaml",
        "cases/prompts/a b.txt",
        *("agent.py", "greta_remote_progress.py", "pytest.ini"),
    }
    assert packed.argument == "cases/my cases"
    assert b"one: " in content["pytest.ini"]
    assert pack(tmp_path / "my cases/x.greta.yaml").argument == "cases/my cases/x.greta.yaml"


def test_what_cannot_be_packed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PackError, match="no case file in"):
        pack(Path("absent"))
    project(tmp_path, "../prompts/absent.txt")
    with pytest.raises(CaseError):
        pack(Path("my cases"))
    assert cli.main(["remote", "run", "node", "--cases", "my cases", "--lang", "en"]) == 2
    assert capsys.readouterr().err.startswith("greta remote: my cases/x.greta.yaml:3:")


# -- the answers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    """Puts a script in the place of ssh: what it says and how it ends is what ssh would."""

    def make(script: str) -> ssh.Host:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return ssh.Host("node")

    return make


HERE = 'for word; do :; done; exec sh -c "$word"'
"""ssh without a network: the last word is what the other side's shell gets."""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Host key verification failed.' >&2; exit 255", "is not among your known hosts"),
        ("echo '@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @' >&2; exit 255", "is another than the one"),
        ("echo 'a@node: Permission denied (publickey).' >&2; exit 255", "node refuses you"),
        ("echo 'ssh: Could not resolve hostname node' >&2; exit 255", "node cannot be found"),
        ("echo 'ssh: connect to host node port 22: Connection refused' >&2; exit 255", "no connection to node"),
        ("echo 'sh: 1: python3: not found' >&2; exit 127", "python3 cannot be run on node"),
        ("echo 'python3: Command not found.' >&2; exit 1", "python3 cannot be run on node"),
        (f"exit {ssh.TOO_OLD}", "older than 3.10"),
        ("echo 'Welcome to node'; exit 0", "node gave no answer (exit code 0)"),
    ],
)
def test_why_there_is_no_answer(fake_ssh, script, said):
    with pytest.raises(ssh.RemoteError) as raised:
        fake_ssh(f"cat > /dev/null; {script}").call("check", folder="")
    assert said in str(raised.value)
    assert raised.value.code == 2


def test_no_ssh_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ssh.RemoteError, match="install the OpenSSH client"):
        ssh.Host("node").call("check", folder="")


def test_a_login_shell_may_talk(fake_ssh, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    host = fake_ssh(f"echo 'Welcome!'; printf 'no line end'; echo; {HERE}")
    found = ssh.Host("node", python=sys.executable).call("check", folder=str(tmp_path / "not yet/there"))
    assert host
    assert found["missing"] == [] or found["missing"] == ["_greta_native"]
    assert found["free"] > 0
    with pytest.raises(ssh.RemoteError, match="the host has no run x"):
        ssh.Host("node", python=sys.executable).call("status", run="x")
    with pytest.raises(ssh.RemoteError, match="what arrived on the host is not what was sent"):
        ssh.Host("node", python=sys.executable).call("start", b"part of", sha256="0", folder="", asked={})


def test_what_the_hosts_doctor_misses_is_shown_and_stops_nothing(fake_ssh, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GRETA_CACHE", str(tmp_path / "no models"))
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    fake_ssh(HERE)
    asked = ["--cases", str(project(tmp_path)), "--remote-dir", "/proc/not here"]  # so that no run begins
    assert cli.main(["remote", "run", "node", "--python", sys.executable, "--lang", "en", *asked]) == 2
    err = capsys.readouterr().err
    shown = " ".join(err.split())
    assert "lacks, by greta doctor there: " in shown
    assert "-- HIP_VISIBLE_DEVICES='' hides every device -> unset HIP_VISIBLE_DEVICES" in shown
    assert "-- model smollm2-135m is not in the cache: cases with it are not run -> greta model pull" in shown
    assert "/proc" in shown.rpartition("smollm2")[2], "the run itself was asked for behind it"


def test_a_doctor_that_does_not_answer_stops_nothing(monkeypatch, tmp_path):
    quiet = tmp_path / "python"
    quiet.write_text("#!/bin/sh\nexit 2\n")
    quiet.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(quiet))
    assert agent.doctor() == []


def test_an_old_python_says_so():
    code = "import sys; sys.version_info = (3, 9); " + ssh.BOOT
    done = subprocess.run([sys.executable, "-c", code], input=b"", check=False)
    assert done.returncode == ssh.TOO_OLD


# -- what comes home ---------------------------------------------------------------------------------------------------


class Answers:
    """A conversation that gives one header and then a stream."""

    def __init__(self, header: dict[str, Any], stream: bytes) -> None:
        self.header, self.stream = header, io.BytesIO(stream)

    def answer(self) -> dict[str, Any]:
        return self.header


def tar(content: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(data) if kind == tarfile.REGTYPE else 0, kind
            file.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def header(content: dict[str, bytes], **more: Any) -> dict[str, Any]:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    plain = {
        "run": "r",
        "date": DAY,
        "host": "node",
        "hostname": "n",
        "user": "u",
        "arguments": [],
        "environment": {},
        "code": 0,
        "state": "ended",
    }
    return {**plain, "total": 1, "done": 1, "free": 1 << 30, "folder": "/f", "files": sums, **more}


def receive(content: dict[str, bytes], stream: bytes, folder: Path, **more: Any) -> Fetched:
    return fetching.receive(Answers(header(content, **more), stream), folder)  # type: ignore[arg-type]


def content(*results: Any) -> dict[str, bytes]:
    return {"pytest.log": b"log", f"artifacts/{DAY}/s/results.jsonl": b"".join(map(packed_line, results))}


def nothing_in(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "artifacts/../../out.txt"])
def test_no_file_leaves_the_folder(tmp_path, name):
    with pytest.raises(ssh.RemoteError, match="no plain file of the run"):
        receive({name: b"x"}, tar({name: b"x"}), tmp_path / "here")
    assert nothing_in(tmp_path)


def test_no_link_is_made(tmp_path):
    with pytest.raises(ssh.RemoteError, match="no plain file of the run"):
        receive({}, tar({"artifacts/x": b""}, tarfile.SYMTYPE), tmp_path)


@pytest.mark.parametrize("end", [0, 100, 513, 1024, 1100, 1600])
def test_a_stream_that_ends_early(tmp_path, end):
    """In a header, in a file, between two."""
    sent = content(samples.result())
    with pytest.raises(ssh.RemoteError) as raised:
        receive(sent, tar(sent)[:end], tmp_path)
    assert raised.value.code == 3
    assert nothing_in(tmp_path)


def test_an_altered_file(tmp_path):
    sent = content(samples.result())
    changed = {name: data.replace(b"l", b"L") for name, data in sent.items()}
    with pytest.raises(ssh.RemoteError, match=r"files are not what they were when the run ended \(2: artifacts/"):
        receive(sent, tar(changed), tmp_path)
    assert nothing_in(tmp_path)


def test_each_fetch_keeps_what_is_there(tmp_path):
    sent = content(samples.result())
    first = receive(sent, tar(sent), tmp_path)
    assert receive(sent, tar(sent), tmp_path).folders == first.folders == (tmp_path / DAY / "s",)
    (first.folders[0] / "results.jsonl").write_text("mine now")
    assert receive(sent, tar(sent), tmp_path).folders == (tmp_path / DAY / "s.2",)
    assert receive(sent, tar(sent), tmp_path, run="another").folders == (tmp_path / DAY / "s.3",)
    assert (first.folders[0] / "results.jsonl").read_text() == "mine now"
    assert (tmp_path / DAY / "s.3/run/pytest.log").read_text() == "log"


# -- the judgement -----------------------------------------------------------------------------------------------------

INCONCLUSIVE = {"status": "INCONCLUSIVE", "scenario": None, "outcome": "failed"}
NOT_RUN = {"outcome": "not_run", "verdict": None, "not_run": "no model", "not_run_kind": "model"}


@pytest.mark.parametrize(
    ("results", "about", "code", "said"),
    [
        ([samples.result()], {}, 0, ""),
        ([samples.result(), samples.result("b", **NOT_RUN)], {"total": 2}, 0, ""),
        ([samples.mismatch()], {"code": 1}, 1, ""),
        ([samples.mismatch(), samples.result("b", **INCONCLUSIVE)], {"code": 1, "total": 2}, 1, ""),
        ([samples.mismatch()], {"code": 1, "total": 3}, 1, "results of 1 of 3 probes came back"),
        ([samples.result("b", **INCONCLUSIVE)], {"code": 1}, 3, ""),
        ([samples.result("b", **NOT_RUN)], {"code": 1}, 3, "no probe could be run there"),
        ([samples.result()], {"code": 1}, 3, "pytest failed there although no probe did"),
        ([samples.result()], {"total": 2}, 3, "results of 1 of 2 probes came back"),
        ([samples.result()], {"total": None}, 3, "results of 1 of ? probes came back"),
        ([samples.result()], {"code": 2}, 3, "pytest ended with 2 there"),
        ([samples.result()], {"code": -9, "free": 0}, 3, "pytest ended with -9 there"),
        ([samples.result()], {"code": None, "state": "lost"}, 3, "the run's processes are gone"),
        ([], {"code": 4}, 2, "pytest ran no probe there (exit code 4)"),
        ([], {"code": 2, "total": None}, 2, "pytest ran no probe there (exit code 2)"),
        ([], {"code": 2}, 3, "pytest ended with 2 there"),
        ([], {"code": 0}, 3, "results of 0 of 1 probes came back"),
    ],
)
def test_the_judgement(tmp_path, results, about, code, said):
    sent = content(*results)
    judged = judge(receive(sent, tar(sent), tmp_path, **about))
    assert judged.code == code
    assert said in " ".join(map(str, judged.reasons))
    assert bool(said) == bool(judged.reasons)
    assert ("the disk of /f on the host is full" in map(str, judged.reasons)) == (about.get("free") == 0)


def test_a_line_that_is_no_result_is_no_pass(tmp_path):
    sent = content(samples.result())
    sent[f"artifacts/{DAY}/s/results.jsonl"] += b'{"suite": "s"'
    judged = judge(receive(sent, tar(sent), tmp_path))
    assert (judged.code, len(judged.results), len(judged.reasons)) == (3, 1, 1)
