"""The float32 cache: a second start reads it alone, a damaged file is built anew, one of many processes builds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_gguf import write_gguf

from pytest_greta.engine import weight_cache
from pytest_greta.engine.gguf import load_gguf
from pytest_greta.engine.store import ModelError


@pytest.fixture
def model(tmp_path: Path, own_cache: Path) -> Path:
    write_gguf(tmp_path / "m.gguf", "Q8_0")
    return tmp_path / "m.gguf"


def cache_file(folder: Path) -> Path:
    (path,) = (folder / "weights").glob("*.safetensors")
    return path


def forbid_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(*_: object) -> None:
        raise AssertionError("the GGUF was parsed")

    monkeypatch.setattr(gguf, "GGUFReader", reader)


def test_second_start_does_not_parse_the_gguf(model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_gguf(model)
    forbid_reader(monkeypatch)
    second = load_gguf(model)
    assert second.config == first.config
    assert second.extras == first.extras
    assert str(second.extras["cache"]) == str(cache_file(own_cache))
    assert second.tokenizer.encode("hello 42") == first.tokenizer.encode("hello 42")
    base = second.weights["embed"].base
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)  # pages that all processes share
    with pytest.raises(ValueError, match="read-only"):
        second.weights["embed"][0, 0] = 1


def test_another_content_is_another_entry(model: Path, own_cache: Path) -> None:
    before = load_gguf(model)
    write_gguf(model, "Q8_0", seed=1)
    after = load_gguf(model)
    assert before.origin != after.origin
    assert not np.array_equal(before.weights["embed"], after.weights["embed"])
    assert len(list((own_cache / "weights").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("damage", ["data", "facts", "header", "truncated", "empty", "foreign", "length"])
def test_damaged_cache_is_built_anew(
    model: Path, own_cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = load_gguf(model)
    path = cache_file(own_cache)
    content = bytearray(path.read_bytes())
    if damage == "data":
        content[-100] ^= 1
    elif damage == "facts":
        at = content.index(b"rms_eps")
        at = next(i for i in range(at, at + 40) if content[i : i + 1].isdigit())
        content[at] ^= 1  # another digit: still good JSON
    elif damage == "header":
        at = content.index(b'"shape":[64,64]')
        content[at : at + 15] = b'"shape":[4096]\x20'
    elif damage == "truncated":
        del content[-64:]
    elif damage == "length":
        content[0:8] = (1 << 62).to_bytes(8, "little")
    else:
        content = bytearray(b"" if damage == "empty" else b"[]" * 100)
    path.write_bytes(content)

    again = load_gguf(model)
    assert again.config == good.config
    expected = write_gguf(model.with_name("same.gguf"), "Q8_0")["blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(again.weights["layers.1.down"], expected)
    forbid_reader(monkeypatch)
    load_gguf(model)  # and the file is right again


def test_a_digest_that_covers_the_data_alone_would_miss_the_facts(model: Path) -> None:
    cached = load_gguf(model).weights
    assert isinstance(cached, weight_cache.CachedWeights)
    tensors = {"a": np.zeros(3, np.float32)}
    digests = {
        weight_cache._digest(tensors, "{}"),
        weight_cache._digest(tensors, "{} "),
        weight_cache._digest({"b": tensors["a"]}, "{}"),
        weight_cache._digest({"a": tensors["a"].reshape(1, 3)}, "{}"),
        weight_cache._digest({"a": tensors["a"] + 1}, "{}"),
    }
    assert len(digests) == 5


@pytest.mark.parametrize("obstacle", ["parent is a file", "weights is a file"])
def test_unwritable_cache_folder_works_from_memory_and_says_so(
    model: Path, own_cache: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so that a mode of 0555 would prove nothing here.
    if obstacle == "parent is a file":
        own_cache.write_text("x")
    else:
        own_cache.mkdir()
        (own_cache / "weights").write_text("x")
    source = load_gguf(model)
    note = source.extras["cache"]
    assert note.en.startswith("weights not cached in ")
    assert note.es.startswith("pesos sin caché en ")
    assert "GRETA_CACHE" in note.en
    expected = write_gguf(model.with_name("same.gguf"), "Q8_0")["blk.0.attn_q.weight"]
    np.testing.assert_array_equal(source.weights["layers.0.q"], expected)
    assert not source.weights["layers.0.q"].flags.writeable


def test_disk_full_leaves_nothing_behind(model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weight_cache, "save_file", full)
    source = load_gguf(model)
    assert "No space left on device" in str(source.extras["cache"])
    assert [p.suffix for p in (own_cache / "weights").iterdir()] == [".lock"]


def test_left_overs_of_a_killed_process_are_removed(model: Path, own_cache: Path) -> None:
    load_gguf(model)
    path = cache_file(own_cache)
    left = path.with_name(f"{path.name}.99999.tmp")
    left.write_bytes(b"half")
    path.unlink()
    load_gguf(model)
    assert not left.exists()
    assert cache_file(own_cache) == path


RACER = """
import os, sys, time
import gguf
from pathlib import Path
from pytest_greta.engine.gguf import load_gguf
reader = gguf.GGUFReader
def counted(path):
    Path(sys.argv[2], f"built-{os.getpid()}").touch()
    time.sleep(0.3)  # long enough for the others to arrive
    return reader(path)
gguf.GGUFReader = counted
source = load_gguf(Path(sys.argv[1]))
print(source.extras["cache"], float(source.weights["embed"].sum()), len(source.tokenizer.encode("hello")))
"""


def test_racing_processes_build_once_and_agree(model: Path, own_cache: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    command = [sys.executable, "-c", RACER, str(model), str(marks)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(4)]
    said = [racer.communicate(timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(set(said)) == 1
    assert str(cache_file(own_cache)) in said[0]
    assert len(list(marks.iterdir())) == 1
    assert not list((own_cache / "weights").glob("*.tmp"))


def test_checksum_of_a_known_model_is_held(model: Path, own_cache: Path) -> None:
    place = own_cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    place.parent.mkdir(parents=True)
    place.write_bytes(model.read_bytes())
    with pytest.raises(ModelError, match="expected b179c9523d0e6a0f") as caught:
        load_gguf(place)
    assert caught.value.mend == "greta model pull smollm2-135m --force"
