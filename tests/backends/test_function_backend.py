"""A Python function as a backend: what it is given, what becomes of a hostile one, and the backend ``numpy``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

import pytest_greta as greta
from pytest_greta.backends.base import BackendError, BackendMissing, Batch, LayerConfig, SessionConfig, Unsupported
from pytest_greta.backends.complete import Completed
from pytest_greta.backends.function import PARAMETERS
from pytest_greta.backends.numpy_reference import EXP_REL, TANH_REL, attend
from pytest_greta.cases.model import CaseError

IDS = list(range(5, 39))
WAYS: list[dict[str, Any]] = [
    {"steps": 3},
    {"steps": 6, "q_len": 3},
    {"chunk": 7},
    {"left_pad": 3},
    {"batch": [5, 9]},
    {"page_size": 16},
    {"reuse": {"prefix": 5, "rollback": 3}},
    {"kv_dtype": "fp8_e4m3"},
    {"kv_dtype": "bf16"},
]


def plain(q: Any, k: Any, v: Any, *, scale: float, mask: Any) -> Any:
    """Without lse, in the function's own words."""
    k, v = (np.repeat(x.astype(np.float32), q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    s = np.where(mask, np.einsum("qhd,khd->hqk", q.astype(np.float32), k) * np.float32(scale), np.float32(-np.inf))
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", p / p.sum(axis=-1, keepdims=True), v).astype(q.dtype)


# -- healthy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("variant", ["", ":gemma2", ":gpt-oss", ":bloom", ":mistral"])
def test_numpy_passes(variant: str, dtype: str) -> None:
    run = greta.probe(f"synthetic{variant}", IDS, backend="numpy", dtype=dtype, steps=2)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    assert "missed" not in {canary.outcome for canary in run.verdict.evidence.canaries}
    assert {"lse", "attn_out"} <= {check.stage for check in run.result.stages}
    assert {(k["library"], k["kernel"]) for k in run.verdict.evidence.kernels} == {("numpy", "attend")}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_numpy_by_every_way(way: dict[str, Any]) -> None:
    run = greta.probe("synthetic", IDS, backend="numpy", **way)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict


def test_numpy_s_functions_are_as_exact_as_declared() -> None:
    """Against float64 at many points, and float64 against mpmath at some."""
    rng = np.random.default_rng(1)
    x = -np.exp(rng.uniform(-18, np.log(80.0), 1 << 20)).astype(np.float32)
    for function, declared in ((np.exp, EXP_REL), (np.tanh, TANH_REL)):
        right = function(x.astype(np.float64))
        assert np.max(np.abs(function(x) / right - 1.0)) <= declared
        exact = getattr(mpmath, function.__name__)
        assert all(abs(y / exact(mpmath.mpf(float(t))) - 1) < 2**-50 for t, y in zip(x[:200], right[:200], strict=True))


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_without_lse(dtype: str) -> None:
    mine = greta.function_backend(plain, lse=False)
    run = greta.probe("synthetic", IDS, backend=mine, dtype=dtype, steps=2)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    assert "lse" not in {check.stage for check in run.result.stages}
    assert {c.outcome for c in run.verdict.evidence.canaries} == {"found"}


def test_every_parameter_is_what_it_says() -> None:
    seen: list[dict[str, Any]] = []

    def curious(q: Any, k: Any, v: Any, **given: Any) -> Any:
        seen.append({"q": q, "k": k, **given})
        return np.zeros((*q.shape[:2], v.shape[2]), q.dtype), np.zeros(q.shape[:2], np.float32)

    names = ", ".join(PARAMETERS)
    scope: dict[str, Any] = {"curious": curious}
    exec(
        f"def f(q, k, v, *, {names}):\n    return curious(q, k, v, {', '.join(f'{n}={n}' for n in PARAMETERS)})", scope
    )
    layer = LayerConfig(rope_style="none", window=3, softcap=2.0, sinks=(0.5, 1.0, 0.0, 0.0), alibi=(1.0,) * 4)
    config = SessionConfig(2, 4, 2, 8, 8, 1, 16, "f32", "f32", 0.25, (LayerConfig(rope_style="none"), layer))
    backend = greta.function_backend(scope["f"])
    session = Completed(backend.open(config), backend.describe(), config)
    five = Batch(*(np.array(x, np.int32) for x in ([0, 5], [5], range(5), range(5), [0])))
    two = Batch(*(np.array(x, np.int32) for x in ([0, 2], [5], [3, 4], [3, 4], [0])))
    rows = np.ones((5, 2, 8), np.float32)
    session.kv_write(1, five, rows, rows)
    session.attend(1, "decode", two, np.ones((2, 4, 8), np.float32))
    (given,) = seen
    assert (given["scale"], given["window"], given["softcap"]) == (0.25, 3, 2.0)
    assert (given["layer"], given["phase"]) == (1, "decode")
    assert given["mask"].tolist() == [[False, True, True, True, False], [False, False, True, True, True]]
    assert given["sinks"].tolist() == [0.5, 1.0, 0.0, 0.0]
    assert (given["alibi"].dtype, given["k_scale"], given["v_scale"]) == (np.float32, None, None)
    assert (given["q"].shape, given["k"].shape) == ((2, 4, 8), (5, 2, 8))


# -- faults that the function itself has -------------------------------------------------------------------------------


def found(run: Any) -> tuple[Any, ...]:
    failure = run.verdict.first_failure
    assert failure is not None, run.verdict
    return run.verdict.status, failure.layer, failure.stage, failure.phase


def right(q: Any, k: Any, v: Any, scale: float, mask: Any) -> Any:
    return attend(q, k, v, scale=scale, mask=mask, softcap=0.0, sinks=None, alibi=None, k_scale=None, v_scale=None)


def test_a_wrong_scale_in_decode_only() -> None:
    def wrong(q: Any, k: Any, v: Any, *, scale: float, mask: Any, layer: int) -> Any:
        return right(q, k, v, scale * (1.01 if layer == 3 else 1.0), mask)

    run = greta.probe("synthetic", IDS, backend=greta.function_backend(attend, decode=wrong))
    assert found(run) == ("KV_MISMATCH", 3, "lse", "decode")


def test_a_window_that_forgets_a_row() -> None:
    def wide(q: Any, k: Any, v: Any, *, scale: float, mask: Any, phase: str) -> Any:
        if phase == "decode":
            mask = mask.copy()
            mask[:, -1] = False
        return plain(q, k, v, scale=scale, mask=mask)

    run = greta.probe("synthetic:mistral", IDS, backend=greta.function_backend(wide, lse=False))
    assert found(run) == ("KV_MISMATCH", 0, "attn_out", "decode")


@pytest.mark.parametrize("stage", ["attn_out", "lse"])
def test_nan_is_judged(stage: str) -> None:
    def nan(q: Any, k: Any, v: Any, *, scale: float, mask: Any, layer: int, phase: str) -> Any:
        out, lse = right(q, k, v, scale, mask)
        if (layer, phase) == (2, "decode"):
            (out if stage == "attn_out" else lse)[-1, 1] = np.nan
        return out, lse

    run = greta.probe("synthetic", IDS, backend=greta.function_backend(nan))
    assert found(run) == ("KV_MISMATCH", 2, stage, "decode")


def test_a_function_that_scribbles_on_its_arguments_harms_nothing() -> None:
    def scribbles(q: Any, k: Any, v: Any, *, scale: float, mask: Any) -> Any:
        out = plain(q, k, v, scale=scale, mask=mask)
        for x in (q, k, v):
            x[...] = 7
        mask[...] = False
        return out

    run = greta.probe("synthetic", IDS, backend=greta.function_backend(scribbles, lse=False))
    assert run.verdict.status == "PASS", run.verdict


# -- hostile -----------------------------------------------------------------------------------------------------------


HOSTILE: dict[str, tuple[str, str]] = {
    "shape": ("return out[:, :1]", r"hostile returned out as float32 \[34, 1, 32\] in prefill, layer 0; "
              r"expected a NumPy array, float32 \[34, 8, 32\]"),
    "dtype": ("return out.astype(np.float64)", r"returned out as float64 \[34, 8, 32\] in prefill, layer 0"),
    "decode_dtype": ("return out if len(q) > 1 else out.astype(np.float16)", "float16 .* in decode, layer 0"),
    "nothing": ("return None", "returned out as NoneType in prefill"),
    "list": ("return [[1.0]]", r"returned list \(list\) in prefill, layer 0; expected out alone"),
    "triple": ("return out, None, out", r"returned tuple \(float32 .*, NoneType, float32 .*\) .*expected out alone"),
    "view": ("return v if v.shape == out.shape else q", "returned out as a view of its argument q in prefill"),
    "part_of_a_view": ("return np.broadcast_to(k[:1, :1], out.shape)", "a view of its argument k"),
    "raises": ("return out[10**6]", r"raised in prefill, layer 0: IndexError: .* \(<hostile>:3\)"),
    "exits": ("raise SystemExit(3)", "raised in prefill, layer 0: SystemExit: 3"),
    "torch_less": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
}  # fmt: skip


def hostile(body: str) -> Any:
    scope: dict[str, Any] = {"plain": plain, "np": np}
    head = "def hostile(q, k, v, *, scale, mask, phase):\n    out = plain(q, k, v, scale=scale, mask=mask)\n    "
    exec(compile(head + body, "<hostile>", "exec"), scope)
    return scope["hostile"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_function_is_told_so(name: str) -> None:
    body, message = HOSTILE[name]
    with pytest.raises(BackendError, match=message) as raised:
        greta.probe("synthetic", IDS, backend=greta.function_backend(hostile(body), lse=False))
    assert raised.value.said.es != raised.value.said.en


def test_an_lse_that_was_promised_or_denied() -> None:
    with pytest.raises(BackendError, match=r"expected the pair \(out, lse\), or say lse=False"):
        greta.probe("synthetic", IDS, backend=greta.function_backend(plain))
    with pytest.raises(BackendError, match="expected out alone, because of lse=False"):
        greta.probe("synthetic", IDS, backend=greta.function_backend(attend, lse=False))
    body = "return out, out[..., 0].astype(np.float64)"
    with pytest.raises(BackendError, match=r"returned lse as float64 \[34, 8\].*expected a NumPy array, fl") as caught:
        greta.probe("synthetic", IDS, backend=greta.function_backend(hostile(body)))
    assert "se esperaba un arreglo de NumPy, float32 [34, 8]" in caught.value.said.es
    assert str(caught.value).startswith("attention function hostile returned lse")


def test_signatures() -> None:
    def dropout(q: Any, k: Any, v: Any, dropout_p: float) -> None: ...

    with pytest.raises(BackendError, match=r"dropout has a parameter 'dropout_p'.*known: scale, mask"):
        greta.function_backend(dropout)
    with pytest.raises(BackendError, match=r"<lambda>\(q\) does not take q, k and v"):
        greta.function_backend(lambda q: q)
    with pytest.raises(BackendError, match="does not tell its parameters"):
        greta.function_backend(max)
    two = greta.function_backend(lambda q, k, v: q, decode=lambda q, k, v: k).describe()
    assert two.kernels == {"prefill": "<lambda> (prefill)", "decode": "<lambda> (decode)"}
    assert not two.one_kernel


@pytest.mark.parametrize(
    ("model", "keys", "feature"),
    [
        ("synthetic:mistral", {}, "window"),
        ("synthetic:bloom", {}, "alibi"),
        ("synthetic", {"kv_dtype": "fp8_e4m3"}, "kv_dtype fp8_e4m3fn"),
        ("synthetic", {"kv_dtype": "bf16"}, "kv_dtype"),
        ("synthetic", {"schedule": {"decode": {"tile": 16}}}, "schedule"),
    ],
)
def test_what_the_signature_lacks_is_not_run(model: str, keys: dict[str, Any], feature: str) -> None:
    bare = greta.function_backend(lambda q, k, v: q, lse=False)
    with pytest.raises(Unsupported) as raised:
        greta.probe(model, IDS, backend=bare, **keys)
    assert raised.value.feature == feature


def test_a_hostile_function_costs_one_case(tmp_path: Path) -> None:
    """By the hook, as a user has it; and the twin with faults is said to be missing."""
    bodies = "\n".join(
        f"def {name}(q, k, v, *, scale, mask, phase):\n    out = plain(q, k, v, scale=scale, mask=mask)\n    {body}\n"
        for name, (body, _) in HOSTILE.items()
    )
    hook = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "import numpy as np, pytest, pytest_greta as greta\n"
        "from tests.backends.test_function_backend import plain\n"
        f"{bodies}\n"
        "@pytest.hookimpl(optionalhook=True)\n"
        "def pytest_greta_backends(config):\n"
        f"    names = {list(HOSTILE)!r}\n"
        "    return {n: lambda n=n: greta.function_backend(globals()[n], lse=False) for n in names}\n"
    )
    (tmp_path / "conftest.py").write_text(hook)
    lines = [f"- {{id: {name}, random_tokens: 12, backend: {name}}}" for name in HOSTILE]
    lines.append("- {id: good, random_tokens: 12, backend: numpy}")
    lines.append(
        "- {id: twin, random_tokens: 12, backend: numpy, inject: {fault: causal_align, phase: decode, layer: 1}}"
    )
    (tmp_path / "h.greta.yaml").write_text("suite: h\ncases:\n" + "\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--greta-lang=en", "h.greta.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"{len(HOSTILE)} failed, 1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    assert "backend 'numpy' has no faulty twin" in done.stdout
    assert "GRETA_INTERNAL" not in done.stdout


def test_a_factory_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\nclass Mine:\n    def __init__(self, path): pass\n\n"
        "@pytest.hookimpl(optionalhook=True)\n"
        "def pytest_greta_backends(config):\n"
        "    return {'h': lambda: Mine(), 'whole': Mine}\n"
    )
    lines = [f"- {{id: {name}, random_tokens: 12, backend: {name}}}" for name in ("h", "whole")]
    (tmp_path / "h.greta.yaml").write_text("suite: h\ncases:\n" + "\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "h.greta.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = " ".join(done.stdout.split())
    assert "backend 'h': its function raised TypeError: " in said
    assert "backend 'h': su función lanzó TypeError: " in said
    assert "conftest.py:8)" in said
    assert "backend 'whole': its function raised TypeError: " in said
    assert "registry.py" not in said


def test_a_stored_trace_without_lse_is_judged_again(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "import pytest, pytest_greta as greta\n"
        "from tests.backends.test_function_backend import plain\n"
        "@pytest.hookimpl(optionalhook=True)\n"
        "def pytest_greta_backends(config):\n"
        "    return {'mine': lambda: greta.function_backend(plain, lse=False)}\n"
    )
    (tmp_path / "a.greta.yaml").write_text("suite: a\ncases:\n- {id: one, random_tokens: 12, backend: mine}\n")
    run = ["-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider", "a.greta.yaml"]
    analyze = ["-m", "pytest_greta.cli", "analyze", "--mode=kv_aligned", "--output=r.md", "--model=synthetic"]
    for command in ([*run, "--greta-artifacts=out", "--greta-trace=full"], [*analyze, "--traces-dir"]):
        folders = [str(path) for path in tmp_path.glob("out/*/a/traces")] if command[-1] == "--traces-dir" else []
        whole = [sys.executable, *command, *folders]
        done = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# -- torch is an extra -------------------------------------------------------------------------------------------------


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("name", ["torch:math", "torch:flash", "torch:math@cuda"])
def test_without_torch_the_message_names_the_extra(name: str) -> None:
    with pytest.raises(BackendMissing, match="PyTorch is not installed") as missing:
        greta.probe("synthetic", IDS, backend=name)
    assert (missing.value.kind, missing.value.mend) == ("extra", "pip install 'pytest-greta[torch]'")
    with pytest.raises(BackendMissing, match="PyTorch is not installed"):
        greta.function_backend(plain, device="cpu")


@pytest.mark.parametrize(("name", "near"), [("torch:mat", "torch:math"), ("torch:cudnn", "torch:cudnn@cuda")])
def test_a_kernel_that_no_build_has(name: str, near: str) -> None:
    with pytest.raises(CaseError, match=f"did you mean '{near}'"):
        greta.probe("synthetic", IDS, backend=name)


def test_an_unknown_device() -> None:
    with pytest.raises(BackendMissing, match=r"'tpu' is not a device of torch.*expected one of: cpu, cuda, rocm"):
        greta.function_backend(plain, device="tpu")
