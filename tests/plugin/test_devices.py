"""``--greta-devices``: one device a worker, masks within the caller's, over a fake library that counts N devices."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from greta_project import Project, case

from tests.support import fake_device

pytest.importorskip("xdist")

ROCR, HIP, CUDA = MASKS = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
FOUR = [case(f"ok_{i}") for i in range(1, 5)]
"""xdist gives two to each of two workers, before any of them can be quicker than the other."""

REAL = """\
suite: real
defaults: {model: synthetic, layers: [0], mode: kv_aligned}
cases:
  - {id: a, random_tokens: 4}
  - {id: b, random_tokens: 5}
  - {id: c, random_tokens: 6}
  - {id: d, random_tokens: 7}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_device.build(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, library: Path, tmp_path: Path) -> Callable[..., str]:
    """Sets what the fake library finds, and the caller's masks; gives the option that names the library."""

    def make(devices: int, **masks: str) -> str:
        for name in MASKS:
            monkeypatch.delenv(name, raising=False)
        given = {"FAKE_REAL": str(fake_device.CPU), "FAKE_DEVICES": str(devices), "FAKE_LOG": str(tmp_path / "log")}
        for name, value in {**given, **masks}.items():
            monkeypatch.setenv(name, value)
        return f"--greta-library={library}"

    return make


def masks_of(project: Project, *args: str) -> dict[str, dict[str, str]]:
    """The masks by worker, as the probes found them."""
    result = project.run_apart("--greta-artifacts=out", *args)
    assert result.ret == 0, result.stdout.str()
    found: dict[str, dict[str, str]] = {}
    for row in project.written(project.path / "out").values():
        assert found.setdefault(row["worker"], row["settings"]["masks"]) == row["settings"]["masks"]
    return found


@pytest.mark.parametrize(
    ("caller", "args", "expected"),
    [
        pytest.param({HIP: "2,3"}, ["-n2"], [{HIP: "2"}, {HIP: "3"}], id="within the caller's"),
        pytest.param({HIP: "2,3"}, ["-n2", "--greta-devices=auto"], [{HIP: "2"}, {HIP: "3"}], id="auto"),
        pytest.param({HIP: "6,4"}, ["-n2", "--greta-devices=1,0"], [{HIP: "4"}, {HIP: "6"}], id="in the order given"),
        pytest.param(
            {ROCR: "4,5,6,7", HIP: "1,3"},
            ["-n2"],
            [{ROCR: "4,5,6,7", HIP: "1"}, {ROCR: "4,5,6,7", HIP: "3"}],
            id="a mask within a mask",
        ),
        pytest.param({ROCR: "4,5"}, ["-n2"], [{ROCR: "4"}, {ROCR: "5"}], id="rocr"),
        pytest.param({CUDA: "4,5"}, ["-n2"], [{CUDA: "4"}, {CUDA: "5"}], id="hip reads cuda's"),
        pytest.param({}, ["-n2"], [{ROCR: "0"}, {ROCR: "1"}], id="no mask"),
        pytest.param({HIP: "2,3"}, ["-n2", "--greta-devices=none"], [{HIP: "2,3"}] * 2, id="none"),
        pytest.param({HIP: "2"}, ["-n2"], [{HIP: "2"}, {HIP: "2"}], id="more workers than devices"),
        pytest.param({HIP: "-1"}, ["-n2"], [{HIP: "-1"}] * 2, id="no device"),
        pytest.param(
            {},
            ["-d", "--tx=popen//env:HIP_VISIBLE_DEVICES=7", "--tx=popen"],
            [{HIP: "7"}, {ROCR: "0"}],
            id="a worker's own",
        ),
    ],
)
def test_masks(project, machine, caller, args, expected):
    option = machine(8, **caller)
    found = masks_of(project.cases(*FOUR), option, *args)
    assert found == dict(zip(("gw0", "gw1"), expected, strict=True))


def test_each_worker_opens_its_own_device(project, machine, tmp_path):
    """No stub: real probes, and what the library saw when it was opened."""
    option = machine(8, **{HIP: "2,3"})
    project.pytester.makeconftest("")
    project.cases(suite=REAL)
    result = project.run_apart("-n2", option, "--greta-artifacts=out", "--greta-lang=en")
    assert result.parseoutcomes() == {"passed": 4}
    assert opened(tmp_path) == {"gw0": {("2", "-", "2", "-")}, "gw1": {("3", "-", "3", "-")}}
    result.stdout.fnmatch_lines(["greta: one device a worker, by HIP_VISIBLE_DEVICES: gw0 2, gw1 3"])
    rows = project.written(project.path / "out").values()
    assert {(r["worker"], r["environment"][HIP]) for r in rows} == {("gw0", "2"), ("gw1", "3")}
    assert {(r["worker"], r["reproduce"].split()[-1]) for r in rows} == {
        ("gw0", "--greta-devices=0"),
        ("gw1", "--greta-devices=1"),
    }


def test_a_crashed_workers_successor_keeps_its_device(project, machine, tmp_path, monkeypatch):
    option = machine(8, **{HIP: "2,3"})
    monkeypatch.setenv("FAKE_CRASH", str(tmp_path / "crash"))
    (tmp_path / "crash").touch()
    project.pytester.makeconftest("")
    project.cases(suite=REAL)
    result = project.run_apart("-n2", option, "--greta-artifacts=out")
    assert result.parseoutcomes() == {"passed": 3, "failed": 1}
    (dead,) = {row["worker"] for row in project.written(project.path / "out").values() if row["outcome"] == "failed"}
    found = opened(tmp_path)
    assert found["gw0"] == {("2", "-", "2", "-")}
    assert found["gw1"] == {("3", "-", "3", "-")}
    assert found["gw2"] == found[dead]


def opened(folder: Path) -> dict[str, set[tuple[str, ...]]]:
    """Device and masks by worker, of each session that was opened."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for line in (folder / "log").read_text().splitlines():
        worker, *rest = line.split(" ")
        if worker != "-":  # whoever counts them before there are workers
            found.setdefault(worker, set()).add(tuple(rest))
    return found


def test_more_workers_than_devices_are_said_to_share(project, machine):
    option = machine(2)
    result = project.cases(*FOUR).run_apart("-n3", option)
    result.stdout.fnmatch_lines(
        [
            "greta: 3 procesos comparten 2 dispositivos, con ROCR_VISIBLE_DEVICES: gw0 0, gw1 1, gw2 0",
            "greta: 3 workers share 2 devices, by ROCR_VISIBLE_DEVICES: gw0 0, gw1 1, gw2 0",
        ]
    )


def test_n_auto_is_a_worker_a_device_where_devices_were_asked_for(project, machine):
    option = machine(8, **{HIP: "5,6,7"})
    result = project.cases(*FOUR).run_apart("-nauto", option, "--greta-devices=auto", "--greta-lang=en")
    result.stdout.fnmatch_lines(["greta: one device a worker, by HIP_VISIBLE_DEVICES: gw0 5, gw1 6, gw2 7"])


@pytest.mark.parametrize("workers", [["-n2"], ["-p", "no:xdist"]])
def test_a_device_that_the_caller_has_not_is_a_usage_error(project, machine, workers):
    option = machine(8, **{HIP: "2,3"})
    result = project.cases(*FOUR).run_apart(*workers, option, "--greta-devices=0,2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --greta-devices: no hay dispositivo 2: HIP_VISIBLE_DEVICES=2,3 deja 2, contados desde 0",
            "--greta-devices: there is no device 2: HIP_VISIBLE_DEVICES=2,3 leaves 2, counted from 0",
        ]
    )
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_without_workers_a_list_masks_the_process_and_is_taken_back(project, machine, tmp_path):
    option = machine(8, **{HIP: "2,3"})
    rows = project.cases(case("ok_1")).results(option, "--greta-devices=1")
    assert rows["ok_1::kv_aligned"]["settings"]["masks"] == {HIP: "3"}
    assert os.environ[HIP] == "2,3"
    rows = project.results(option)
    assert rows["ok_1::kv_aligned"]["settings"]["masks"] == {HIP: "2,3"}, "auto leaves one process all devices"


def test_who_has_no_cases_keeps_all_devices(project, machine):
    """pytest-greta may be installed for another project: tests that need two GPUs must go on to find them."""
    option = machine(8, **{HIP: "2,3"})
    code = f"import os\ndef test_other(): assert os.environ['{HIP}'] == '2,3'"
    project.pytester.makepyfile(code)
    assert project.run_apart("-n2", option).ret == 0
    assert project.run_apart("-n2", option, "--greta-devices=auto").ret == 1, "unless they were asked for"


@pytest.mark.parametrize(
    ("args", "outcomes", "code"),
    [
        ([], {"skipped": 4}, 1),
        (["--greta-allow-empty"], {"skipped": 4}, 0),
        (["--greta-require=device"], {"failed": 4}, 1),
    ],
)
def test_no_device_is_not_run(project, machine, args: Sequence[str], outcomes, code):
    option = machine(0)
    project.pytester.makeconftest("")
    project.cases(suite=REAL)
    result = project.run_apart("-p", "no:xdist", option, "--greta-artifacts=out", "--greta-lang=en", "-rs", *args)
    assert (result.ret, result.parseoutcomes()) == (code, outcomes)
    (file,) = (project.path / "out").glob("*/real/results.jsonl")
    for row in map(json.loads, file.read_text().splitlines()):
        assert row["not_run_kind"] == "device"
        assert row["not_run"] == "GRETA_NO_DEVICE: config.device is 0, and there are 0"
        assert row["mend"] == "greta doctor shows devices, drivers and masks"
