"""``greta analyze``: verdicts and reports from trace files of an earlier run."""

from __future__ import annotations

import argparse
import datetime
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greta import exit_codes
from pytest_greta.cases.model import MODES
from pytest_greta.options import LANGS

if TYPE_CHECKING:
    from pytest_greta.engine.spec import ModelSource
    from pytest_greta.result import ProbeResult
    from pytest_greta.trace.reading import TraceFile
    from pytest_greta.verdict import Breach

PATTERN = "*_trace.jsonl"
PATTERNS = (PATTERN, PATTERN + ".gz")
LINEAGE = ("*.jsonl", "*.jsonl.gz")
"""GRETA's own files are known by what is in them."""
_REMARKS = 20
"""Remarks that are printed; the rest is counted."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``analyze``; ``args.func(args)`` returns 0 pass, 1 mismatch, 2 usage error, 3 inconclusive."""
    parser = subparsers.add_parser(
        "analyze",
        help="judge the traces of an earlier run / juzgar las trazas de una corrida anterior",
        epilog="exit codes / códigos de salida: 0 pass, 1 mismatch, 2 usage error, 3 inconclusive",
        allow_abbrev=False,
    )
    parser.add_argument("--traces-dir", type=Path, required=True, metavar="DIR", help=f"folder with {PATTERN} files")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="REPORT.md", help="Markdown report")
    parser.add_argument("--tsv", type=Path, metavar="FILE", help="one row a stage / una fila por etapa")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all results / todos los resultados")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="check full traces (with .safetensors) anew / verificar de nuevo las trazas completas",
    )
    parser.add_argument("--author", default=None, help="named in the report / nombre en el informe")
    parser.add_argument("--lang", choices=LANGS, default="both")
    parser.set_defaults(func=_analyze)


def _analyze(args: argparse.Namespace) -> int:
    from pytest_greta.artifacts import ArtifactError
    from pytest_greta.engine.load import load_source
    from pytest_greta.engine.store import ModelError, ModelMissing
    from pytest_greta.report.messages import prose, say
    from pytest_greta.report.terminal import summary
    from pytest_greta.report.text import clean

    lang = args.lang
    if not args.traces_dir.is_dir():
        return _usage(prose("analyze.not_a_folder", lang, path=clean(str(args.traces_dir))))
    if args.model is not None and args.mode != "kv_aligned":
        return _usage(prose("analyze.model_mode", lang))
    try:
        source = None if args.model is None else load_source(args.model)
    except (ModelError, ModelMissing) as error:
        return _usage([clean(line) for line in error.said.lines(lang)])
    lineage = _lineage_files(args.traces_dir)
    results, skipped, remarks = _judge(args.traces_dir, args.mode, source, lineage)
    code = exit_codes.of_results(results, incomplete=False)
    anew = sum(bool(result.stages) for result in results)
    scope = {} if source is None else {"anew": anew, "total": len(results) if _any_judged(args, results) else 0}
    notes = prose("analyze.scope" if source is None else "analyze.scope_model", lang, **scope)
    if skipped:
        notes += prose("analyze.skipped", lang, count=skipped)
    for name, remark in remarks[:_REMARKS]:
        notes += [f"{clean(name)}: {text}" for text in prose(f"breach.{remark.key}", lang, **_cleaned(remark))]
    if len(remarks) > _REMARKS:
        notes += prose("failure.more", lang, count=len(remarks) - _REMARKS)
    try:
        _write(args, results, notes, code)
    except ArtifactError as error:
        return _usage(error.said.lines(lang))
    written = f"{say('analyze.written', lang)}: {clean(str(args.output))}"
    if _any_judged(args, results):
        print("\n".join([summary(results, lang=lang), "", *notes, written]))
    else:  # nothing was judged: no table of nothing
        print("\n".join([*prose("breach.no_traces", lang, path=clean(str(args.traces_dir))), written]))
    return code


def _any_judged(args: argparse.Namespace, results: list[ProbeResult]) -> bool:
    return any(r.suite != "-" for r in results) or any(args.traces_dir.rglob(PATTERN))


def _lineage_files(folder: Path) -> list[Path]:
    """GRETA's, those of a prefill first: a decode record then finds its counterpart at once."""
    from pytest_greta.lineage.folder import is_lineage
    from pytest_greta.lineage.logits import NAMES

    found = {p for pattern in LINEAGE for p in folder.rglob(pattern) if p.name not in NAMES and p.is_file()}
    return sorted(filter(is_lineage, found), key=lambda path: (path.parent, "prefill" not in path.name, path.name))


def _cleaned(remark: Breach) -> dict[str, Any]:
    from pytest_greta.report.text import clean

    return {name: clean(value) if isinstance(value, str) else value for name, value in remark.values.items()}


def _judge(
    folder: Path, mode: str, source: ModelSource | None, lineage: list[Path]
) -> tuple[list[ProbeResult], int, list[tuple[str, Breach]]]:
    """Results, how many traces of the other mode were left out, and remarks on GRETA's own traces by prompt."""
    from pytest_greta.analysis import failed_file, judge_file
    from pytest_greta.lineage.folder import judge_folders
    from pytest_greta.lineage.logits import judge_run, runs
    from pytest_greta.trace.reading import read_trace, recorded_mode
    from pytest_greta.trace.sidecar import TraceError, sidecar_of
    from pytest_greta.verdict import Breach

    results: list[ProbeResult] = []
    paths = sorted({path for pattern in PATTERNS for path in folder.rglob(pattern)} - set(lineage))
    chosen = [path for path in paths if recorded_mode(path) in (mode, None)]
    chosen = chosen or paths  # those of the other mode: both modes run alike
    for path in chosen:
        below = path.parent.relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        where = path.name
        try:
            found = read_trace(path)
            where = sidecar_of(path).name
            result = judge_file(found, mode, _arrays(found), source)
            results.append(replace(result, case=prefix + result.case))
        except TraceError as error:
            breach = Breach("unreadable", {"where": prefix + where, "error": str(error)})
            results.append(failed_file(prefix + path.name, mode, breach))
    old, remarks = judge_folders(lineage, folder, mode, folder.resolve().name)
    results += [*old, *(judge_run(run, folder, mode, folder.resolve().name) for run in runs(folder))]
    if not results:
        results.append(failed_file(folder.name or str(folder), mode, Breach("no_traces", {"path": str(folder)})))
    return results, len(paths) - len(chosen), remarks


def _arrays(found: TraceFile) -> Any:
    """The trace of the sidecar, checked against the records; None without a sidecar or with damaged records."""
    from pytest_greta.trace.reading import load_trace
    from pytest_greta.trace.sidecar import sidecar_of

    sidecar = sidecar_of(found.path)
    return load_trace(found.path, sidecar) if sidecar.exists() and not found.problems else None


def _write(args: argparse.Namespace, results: list[ProbeResult], notes: list[str], code: int) -> None:
    from pytest_greta.artifacts import explained, write_atomic
    from pytest_greta.jsonline import json_line
    from pytest_greta.plain import to_plain
    from pytest_greta.report.author import default_author
    from pytest_greta.report.markdown import final_report
    from pytest_greta.report.tsv import analysis

    author = default_author(args.lang) if args.author is None else args.author
    report = final_report(
        results,
        suite=", ".join(sorted({r.suite for r in results})),
        date=datetime.date.today().isoformat(),
        author=author,
        lang=args.lang,
        analysis_file=args.tsv.name if args.tsv else "",
        notes=notes,
    )
    for path, option in ((args.output, "--output"), (args.tsv, "--tsv"), (args.json, "--json")):
        if path is not None:
            with explained(path.parent, option):
                path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.output, report.encode("utf-8", "backslashreplace"), "--output")
    if args.tsv:
        write_atomic(args.tsv, analysis(results).encode("utf-8", "backslashreplace"), "--tsv")
    if args.json:
        line = json_line({"mode": args.mode, "exit_code": code, "results": to_plain(results)})
        write_atomic(args.json, line, "--json")


def _usage(lines: list[str]) -> int:
    for line in lines:
        print(f"greta analyze: {line}", file=sys.stderr)
    return exit_codes.USAGE
