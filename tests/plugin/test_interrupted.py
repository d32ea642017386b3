"""A run that ends early says what it did not reach, in the summary and in the files."""

from __future__ import annotations

import pytest
from greta_project import SUITE, Project, case

THREE = (case("ok_1"), case("bad_2"), case("ok_3", "matrix: {dtype: [f32, bf16]}"))


@pytest.mark.parametrize("args", [["-p", "no:xdist"], ["-n", "1"]])
def test_what_x_leaves_unreached_is_counted(project: Project, args: list[str]) -> None:
    result = project.cases(*THREE).run_apart(*args, "-x", "--greta-artifacts", "out")
    rows = project.written(project.path / "out")
    assert {key: row["outcome"] for key, row in rows.items()} == {
        "ok_1::kv_aligned": "passed",
        "bad_2::kv_aligned": "failed",
        "ok_3::kv_aligned-f32": "not_run",
        "ok_3::kv_aligned-bf16": "not_run",
    }
    missed = rows["ok_3::kv_aligned-bf16"]
    assert missed["not_run_kind"] == "not_reached"
    assert missed["where"] == "a.greta.yaml:9"
    assert missed["run_id"] == rows["ok_1::kv_aligned"]["run_id"] != ""
    result.stdout.fnmatch_lines(
        [
            "probes: 4 (1 passed, 1 failed, 2 not run)",
            "INTERRUMPIDO: 2 sondas no se alcanzaron*",
            "INTERRUPTED: 2 probes were not reached*",
        ]
    )


def test_a_keyboard_interrupt_counts_the_case_that_it_met(project: Project) -> None:
    project.cases(case("ok_1"), case("interrupt_2"), case("ok_3"))
    project.cases(case("ok_1"), file="b.greta.yaml", suite=SUITE.replace("demo", "second"))
    result = project.run_apart("-p", "no:xdist", "-q", "--greta-artifacts", "out")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*INTERRUPTED: 3 probes were not reached*"])
    assert [folder.name for folder in (project.path / "out").glob("*/*")] == ["demo"], "nothing of the second suite"
    rows = project.written(project.path / "out")
    assert {key: row["not_run_kind"] for key, row in rows.items()} == {
        "ok_1::kv_aligned": "",
        "interrupt_2::kv_aligned": "not_reached",
        "ok_3::kv_aligned": "not_reached",
    }


def test_nothing_is_left_of_a_run_that_reached_nothing(project: Project) -> None:
    project.pytester.makepyfile(test_a="def test_stops(): raise KeyboardInterrupt")
    project.cases(case("ok_1"), file="z.greta.yaml")
    project.run_apart("-p", "no:xdist", "--greta-artifacts", "out", "test_a.py", "z.greta.yaml")
    assert list((project.path / "out").rglob("*")) == []


def test_a_whole_run_is_not_interrupted(project: Project) -> None:
    project.pytester.makepyfile(test_a="def test_one(): pass")
    result = project.cases(case("ok_1"), case("boom_2"), case("nomodel_3")).run()
    result.stdout.no_fnmatch_line("*INTERRUPTED*")
