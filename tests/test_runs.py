"""``greta report --merge`` and ``greta compare``: shards equal the whole, and what got worse comes first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_greta.artifacts import RESULTS, RunFolder, read_results
from pytest_greta.cli import main
from pytest_greta.merge import key
from pytest_greta.result import ProbeResult
from tests.support.results import every_kind, inconclusive, mismatch, not_run, result


def run(root: Path, results: Sequence[ProbeResult], shard: str = "", *, ended: bool = True) -> str:
    folder = RunFolder.create(root, "2026-02-07", "b3_66_v2")
    for found in results:
        folder.append(replace(found, shard=shard))
    if ended:
        folder.write(folder.report_path, "")
    return str(root)


def merged(root: Path) -> list[ProbeResult]:
    (file,) = root.rglob(RESULTS)
    return [replace(found, shard="") for found in read_results(file)[0]]


def report_text(root: Path) -> tuple[str, str]:
    (md,), (tsv,) = root.rglob("*_FINAL_REPORT.md"), root.rglob("*_ANALYSIS.tsv")
    return md.read_text("utf-8"), tsv.read_text("utf-8")


def test_shards_equal_the_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GRETA_DATE", "2026-02-07")
    results = every_kind()
    whole = run(tmp_path / "whole", results)
    shards = [run(tmp_path / f"s{n}", results[n::2], f"{n + 1}/2") for n in range(2)]
    assert main(["report", "--merge", whole, "--output", str(tmp_path / "a")]) == 1
    assert main(["report", "--merge", *shards, "--output", str(tmp_path / "b")]) == 1
    assert "missing" not in capsys.readouterr().out
    assert merged(tmp_path / "a") == merged(tmp_path / "b")
    assert merged(tmp_path / "b") == sorted(results, key=key)
    assert report_text(tmp_path / "a") == report_text(tmp_path / "b")


def test_a_missing_shard_is_named_and_is_no_pass(tmp_path, capsys):
    shards = [run(tmp_path / str(n), [result(f"c{n}")], f"{n}/3") for n in (1, 3)]
    assert main(["report", "--merge", *shards, "--output", str(tmp_path / "o"), "--lang", "en"]) == 3
    assert "missing shards: 2/3" in capsys.readouterr().out


def test_of_a_probe_that_is_there_twice_the_worse_counts(tmp_path, capsys):
    folders = [run(tmp_path / "a", [result("x")]), run(tmp_path / "b", [mismatch("x")])]
    assert main(["report", "--merge", *folders, "--output", str(tmp_path / "o"), "--lang", "es"]) == 1
    assert "x::kv_aligned aparece 2 veces" in capsys.readouterr().out
    assert [found.outcome for found in merged(tmp_path / "o")] == ["failed"]


def test_what_one_host_could_not_run_another_did(tmp_path):
    folders = [run(tmp_path / "a", [not_run("x")]), run(tmp_path / "b", [result("x")])]
    assert main(["report", "--merge", *folders, "--output", str(tmp_path / "o")]) == 0


def test_a_run_that_was_killed_is_named_and_is_no_pass(tmp_path, capsys):
    """Its results are on the disk one by one, and of the probes that it did not get to nothing is."""
    folders = [run(tmp_path / "a", [result("x")]), run(tmp_path / "b", [result("y")], ended=False)]
    assert main(["report", "--merge", *folders, "--output", str(tmp_path / "o"), "--lang", "en"]) == 3
    assert "the run did not end" in capsys.readouterr().out
    assert main(["compare", folders[1], folders[1], "--lang", "es"]) == 3
    assert "la corrida no terminó" in capsys.readouterr().out


def test_so_is_one_that_was_killed_in_its_first_probe(tmp_path, capsys):
    whole = run(tmp_path / "a", [result("x")])
    RunFolder.create(whole, "2026-02-07", "second").log("y", "kv_aligned", "start")
    assert main(["report", "--merge", whole, "--output", str(tmp_path / "o"), "--lang", "en"]) == 3
    said = "".join(capsys.readouterr().out.split())
    assert "second:therundidnotend" in said


def test_what_is_wrong_is_said_in_the_language_asked_for(tmp_path, capsys):
    """Of a folder that is not there, and of a file in the way of the output."""
    whole, file = run(tmp_path / "whole", [result("x")]), tmp_path / "file"
    file.write_text("")
    for words in (["compare", whole, str(tmp_path / "nope")], ["report", "--merge", whole, "--output", str(file)]):
        said = {}
        for lang in ("es", "en", "both"):
            assert main([*words, "--lang", lang]) == 2
            said[lang] = capsys.readouterr().err
        assert said["es"] != said["en"]
        assert said["both"] == said["es"] + said["en"]


def test_a_folder_without_results_is_a_usage_error(tmp_path, capsys):
    assert main(["report", "--merge", str(tmp_path), "--output", str(tmp_path / "o")]) == 2
    assert "no results.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("before", "after", "code", "said"),
    [
        ([result("x")], [result("x")], 0, "unchanged: 1"),
        ([result("x")], [result("x", rho=0.9)], 1, "worse: 1"),
        ([result("x")], [mismatch("x")], 1, "worse: 1"),
        ([result("x")], [inconclusive("x")], 1, "worse: 1"),
        ([mismatch("x")], [result("x")], 0, "better: 1"),
        ([inconclusive("x")], [inconclusive("x")], 3, "cannot be compared: 1"),
        ([result("x")], [not_run("x")], 3, "cannot be compared: 1"),
        ([result("x"), result("y")], [result("x")], 3, "only in A: 1"),
        ([result("x")], [result("x"), result("y")], 0, "only in B: 1"),
        ([result("x")], [result("x"), mismatch("y")], 1, "only in B: 1"),
        ([result("x")], [result("x"), inconclusive("y")], 3, "only in B: 1"),
        ([result("x")], [result("x"), replace(mismatch("y"), outcome="xfailed")], 0, "only in B: 1"),
    ],
)
def test_compare(tmp_path, capsys, before, after, code, said):
    a, b = run(tmp_path / "a", before), run(tmp_path / "b", after)
    assert main(["compare", a, b, "--lang", "en"]) == code
    out = capsys.readouterr().out
    assert said in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_worst_change_comes_first(tmp_path, capsys):
    cases = ("a", "b", "c")
    before = run(tmp_path / "a", [result(case) for case in cases])
    after = run(tmp_path / "b", [result("a", rho=0.5), mismatch("b"), result("c", rho=0.01)])
    assert main(["compare", before, after, "--lang", "es"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "peor: 2"
    assert [line.split()[1] for line in lines if "::" in line][:2] == ["b::kv_aligned", "a::kv_aligned"]


def test_a_line_names_each_column_once(tmp_path):
    many = mismatch("x")
    many = replace(many, stages=many.stages * 500)
    run(tmp_path, [many])
    (file,) = tmp_path.rglob(RESULTS)
    line = file.read_text("utf-8")
    assert read_results(file) == ([many], [])
    assert list(json.loads(line)["stages"])[:3] == ["path", "layer", "stage"]
    assert line.count('"elements"') < 5


def test_the_shard_of_a_run_is_in_its_results_and_a_wrong_one_is_refused(pytester, monkeypatch):
    (pytester.path / "a.greta.yaml").write_text(
        "suite: demo\ncases: [{id: x, prompt: hi, mode: kv_aligned, model: absent.gguf}]\n", "utf-8"
    )
    monkeypatch.setenv("GRETA_SHARD", "2/3")
    pytester.runpytest_inprocess("--greta-artifacts=out", "-p", "no:cacheprovider")
    (file,) = (pytester.path / "out").rglob(RESULTS)
    assert [found.shard for found in read_results(file)[0]] == ["2/3"]
    monkeypatch.setenv("GRETA_SHARD", "4/3")
    refused = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*GRETA_SHARD=4/3*"])
