"""``greta selftest``: the standing proof that the detector finds what is planted and is silent where nothing is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greta.options import LANGS
from pytest_greta.selftest.plan import LIBRARIES
from pytest_greta.texts import Text, join, text

if TYPE_CHECKING:
    from pytest_greta.selftest.plan import Planned, Study
    from pytest_greta.selftest.run import Record
    from pytest_greta.selftest.tally import Summary

CLEAN, FAILED, USAGE, STOPPED = 0, 1, 2, 130
"""Exit codes: all found and rightly placed and no false alarm; otherwise; usage; interrupted."""

_MOST_RUNS = 1_000_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``selftest``; ``args.func(args)`` returns the exit code."""
    parser = subparsers.add_parser(
        "selftest",
        help="plant faults and count what is found / inyectar fallos y contar los hallados",
        description="Plants faults of every kind and runs healthy configurations, on the CPU library or another that "
        "has a faulty twin; counts what is found, what is missed and every false alarm. / Inyecta fallos de todo tipo "
        "y ejecuta configuraciones sanas, sobre la biblioteca de CPU u otra que tenga gemela defectuosa; cuenta lo "
        "hallado, lo no hallado y toda falsa alarma.",
        epilog="exit codes / códigos de salida: 0 clean, 1 a miss or a false alarm, 2 usage error",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=_whole(1), metavar="N", help="N fault runs and 1.5 N healthy ones / corridas")
    parser.add_argument(
        "--quick", action="store_true", help="short prompts, a run a variant; on without --runs / prompts cortos"
    )
    parser.add_argument(
        "--backend", choices=LIBRARIES, default="cpu", help="through this library / por esta biblioteca"
    )
    parser.add_argument("--seed", type=_whole(0), default=1, metavar="N", help="of all draws / de todo lo sorteado; 1")
    parser.add_argument("--jobs", type=_whole(0), metavar="N", help="processes, default the cores; 0: none / procesos")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="journal: goes on where it stopped / diario")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures / las cifras")
    parser.add_argument("--only", metavar="ID", help="one run of the study, in full / una sola corrida, completa")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="show the figures of --json / mostrar")
    parser.add_argument("--markdown", action="store_true", help="with --from: as a page / con --from: como página")
    parser.add_argument("--lang", choices=LANGS, default="both")
    parser.set_defaults(func=_selftest)


def _whole(least: int) -> Any:
    def parse(raw: str) -> int:
        try:
            value = int(raw)
        except ValueError:
            value = least - 1
        if not least <= value <= _MOST_RUNS:
            said = text("selftest.whole", least=least, most=_MOST_RUNS, got=repr(raw))
            raise argparse.ArgumentTypeError(" / ".join(said.lines("both")))
        return value

    return parse


def _selftest(args: argparse.Namespace) -> int:
    from pytest_greta.artifacts import ArtifactError
    from pytest_greta.backends.base import BackendError, BackendMissing
    from pytest_greta.selftest.journal import JournalError

    try:
        if args.source is not None:
            return _show(args)
        if args.markdown:
            return _usage(text("selftest.markdown_from"), args.lang)
        return _run(args)
    except (BackendMissing, BackendError, JournalError) as error:
        return _usage(error.said, args.lang)
    except ArtifactError as error:
        return _usage(error.said, args.lang)


def _run(args: argparse.Namespace) -> int:
    from pytest_greta import environment
    from pytest_greta.faults.fixtures import FIXTURES
    from pytest_greta.selftest.plan import plan
    from pytest_greta.selftest.run import shape_of

    study = _study(args.seed, args.runs or len(FIXTURES), args.quick or args.runs is None, args.backend)
    planned = plan(study, shape_of)
    if args.only is not None:
        return _only(args, planned)
    jobs = environment.cores() if args.jobs is None else args.jobs
    records, stopped = _records(args, study, planned, jobs)
    summary = _summary(study, planned, records)
    if args.json is not None:
        _write(summary, args.json)
    if stopped:
        _tables(summary, args.lang)
        _print(text("selftest.stopped", done=summary.done, all=summary.planned), args.lang)
        _print(text("selftest.go_on" if args.resume else "selftest.lost"), args.lang)
        return STOPPED
    return _tables(summary, args.lang)


def _study(seed: int, runs: int, quick: bool, backend: str) -> Study:
    from pytest_greta.engine.store import ModelMissing
    from pytest_greta.engine.synthetic import VARIANTS
    from pytest_greta.selftest.plan import REAL_MODEL, Study
    from pytest_greta.selftest.run import shape_of, usable_isas

    models = ["synthetic" if name == "llama" else f"synthetic:{name}" for name in VARIANTS]
    try:
        shape_of(REAL_MODEL)
        models.append(REAL_MODEL)
    except ModelMissing:
        pass  # said when the study begins
    return Study(seed, runs, quick, usable_isas(backend), tuple(models), backend)


def _records(args: argparse.Namespace, study: Study, planned: list[Planned], jobs: int) -> tuple[list[Record], bool]:
    """All records there are, and whether the study was interrupted."""
    from pytest_greta.selftest.journal import open_journal
    from pytest_greta.selftest.plan import REAL_MODEL, Study, in_turn
    from pytest_greta.selftest.pool import run_all
    from pytest_greta.selftest.progress import Progress
    from pytest_greta.selftest.tally import is_odd

    journal = open_journal(args.resume, study, planned) if args.resume is not None else None
    records = list(journal.records) if journal else []
    counts = {part: sum(p.part == part for p in planned) for part in ("curve", "benign")}
    _print(text("selftest.begin", faults=study.runs, **counts, seed=study.seed, jobs=jobs), args.lang, sys.stderr)
    if study.backend != Study.backend:
        key = "selftest.backend" if study.library.most_rows is None else "selftest.backend_short"
        _print(text(key, backend=study.backend, rows=study.library.most_rows), args.lang, sys.stderr)
    if REAL_MODEL not in study.models:
        _print(text("selftest.no_real", model=REAL_MODEL), args.lang, sys.stderr)
    if records:
        _print(text("selftest.resumed", count=len(records), path=args.resume), args.lang, sys.stderr)
    by_id = {p.id: p for p in planned}
    ended = {record.id for record in records}
    progress = Progress(sys.stderr, args.lang, len(planned), len(records))

    def done(record: Record) -> None:
        records.append(record)
        if journal is not None:
            journal.add(record)
        progress.add(is_odd(by_id[record.id], record))

    try:
        run_all([p for p in in_turn(planned) if p.id not in ended], jobs, done, progress.show)
    except KeyboardInterrupt:
        return records, True
    finally:
        progress.show(last=True)
    return records, False


def _summary(study: Study, planned: list[Planned], records: list[Record]) -> Summary:
    from dataclasses import replace

    from pytest_greta import environment
    from pytest_greta.selftest.tally import tally

    return replace(tally(study, planned, records), machine=environment.describe())


def _tables(summary: Summary, lang: str) -> int:
    from pytest_greta.selftest.table import as_lines

    print("\n".join(as_lines(summary, lang)))
    return CLEAN if summary.clean else FAILED


def _only(args: argparse.Namespace, planned: list[Planned]) -> int:
    """One run in this process, with all that a failing case would print."""
    from pytest_greta.backends.base import Unsupported
    from pytest_greta.probing import blas_threads
    from pytest_greta.report.failure import failure_text
    from pytest_greta.selftest.run import probe, record, why
    from pytest_greta.selftest.tally import describe, is_odd

    chosen = next((p for p in planned if p.id == args.only), None)
    if chosen is None:
        names = {"first": planned[0].id, "last": planned[-1].id}
        return _usage(text("selftest.no_run", id=args.only, **names), args.lang)
    print(f"{chosen.id}: {describe(chosen)}")
    try:
        with blas_threads(1):
            result, judged = probe(chosen)
    except Unsupported as error:
        _print(join(": ", text("selftest.one_not_run"), why(error)), args.lang)
        return FAILED
    print(failure_text(result, args.lang))
    return FAILED if is_odd(chosen, record(chosen, result, judged, 0.0)) else CLEAN


def _show(args: argparse.Namespace) -> int:
    import orjson

    from pytest_greta.plain import from_plain
    from pytest_greta.selftest.table import as_page
    from pytest_greta.selftest.tally import Summary

    try:
        summary = from_plain(Summary, orjson.loads(args.source.read_bytes()))
    except OSError as error:
        return _usage(join(": ", str(args.source), error.strerror or str(error)), args.lang)
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError, ValueError):
        return _usage(text("selftest.no_summary", path=args.source), args.lang)
    if not args.markdown:
        return _tables(summary, args.lang)
    print(as_page(summary, "es" if args.lang == "es" else "en"), end="")
    return CLEAN


def _write(summary: Summary, path: Path) -> None:
    import orjson

    from pytest_greta.artifacts import write_atomic
    from pytest_greta.jsonline import json_line
    from pytest_greta.plain import to_plain

    plain = orjson.loads(json_line(to_plain(summary)))
    write_atomic(path, orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), "--json")


def _print(words: Text, lang: str, stream: Any = None) -> None:
    for line in words.lines(lang):
        print(line, file=stream or sys.stdout)


def _usage(words: Text, lang: str) -> int:
    for line in words.lines(lang):
        print(f"greta selftest: {line}", file=sys.stderr)
    return USAGE
