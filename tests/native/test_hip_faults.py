"""The emulated HIP library's faulty twin; the shipped one has nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from attention_cases import batch, config, randn
from hip_cases import emulated

from pytest_greta.backends import native
from pytest_greta.backends.base import BackendMissing, Schedule, Unsupported


@pytest.fixture
def twin() -> Iterator[native.NativeBackend]:
    twin = emulated(faulty=True)
    yield twin
    twin.clear_fault()


def attend(library: native.NativeBackend, layer: int = 1, splits: int = 2) -> np.ndarray:
    rng = np.random.default_rng(5)
    c = config(n_layers=2, max_len=130, schedule={"decode": Schedule(splits=splits)})
    with library.open(c) as session:
        k = 2 * randn(rng, (130, 2, 16), "f32")
        for i in range(2):
            session.kv_write(i, batch([130], [130]), k, k)
        out, lse = session.attend(layer, "decode", batch([2], [130]), 2 * randn(rng, (2, 4, 16), "f32"))
    assert lse is not None
    return np.concatenate([out, lse[..., None]], axis=2)


def test_split_merge_is_visible_where_it_was_asked_for_and_nowhere_else(twin: native.NativeBackend) -> None:
    right = attend(emulated())
    assert attend(twin).tobytes() == right.tobytes()
    twin.set_fault("split_merge", phase=1, layer=1, head=2, position=129)
    wrong = np.zeros((2, 4), bool)
    wrong[1, 2] = True
    assert ((np.abs(attend(twin) - right).max(axis=2) > 1e-3) == wrong).all()
    assert twin.fault_fired() == 1
    assert attend(twin, layer=0).tobytes() == right.tobytes()
    assert twin.fault_fired() == 1
    attend(twin, splits=1)
    assert twin.fault_fired() == 1, "one split has nothing to merge"
    twin.clear_fault()
    assert attend(twin).tobytes() == right.tobytes()


def test_a_kind_without_a_place_in_these_kernels_is_not_run(twin: native.NativeBackend) -> None:
    with pytest.raises(Unsupported, match="fault: kind 'race'; this twin has split_merge"):
        twin.set_fault("race")


def test_the_twin_is_refused_as_a_library_and_the_shipped_one_has_no_fault(twin: native.NativeBackend) -> None:
    with pytest.raises(BackendMissing, match="is a faulty twin"):
        native.load(twin.path)
    for word in (b"greta_fault", b"split_merge"):
        assert word not in emulated().path.read_bytes()
        assert word in twin.path.read_bytes()
