"""``greta remote``: pytest on a host that ssh reaches, apart from the connection, and its verdicts as the exit code."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pytest_greta.cases.model import MODES
from pytest_greta.exit_codes import INCONCLUSIVE, PASSED, USAGE
from pytest_greta.options import LANGS
from pytest_greta.texts import Text, text

if TYPE_CHECKING:
    from pytest_greta.remote.fetching import Fetched
    from pytest_greta.remote.pack import Pack
    from pytest_greta.remote.ssh import Conversation, Host
    from pytest_greta.report.messages import Lang

STOPPED = 130
"""Exit code of Ctrl-C here, while the run goes on there. ``USAGE``: nothing was started."""

ARTIFACTS = "artifacts_remote"
COLUMNS = 80
LOG_LINES = 15
"""The end of pytest's output that is shown where there are no results."""

Subparsers = Any


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``remote``; ``args.func(args)`` returns the exit code."""
    parser = subparsers.add_parser(
        "remote",
        help="run cases on another machine / ejecutar casos en otra máquina",
        description="Runs pytest on a host that your own ssh reaches, in the background there; brings results back and "
        "judges them. / Ejecuta pytest en una máquina a la que llega su propio ssh, allí en segundo plano; trae los "
        "resultados y los juzga.",
        epilog="exit codes / códigos de salida: 0 pass, 1 mismatch, 2 nothing started, 3 inconclusive",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = _action(actions, "run", "send cases and run them / enviar casos y ejecutarlos", _run)
    run.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="of the folder and reports; today / fecha; hoy")
    run.add_argument("--mode", choices=MODES, help="only this one / solo este")
    run.add_argument("--cases", type=Path, default=Path("cases"), metavar="PATH", help="file or folder / o carpeta")
    run.add_argument("--devices", type=_devices, metavar="LIST", help="of the run, as in 0,1 / de la corrida, como 0,1")
    run.add_argument(
        "--pytest-args", type=_words, default=[], metavar="ARGS", help="as in --pytest-args='-n 2 -k p0' / para pytest"
    )
    run.add_argument("--remote-dir", default="", metavar="DIR", help="where runs are made there / dónde, allí")
    run.add_argument("--detach", action="store_true", help="start, and do not wait / iniciar sin esperar")
    attach = _action(actions, "attach", "follow a run, then as fetch / seguir una corrida y traerla", _attach)
    fetch = _action(actions, "fetch", "bring results and judge them / traer los resultados y juzgarlos", _fetch)
    status = _action(actions, "status", "how far the runs are / cómo van las corridas", _status)
    stop = _action(actions, "stop", "end a run as Ctrl-C would / terminar una corrida como Ctrl-C", _stop)
    for sub in (attach, fetch, status, stop):
        which = "all / todas" if sub is status else "the latest / la última"
        sub.add_argument("--run", default="", metavar="RUN", help=f"default / por omisión: {which}")
    for sub in (run, attach, fetch):
        sub.add_argument("--artifacts", type=Path, default=Path(ARTIFACTS), metavar="DIR", help=f"here; {ARTIFACTS}")


def _action(actions: Subparsers, name: str, help: str, func: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=help, allow_abbrev=False)
    parser.add_argument("host", metavar="HOST", help="as ssh takes it / como la toma ssh")
    parser.add_argument(
        "--python", default="python3", metavar="PATH", help="the interpreter there / el intérprete allí"
    )
    parser.add_argument("--ssh-config", type=Path, metavar="FILE", help="for ssh -F / para ssh -F")
    parser.add_argument("--lang", choices=LANGS, default="both")
    parser.set_defaults(func=lambda args: _explained(func, args))
    return parser


def _date(raw: str) -> str:
    try:
        return datetime.date.fromisoformat(raw).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(" / ".join(text("remote.date", got=repr(raw)).lines("both"))) from None


def _devices(raw: str) -> str:
    if not re.fullmatch(r"\d+(,\d+)*", raw, re.ASCII):
        raise argparse.ArgumentTypeError(" / ".join(text("remote.devices", got=repr(raw)).lines("both")))
    return raw


def _words(raw: str) -> list[str]:
    try:
        return shlex.split(raw)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _explained(func: Any, args: argparse.Namespace) -> int:
    from pytest_greta.artifacts import ArtifactError
    from pytest_greta.remote.ssh import RemoteError
    from pytest_greta.texts import SaidError

    try:
        code: int = func(args)
        return code
    except RemoteError as error:
        _say(error.said, args.lang, sys.stderr)
        for line in error.details:
            print(f"  ssh: {line}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return STOPPED
    except SaidError as error:  # of the cases: begins with file:line, which stays in one piece
        print(f"greta remote: {error.text(args.lang)}", file=sys.stderr)
    except ArtifactError as error:
        _say(error.said, args.lang, sys.stderr)
        return INCONCLUSIVE
    return USAGE


# -- the actions -------------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    from pytest_greta.remote.pack import pack
    from pytest_greta.remote.ssh import RemoteError

    host = _host(args)
    packed = pack(args.cases)
    _check(host, args)
    asked = _asked(args, packed)
    sha256 = hashlib.sha256(packed.data).hexdigest()
    started = host.call("start", packed.data, sha256=sha256, folder=args.remote_dir, asked=asked)
    args.run = started["run"]
    _say(text("remote.started", run=args.run, path=_clean(started["folder"])), args.lang, sys.stderr)
    if args.detach:
        _how_to(args, "attach")
        return PASSED
    try:
        return _attach(args)
    except RemoteError as error:
        error.code = INCONCLUSIVE  # something was started
        raise


def _attach(args: argparse.Namespace) -> int:
    from pytest_greta.remote.ssh import RemoteError

    reached = False
    try:
        with _host(args).talk("follow", run=args.run) as conversation:
            state = conversation.answer()
            reached, args.run = True, state["run"]
            _watch(conversation, state, args.lang)
        return _fetch(args)
    except KeyboardInterrupt:
        _say(text("remote.detached"), args.lang, sys.stderr)
        for action in ("attach", "stop") if args.run else ():
            _how_to(args, action)
        return STOPPED
    except RemoteError as error:
        if reached:
            error.code = INCONCLUSIVE
            _say(text("remote.connection_lost"), args.lang, sys.stderr)
            _how_to(args, "attach")
        raise


def _fetch(args: argparse.Namespace) -> int:
    from pytest_greta.remote.fetching import receive
    from pytest_greta.remote.judge import judge
    from pytest_greta.report.terminal import summary

    with _host(args).talk("fetch", run=args.run) as conversation:
        fetched = receive(conversation, args.artifacts)
    judged = judge(fetched)
    if judged.results:
        print(summary(judged.results, lang=args.lang))
    else:
        _show_log(fetched)
    for reason in judged.reasons:
        _say(reason, args.lang)
    for folder in fetched.folders:
        _say(text("written", path=_clean(str(folder))), args.lang)
    _say(text(f"remote.code_{judged.code}"), args.lang)
    return judged.code


def _status(args: argparse.Namespace) -> int:
    runs = _host(args).call("status", run=args.run)["runs"]
    for state in runs:
        _say(_state_text(state), args.lang)
    if not runs:
        _say(text("remote.none"), args.lang)
    return PASSED


def _stop(args: argparse.Namespace) -> int:
    with _host(args).talk("stop", run=args.run) as conversation:
        state = conversation.answer()
        last = _watch(conversation, state, args.lang)
    _say(_state_text(last), args.lang)
    return PASSED


# -- their parts -------------------------------------------------------------------------------------------------------


def _host(args: argparse.Namespace) -> Host:
    from pytest_greta.remote.ssh import Host

    return Host(args.host, args.python, args.ssh_config)


def _asked(args: argparse.Namespace, packed: Pack) -> dict[str, Any]:
    """What the run's folder keeps of the request. Paths are those of the host."""
    from pytest_greta.files import DATE
    from pytest_greta.remote.pack import PLUGIN

    date = args.date or datetime.date.today().isoformat()
    arguments = ["-c", "pytest.ini", "-p", "no:cacheprovider", "-p", PLUGIN, packed.argument]
    arguments += ["--greta-artifacts=artifacts", "--greta-trace=stats", f"--greta-lang={args.lang}"]
    arguments += [f"--greta-mode={args.mode}"] if args.mode else []
    arguments += [f"--greta-devices={args.devices}"] if args.devices else []  # which variable, the host knows
    return {
        "host": args.host,
        "date": date,
        "arguments": [*arguments, *args.pytest_args],
        "environment": {DATE: date},
    }


def _check(host: Host, args: argparse.Namespace) -> None:
    """Says what there is on the host. Raises ``RemoteError`` where a run cannot be made."""
    from pytest_greta.environment import describe
    from pytest_greta.remote.ssh import RemoteError

    found = host.call("check", folder=args.remote_dir)
    there = {key: _clean(value) if isinstance(value, str) else value for key, value in found.items()}
    versions = ", ".join(_clean(f"{name} {version}") for name, version in found["versions"].items())
    said = text("remote.host", **{**there, "versions": versions, "free": _size(found["free"])})
    _say(said, args.lang, sys.stderr)
    if found["missing"]:
        missing = ", ".join(map(_clean, found["missing"]))
        raise RemoteError(text("remote.missing", python=there["executable"], missing=missing))
    _say_missing(found["doctor"], there["hostname"], args.lang)
    here, other = describe()["pytest-greta"], found["versions"].get("pytest-greta", "?")
    if here != other:
        _say(text("remote.version", here=here, there=_clean(other)), args.lang, sys.stderr)


def _say_missing(found: list[dict[str, Any]], hostname: str, lang: Lang) -> None:
    """What ``greta doctor`` says there. It stops nothing: a case that needs such a thing is not run, and says so."""
    from pytest_greta.doctor.lacks import Lack
    from pytest_greta.doctor.show import missing_lines

    if found:
        _say(text("remote.doctor", hostname=hostname), lang, sys.stderr)
    lacks = [Lack(Text(**lack["what"]), Text(**lack["mend"]), bool(lack["serious"])) for lack in found]
    for line in missing_lines(lacks, lang):
        print(line, file=sys.stderr)


def _watch(conversation: Conversation, state: dict[str, Any], lang: str) -> dict[str, Any]:
    """Shows how far the run is until it is over, and gives its last state."""
    from pytest_greta.progress import Bar

    bar = Bar(sys.stderr, time.monotonic())
    shown: Any = ()
    while True:
        running = state["state"] == "running"
        now = time.monotonic()
        if state["total"] != shown or not running or bar.due(now):  # at once when it is known how many there are
            shown = state["total"]
            (words,) = _progress_text(state).lines("en" if lang == "both" else lang)
            bar.show(now, state["done"], state["total"] or 0, words, last=not running)
        if not running:
            return state
        state = conversation.answer()


def _progress_text(state: dict[str, Any]) -> Text:
    from pytest_greta.progress import to_go

    if state["total"] is None:
        return text("remote.collecting" if state["state"] == "running" else "remote.not_collected")
    done, total = state["done"], state["total"]
    said = text("remote.counts", done=done, all=total, failed=state["failed"])
    if state["state"] != "running":
        return said
    return text("remote.progress", counts=said, left=to_go(state["seconds"], done, total - done))


def _state_text(state: dict[str, Any]) -> Text:
    said = text(f"remote.{state['state']}_state", code=state.get("code"))
    return text("remote.state", run=_clean(state["run"]), state=said, progress=_progress_text(state))


def _show_log(fetched: Fetched) -> None:
    for line in fetched.log[-LOG_LINES:]:
        print(f"  {_clean(line)}")


def _how_to(args: argparse.Namespace, action: str) -> None:
    """The command, on a line of its own and never broken, so that it can be copied."""
    words = ["greta", "remote", action, args.host, "--run", args.run]
    words += ["--python", args.python] if args.python != "python3" else []
    words += ["--ssh-config", str(args.ssh_config)] if args.ssh_config else []
    if action == "attach" and args.artifacts != Path(ARTIFACTS):
        words += ["--artifacts", str(args.artifacts)]
    print(f"  {shlex.join(words)}", file=sys.stderr)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _clean(words: str) -> str:
    from pytest_greta.report.text import clean

    return clean(words)


def _say(words: Text, lang: str, stream: TextIO | None = None) -> None:
    from pytest_greta.report.text import wrap

    for said in words.lines(lang):
        for line in said.splitlines():
            print("\n".join(wrap(line, COLUMNS, "", "  ")), file=stream or sys.stdout)
