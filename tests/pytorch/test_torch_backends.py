"""torch's own attention kernels as backends: healthy, as declared, and planted with a fault."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import pytest_greta as greta
from pytest_greta.backends.base import PHASES, BackendError, BackendMissing, Unsupported
from pytest_greta.backends.function import FunctionBackend, visible
from pytest_greta.pytorch import sdpa
from pytest_greta.pytorch.arrays import as_numpy, as_torch, torch_type
from pytest_greta.pytorch.numerics import EXP_16, EXP_F32, MATH, flash_cpu, has_products
from tests.docs.pages import ROOT, blocks

pytestmark = pytest.mark.transformers

IDS = np.random.default_rng(0).integers(256, size=40).tolist()
LONG = np.random.default_rng(0).integers(256, size=700).tolist()
"""More than one tile."""


# -- healthy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("kernel", ["math", "flash"])
@pytest.mark.parametrize("model", ["synthetic", "synthetic:mistral"])
def test_an_untouched_kernel_passes(model: str, kernel: str, dtype: str) -> None:
    run = greta.probe(model, IDS, backend=f"torch:{kernel}", dtype=dtype, steps=2)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    assert {c.outcome for c in run.verdict.evidence.canaries} == {"found"}
    assert ("lse" in {check.stage for check in run.result.stages}) == (kernel == "flash")
    assert {(k["library"], k["kernel"]) for k in run.verdict.evidence.kernels} == {(f"torch:{kernel}", kernel)}


@pytest.mark.parametrize("way", [{"chunk": 7}, {"steps": 6, "q_len": 3}, {"left_pad": 3}, {"batch": [5, 9]}], ids=str)
@pytest.mark.parametrize("kernel", ["math", "flash"])
def test_by_other_ways(kernel: str, way: dict[str, Any]) -> None:
    run = greta.probe("synthetic", IDS, backend=f"torch:{kernel}", dtype="bf16", **way)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_more_than_a_tile(dtype: str) -> None:
    run = greta.probe("synthetic", LONG, backend="torch:flash", dtype=dtype)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict


PROCESSOR = """
import pytest_greta as greta
from pytest_greta.pytorch.numerics import has_products
assert not has_products("bf16") and not has_products("f16")
for dtype in ("bf16", "f16"):
    for kernel in ("math", "flash"):
        run = greta.probe("synthetic", list(range(60)), backend=f"torch:{kernel}", dtype=dtype)
        assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
"""


def test_a_processor_without_products_of_16_bits() -> None:
    env = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", PROCESSOR], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- the kernels are the public function's -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("kernel", ["math", "flash"])
def test_bytes_of_the_public_function(kernel: str, dtype: str) -> None:
    torch.manual_seed(1)
    call = sdpa.backend(f"torch:{kernel}").functions["decode"].call
    chosen = {"math": SDPBackend.MATH, "flash": SDPBackend.FLASH_ATTENTION}[kernel]
    for T, rows, window in [(1, 1, 0), (1, 37, 0), (37, 37, 0), (5, 37, 0), (37, 37, 9), (1, 37, 9)]:
        q = torch.randn(T, 4, 16).to(torch_type(dtype))
        k, v = (torch.randn(rows, 2, 16).to(torch_type(dtype)) for _ in range(2))
        mask = as_torch(visible(T, rows, window))
        own = call(q, k, v, scale=0.3, mask=mask, window=window)
        own = own[0] if isinstance(own, tuple) else own
        plain = T in (1, rows) and not window
        seen = {"is_causal": T > 1} if plain else {"attn_mask": mask}
        heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
        with sdpa_kernel(chosen):
            public = scaled_dot_product_attention(*heads_first, scale=0.3, enable_gqa=True, **seen)[0].transpose(0, 1)
        assert torch.equal(own, public), (T, rows, window)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_tensors_are_the_arrays_themselves(dtype: str) -> None:
    tensor = torch.arange(6.0).reshape(2, 3).to(torch_type(dtype))
    array = np.array(as_numpy(tensor))
    shared = as_torch(array)
    assert torch.equal(shared, tensor)
    shared[1, 2] = -2.0
    assert float(array[1, 2]) == -2.0
    assert array.tobytes() == as_numpy(shared).tobytes()


# -- what is declared is so, and is needed -----------------------------------------------------------------------------


def declaring(kernel: str, **numerics: Any) -> FunctionBackend:
    """The backend with other words about itself."""
    made = sdpa.backend(f"torch:{kernel}")
    said = made.description.numerics_by_act
    changed = {act: {p: replace(own[p], **numerics) for p in PHASES} for act, own in said.items()}
    return replace(made, description=replace(made.description, numerics_by_act=changed))


@pytest.mark.parametrize(
    ("numerics", "status", "finding"),
    [
        ({"p_dtype": "f32"}, "KV_MISMATCH", "NONE"),
        ({"exp_rel": 2.0**-23}, "KV_MISMATCH", "NONE"),
        ({"tile": 0, "splits": 0}, "PASS", "SCHEDULE"),
        ({"tile": 64}, "PASS", "SCHEDULE"),
    ],
    ids=str,
)
def test_flash_needs_each_of_its_words(numerics: dict[str, Any], status: str, finding: str) -> None:
    ids = LONG if "tile" in numerics else IDS
    run = greta.probe("synthetic", ids, backend=declaring("flash", **numerics), dtype="bf16")
    assert (run.verdict.status, run.verdict.finding) == (status, finding), run.verdict


def worst_exp(dtype: str, n: int) -> float:
    """Relative error of sum exp(s - m) over one key of weight 1 and n - 1 of weight exp(d), as the lse shows it."""
    d = torch.unique(-(2.0 ** torch.linspace(-6, 4, 2000)).to(torch_type(dtype)))
    q, k = (torch.zeros(*shape, 1, 16, dtype=d.dtype) for shape in ((len(d), 1), (len(d), n)))
    q[..., 0], k[:, 1:, :, 0] = d.view(-1, 1, 1), 1
    call = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    lse = call(q.transpose(1, 2), k.transpose(1, 2), k.transpose(1, 2), 0.0, False, scale=1.0)[1]
    right = np.log1p((n - 1) * np.exp(d.double().numpy()))
    return float(np.abs(np.expm1(lse.double().numpy().ravel() - right)).max())


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_exp_in_16_bits(dtype: str) -> None:
    """Within its declaration and not within half of it; so l sums P before it is rounded, too, by 2^-9 or 2^-12."""
    worst = max(worst_exp(dtype, n) for n in (33, 512))
    print(f"exp of the flash kernel in {dtype}: {worst:.3g} relative")
    assert EXP_16 / 2 < worst <= EXP_16
    assert flash_cpu(dtype).l_from == "before"


def test_exp_in_32_bits() -> None:
    worst = worst_exp("f32", 33)
    assert 2.0**-23 < worst <= EXP_F32


@pytest.mark.parametrize(("kernel", "dtype"), list(product(["math", "flash"], ["bf16", "f16"])))
def test_whether_p_is_rounded(kernel: str, dtype: str) -> None:
    """One key of weight 1 and V = -1, 63 of weight p and V = 1 / 63p, nearly: what is left of the output is P's
    rounding."""
    kind, n, d = torch_type(dtype), 64, 1.3
    k, v = torch.zeros(n, 1, 16, dtype=kind), torch.zeros(n, 1, 16, dtype=kind)
    q = torch.zeros(1, 1, 16, dtype=kind)
    q[..., 0], k[1:, :, 0] = 1, -d
    p = np.exp(float(k[1, 0, 0]))
    v[0], v[1:] = -1, 1 / ((n - 1) * p)
    value, total = float(v[1, 0, 0]), 1 + (n - 1) * p
    rounded = float(torch.tensor(p, dtype=torch.float64).to(kind))
    expected = {name: ((n - 1) * weight * value - 1) / total for name, weight in (("f32", p), (dtype, rounded))}
    call = sdpa.backend(f"torch:{kernel}").functions["decode"].call
    out = call(q, k, v, scale=1.0, mask=torch.ones(1, n, dtype=torch.bool), window=0)
    found = float((out[0] if isinstance(out, tuple) else out).ravel()[0])
    nearest = min(expected, key=lambda name: abs(expected[name] - found))
    assert nearest == (MATH.p_dtype if kernel == "math" else flash_cpu(dtype).p_dtype), (expected, found)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_products_are_kept_in_float32_where_torch_says_so(dtype: str) -> None:
    """The score 1 + 2^-12 is no number of either type; one key's lse is its score."""
    q = torch.zeros(1, 1, 1, 16, dtype=torch_type(dtype))
    q[..., 0], q[..., 1] = 1, 2.0**-6
    _, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.0, False, scale=1.0)
    if has_products(dtype):
        assert lse.item() == 1 + 2.0**-12
        assert flash_cpu(dtype).score_dtype == "f32"
    else:
        assert flash_cpu(dtype).score_dtype == "act"


# -- planted -----------------------------------------------------------------------------------------------------------


def heads_first(q: Any, k: Any, v: Any, scale: float, mask: Any) -> Any:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)[0].transpose(0, 1)


def sound(q: Any, k: Any, v: Any, *, scale: float, mask: Any) -> Any:
    return heads_first(q, k, v, scale, mask)


def planted(q: Any, k: Any, v: Any, *, scale: float, mask: Any, layer: int) -> Any:
    return heads_first(q, k, v, scale * (1.1 if layer == 4 else 1.0), mask)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_wrong_scale_in_decode_only(dtype: str) -> None:
    given: dict[str, Any] = {"device": "cpu", "lse": False, "numerics": flash_cpu(dtype)}
    run = greta.probe("synthetic", IDS, backend=greta.function_backend(sound, **given), dtype=dtype)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    run = greta.probe("synthetic", IDS, backend=greta.function_backend(sound, decode=planted, **given), dtype=dtype)
    failure = run.verdict.first_failure
    assert failure is not None
    assert (run.verdict.status, failure.layer, failure.stage, failure.phase) == ("KV_MISMATCH", 4, "attn_out", "decode")


# -- hostile, and absent -----------------------------------------------------------------------------------------------


HOSTILE: dict[str, tuple[Any, str]] = {
    "device": (lambda out, q, v: out.to("meta"), r"float32 \[40, 8, 32\] on meta .*expected a torch tensor on cpu"),
    "dtype": (lambda out, q, v: out.double(), "returned out as torch.float64"),
    "shape": (lambda out, q, v: out[:, :2], r"torch.float32 \[40, 2, 32\].*expected a torch tensor on cpu, float32"),
    "array": (lambda out, q, v: out.numpy(), r"returned out as float32 \[40, 8, 32\]"),
    "sparse": (lambda out, q, v: out.to_sparse(), "returned out as torch.float32"),
    "view": (lambda out, q, v: q.view(q.shape), "a view of its argument q"),
    "raises": (lambda out, q, v: out @ v, "raised in prefill, layer 0: RuntimeError"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_function(name: str) -> None:
    spoil, message = HOSTILE[name]

    def hostile(q: Any, k: Any, v: Any, *, scale: float, mask: Any) -> Any:
        return spoil(heads_first(q, k, v, scale, mask), q, v)

    with pytest.raises(BackendError, match=message):
        greta.probe("synthetic", IDS, backend=greta.function_backend(hostile, device="cpu", lse=False))


def test_a_gradient_does_no_harm() -> None:
    def graph(q: Any, k: Any, v: Any, *, scale: float, mask: Any) -> Any:
        return heads_first(q.requires_grad_(), k, v, scale, mask)

    run = greta.probe("synthetic", IDS, backend=greta.function_backend(graph, device="cpu", lse=False))
    assert run.verdict.status == "PASS", run.verdict


@pytest.mark.parametrize("name", ["torch:flash@cuda", "torch:math@rocm", "torch:cudnn@cuda"])
def test_a_device_that_is_not_there(name: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BackendMissing, match=r"torch .* is built for cpu, not for|finds no device") as missing:
        greta.probe("synthetic", IDS, backend=name)
    assert missing.value.kind == "device"


def test_what_sdpa_has_not() -> None:
    with pytest.raises(Unsupported, match="no parameter softcap"):
        greta.probe("synthetic:gemma2", IDS, backend="torch:flash")


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    (block,) = [b for b in blocks(ROOT / "docs/functions.md") if b.attributes.get("file") == "torch_hook.py"]
    (tmp_path / "conftest.py").write_text(block.text)
    (tmp_path / "t.greta.yaml").write_text("suite: t\ncases:\n- {id: one, random_tokens: 12, steps: 2}\n")
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), "--greta-backend=mine"]
    done = subprocess.run([*command, "t.greta.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
