"""Asks an attention library in a process of its own: counting devices initialises a GPU, and a driver may hang.

``python -m pytest_greta.doctor.ask PATH`` is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pytest_greta.doctor.facts import Answer
from pytest_greta.texts import Text, as_text, text

TIMEOUT = 30.0
"""Seconds for a library to answer: the first call of a driver may take several for each GPU."""

_GRACE = 2.0
"""Seconds for a killed process to go. One that hangs inside the driver does not, and is left behind."""

_ROWS, _HEAD = 16, 64
"""Of the session that is opened: as small as any library takes."""


def ask(path: Path, timeout: float = TIMEOUT) -> Answer:
    """What the library at ``path`` says; never an exception, and nothing of it is loaded here."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a library may have started processes of its own
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        return Answer(broken=True, reason=text("doctor.hung", seconds=f"{timeout:g}"))
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(out)
        reason = found.pop("reason")
        return Answer(**found, reason=None if reason is None else Text(*reason))
    return Answer(broken=True, reason=_ending(process.returncode, err))


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _ending(code: int, err: bytes) -> Text:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return text("doctor.crashed", signal=name)
    lines = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
    return text("doctor.exited", code=code, words=lines[-1] if lines else "-")


def main() -> None:
    """The answer is the only thing on stdout: whatever the library prints goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    plain = json.dumps(answer(Path(sys.argv[1]))).encode()
    while plain:
        plain = plain[os.write(answers, plain) :]


def answer(path: Path) -> dict[str, Any]:
    """Loads the library: in a process for this alone."""
    from pytest_greta.backends.base import BackendError, BackendMissing, LayerConfig, SessionConfig
    from pytest_greta.backends.native import load

    found: dict[str, Any] = {"broken": True, "reason": None}
    try:
        backend = load(path)
        described = backend.describe()
        raw = described.raw
        found |= {"version": described.version, "kind": described.device_kind, "isa": str(raw.get("isa", ""))}
        found["broken"] = False
        found["devices"] = backend.device_count()
        act = "f32" if "f32" in described.act_dtypes or not described.act_dtypes else described.act_dtypes[0]
        config = SessionConfig(
            n_layers=1,
            n_heads=1,
            n_kv_heads=1,
            head_dim_qk=_HEAD,
            head_dim_v=_HEAD,
            max_seqs=1,
            max_len=_ROWS,
            act_dtype=act,
            kv_dtype=act if act in described.kv_dtypes or not described.kv_dtypes else described.kv_dtypes[0],
            softmax_scale=1.0,
            layers=(LayerConfig(),),
        )
        backend.open(config).close()
        found["opens"] = True
    except BackendMissing as error:
        found["reason"] = (error.message_text.en, error.message_text.es)
    except BackendError as error:
        found["reason"] = (error.said.en, error.said.es)
    except Exception as error:  # whatever it is, it is the library's answer
        said = as_text(f"{type(error).__name__}: {error}")
        found |= {"broken": True, "reason": (said.en, said.es)}
    return found


if __name__ == "__main__":
    main()
