"""Cases times matrices: which probes, with which ids and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_greta.cases.model import Case, Expect, Probe, Prompt, Where
from pytest_greta.plan import expand, spell

HERE = Path("/somewhere/cases")

SETTINGS = {
    "model": "synthetic", "backend": "cpu", "dtype": "f32", "kv_dtype": "f32", "seed": 1, "layers": "all",
    "page_size": 0, "steps": 1, "gemm": "blas",
    "chunk": None, "q_len": 1, "left_pad": 0, "reuse": None, "batch": (), "lengths": None,
    "schedule": {}, "contract": {}, "numerics": {}, "context": None, "timeout": None,
}  # fmt: skip


def case(modes: tuple[str, ...] = ("kv_aligned",), matrix: dict[str, Any] | None = None, **settings: Any) -> Case:
    where = Where(HERE / "f.greta.yaml", 3)
    return Case("a", "s", where, Prompt(text="Hi"), modes, settings, matrix or {})


def ids(probes: list[Probe]) -> list[str]:
    return [probe.id for probe in probes]


def test_one_cell_has_every_setting() -> None:
    (probe,) = expand(case())
    assert (probe.id, probe.mode, probe.variant) == ("kv_aligned", "kv_aligned", "")
    assert probe.settings == SETTINGS
    assert probe.expect == Expect(accept=("PASS",))


def test_modes_times_matrix_in_file_order() -> None:
    probes = expand(case(("kv_aligned", "as_designed"), {"dtype": ("bf16", "f32"), "page_size": (16, 0)}))
    assert ids(probes) == [
        "kv_aligned-bf16-page_size=16",
        "kv_aligned-bf16-page_size=0",
        "kv_aligned-f32-page_size=16",
        "kv_aligned-f32-page_size=0",
        "as_designed-bf16-page_size=16",
        "as_designed-bf16-page_size=0",
        "as_designed-f32-page_size=16",
        "as_designed-f32-page_size=0",
    ]
    assert probes[0].variant == "bf16-page_size=16"
    assert (probes[0].settings["dtype"], probes[0].settings["page_size"]) == ("bf16", 16)
    assert probes[4].expect == Expect(accept=("ALIGNED", "ATTENTION_COMPUTATION_MISMATCH"))


def test_the_cache_has_the_type_of_the_activations_unless_it_is_given() -> None:
    probes = expand(case(matrix={"dtype": ("f32", "bf16")}))
    assert [probe.settings["kv_dtype"] for probe in probes] == ["f32", "bf16"]
    probes = expand(case(matrix={"kv_dtype": ("f32", "f16")}, dtype="bf16"))
    assert [(p.settings["dtype"], p.settings["kv_dtype"]) for p in probes] == [("bf16", "f32"), ("bf16", "f16")]
    assert ids(probes) == ["kv_aligned-kv_dtype=f32", "kv_aligned-kv_dtype=f16"]


def test_a_case_is_not_changed() -> None:
    one = case(matrix={"dtype": ("f32", "bf16")}, seed=3)
    expand(one, {"seed": 9})
    assert (one.settings, one.matrix) == ({"seed": 3}, {"dtype": ("f32", "bf16")})
    assert ids(expand(one)) == ids(expand(one))


class TestOverrides:
    def test_mode_narrows_or_leaves_nothing(self) -> None:
        both = case(("as_designed", "kv_aligned"), {"dtype": ("f32", "f16")})
        assert ids(expand(both, {"mode": "as_designed"})) == ["as_designed-f32", "as_designed-f16"]
        assert expand(case(("kv_aligned",)), {"mode": "as_designed"}) == []

    def test_values_win_over_the_file(self) -> None:
        given = {"model": "synthetic", "backend": "numpy", "layers": (0, 2), "seed": 5, "mode": None}
        (probe,) = expand(case(model="smollm2-135m", seed=2), given)
        assert probe.settings == {**SETTINGS, "backend": "numpy", "layers": (0, 2), "seed": 5}

    def test_an_overridden_key_leaves_the_matrix_and_the_id(self) -> None:
        wide = case(matrix={"model": ("a", "b"), "dtype": ("f32", "f16"), "seed": (1, 2)})
        probes = expand(wide, {"model": "c", "seed": 0})
        assert ids(probes) == ["kv_aligned-f32", "kv_aligned-f16"]
        assert {p.settings["model"] for p in probes} == {"c"}

    def test_library_wins_over_backend_and_is_where_the_shell_was(self) -> None:
        (probe,) = expand(case(backend="cpu"), {"library": "mine.so", "backend": "numpy"})
        assert probe.settings["backend"] == {"library": str(Path.cwd() / "mine.so")}

    def test_anything_else_is_a_mistake(self) -> None:
        with pytest.raises(KeyError, match="dtype"):
            expand(case(), {"dtype": "f16"})


class TestPaths:
    def test_a_model_file_lies_beside_the_case_file(self) -> None:
        (probe,) = expand(case(model="../m/x.gguf"))
        assert probe.settings["model"] == "/somewhere/cases/../m/x.gguf"

    @pytest.mark.parametrize("path", ["m/x.gguf", "./m", "../m"])
    def test_so_does_one_of_transformers(self, path: str) -> None:
        (probe,) = expand(case(model=f"transformers:{path}"))
        assert probe.settings["model"] == f"transformers:{Path('/somewhere/cases') / path}"

    @pytest.mark.parametrize(
        "name",
        [
            "/abs/x.gguf",
            "transformers:/abs/x.gguf",
            "transformers:owner/name",
            "transformers:smollm2-135m",
            "smollm2-135m",
            "synthetic:qwen3",
            "hf://o/r/f.gguf",
        ],
    )
    def test_other_models_stay(self, name: str) -> None:
        (probe,) = expand(case(model=name))
        assert probe.settings["model"] == name

    def test_the_id_spells_what_the_file_says(self) -> None:
        (probe, _) = expand(case(matrix={"model": ("m/x.gguf", "synthetic")}))
        assert probe.id == "kv_aligned-model=m/x.gguf"


class TestSpelling:
    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("dtype", "bf16", "bf16"),
            ("kv_dtype", "bf16", "kv_dtype=bf16"),
            ("page_size", 16, "page_size=16"),
            ("layers", (0, 3), "layers=0,3"),
            ("layers", "all", "layers=all"),
            ("timeout", 1.5, "timeout=1.5"),
            ("contract", {"bitwise": True}, "contract=bitwise:true"),
            ("schedule", {"prefill": {"tile": 64}, "decode": {"tile": 32, "splits": 2}},
             "schedule=prefill.tile:64,decode.tile:32,decode.splits:2"),
            ("backend", {"prefill": "cpu", "decode": {"library": "x.so"}}, "backend=prefill:cpu,decode.library:x.so"),
            ("model", "a[1]::b\n", "model=a(1):b_"),
        ],
    )  # fmt: skip
    def test_words(self, key: str, value: Any, expected: str) -> None:
        assert spell(key, value) == expected

    def test_values_that_spell_alike_keep_two_ids(self) -> None:
        probes = expand(case(matrix={"model": ("a[", "a(")}))
        assert ids(probes) == ["kv_aligned-model=a(", "kv_aligned-model=a(.2"]
        assert [p.settings["model"] for p in probes] == ["a[", "a("]
        assert probes[1].variant == "model=a(.2"
