"""The HIP kernels' own source, run on the CPU at both wave widths: against float64 around every boundary."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_cases import backend as cpu
from attention_cases import batch, config, int32, randn
from hip_cases import DEVICE, WAVES, Shape, check, emulated

from pytest_greta.backends.base import Batch, LayerConfig, SessionConfig, Unsupported
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.rope import rotate

TYPES = [
    ("f32", "f32"), ("bf16", "bf16"), ("f16", "f16"), ("bf16", "fp8_e4m3fn"), ("f16", "fp8_e4m3fnuz"),
    ("bf16", "f32"), ("f32", "f16"),
]  # fmt: skip


OTHER_TYPES = [(act, kv) for act in ("f32", "bf16", "f16") for kv in DTYPES if (act, kv) not in TYPES]


def is_scaled(kv: str) -> bool:
    return kv.startswith("fp8")


@pytest.fixture(params=WAVES)
def wave(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["fast", "naive"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GRETA_HIP_KERNELS", request.param)
    return str(request.param)


@pytest.mark.parametrize("types", TYPES, ids="-".join)
@pytest.mark.parametrize("dim", [64, 80, 96, 128, 192, 256])
def test_every_head_size_and_type(dim: int, types: tuple[str, str], wave: str) -> None:
    check(emulated(wave), Shape((70, 33), (5, 1), *types, dqk=dim, dv=dim, page=16))


KERNEL = rb"greta_(?:(?:prefill|decode)_[a-z0-9_]*[a-z0-9]|[a-z_]+_kernel|combine)"


def test_every_kernel_runs_and_is_checked(wave: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of all that are in the library: each head size and type; of decode one row, up to four and up to eight. Over a
    tile and a bit, with all that can be asked of a score and queries that begin to see at different keys. What no test
    runs, no test can see broken."""
    log, library = tmp_path / "log", emulated(wave)
    monkeypatch.setenv("GRETA_EMULATED_LOG", str(log))
    for dim, kv in product((64, 80, 96, 128, 192, 256), DTYPES):
        act = kv if kv in ("bf16", "f16") else "f32"
        for heads, q_len in ((2, 1), (2, 3), (4, 4)):
            check(
                library,
                Shape(
                    (67,), (q_len,), act, kv, heads, dqk=dim, dv=dim, splits=2, window=40, cap=3.0, sinks=True,
                    alibi=True, scaled=is_scaled(kv),
                ),
            )  # fmt: skip
    test_trimmed_rows_are_forgotten_and_others_are_not(wave)
    test_rope("half", "f32", wave)
    monkeypatch.setenv("GRETA_HIP_KERNELS", "naive")
    check(library, Shape((67,), (2,)))
    if not DEVICE:
        known = set(re.findall(KERNEL, library.path.read_bytes()))
        assert len(known) == 4 + 1 + 18 + 45 + 2
        assert set(log.read_bytes().split()) == known


@pytest.mark.parametrize("types", OTHER_TYPES, ids="-".join)
def test_every_cache_type_under_every_activation_type(types: tuple[str, str], wave: str) -> None:
    check(emulated(wave), Shape((70, 33), (8, 1), *types, heads=6, dqk=80, dv=80, page=16, scaled=is_scaled(types[1])))


@pytest.mark.parametrize("kv", ["bf16", "fp8_e4m3fn", "fp8_e4m3fnuz"])
@pytest.mark.parametrize("q_len", range(1, 9))
def test_decode_of_up_to_eight_queries(q_len: int, kv: str, wave: str) -> None:
    """Which end in a tile, at its end and behind it; the second sequence has no key before them."""
    for n in (63, 64, 65):
        lens = (n, q_len), (q_len, q_len)
        check(
            emulated(wave),
            Shape(*lens, "bf16", kv, heads=3, kv_heads=1, splits=2, page=16, scaled=is_scaled(kv), phases=("decode",)),
        )


@pytest.mark.parametrize("n", [31, 32, 33, 95, 96, 97])
@pytest.mark.parametrize("dim", [128, 256])
def test_lengths_around_the_half_tiles_of_wide_heads(dim: int, n: int, wave: str) -> None:
    """In float, a tile of them goes through shared memory in two stages of 32 keys."""
    check(emulated(wave), Shape((n,), (2,), "f32", "f32", 2, 1, dim, dim, phases=("prefill",)))


@pytest.mark.parametrize("kv", ["f16", "fp8_e4m3fn", "fp8_e4m3fnuz"])
@pytest.mark.parametrize("splits", [2, 3])
def test_lengths_around_splits_of_two_tiles(splits: int, kv: str, wave: str) -> None:
    for n in (128 * splits - 1, 128 * splits, 128 * splits + 1):
        check(
            emulated(wave),
            Shape((n,), (1,), "f16", kv, 2, 1, splits=splits, page=64, scaled=is_scaled(kv), phases=("decode",)),
        )


@pytest.mark.parametrize("group", [1, 2, 3, 5, 8, 12])
def test_every_group(group: int, wave: str, kernels: str) -> None:
    check(emulated(wave), Shape((67, 9), (7, 1), heads=2 * group, seed=group))


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129])
def test_lengths_around_tiles_pages_and_rows_of_a_wave(n: int, wave: str) -> None:
    for page in (0, 1, 16, 64):
        check(emulated(wave), Shape((n, n + 1), (min(n, 3), 1), heads=2, kv_heads=1, page=page))


@pytest.mark.parametrize("splits", [1, 2, 3, 64])
def test_splits_of_one_tile_or_none(splits: int, wave: str, kernels: str) -> None:
    for n in (63, 64, 65, 128, 129, 193):
        check(emulated(wave), Shape((n, 1), (2, 1), "f32", "f32", 2, 1, splits=splits, phases=("decode",)))


@pytest.mark.parametrize("splits", [1, 5, 18])
def test_many_tiles(splits: int, wave: str, kernels: str) -> None:
    """Eighteen, which one split walks, or each has one of."""
    check(emulated(wave), Shape((1150, 700), (3, 1), heads=2, kv_heads=1, page=16, splits=splits))


@pytest.mark.parametrize("page", [0, 16])
def test_many_sequences(page: int, wave: str, kernels: str) -> None:
    check(emulated(wave), Shape(tuple(range(3, 75, 6)), (1, 2, 3) * 4, heads=2, kv_heads=1, page=page))


@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 200])
def test_windows(window: int, wave: str, kernels: str) -> None:
    check(emulated(wave), Shape((130, 64), (70, 9), heads=2, kv_heads=1, window=window, page=16))


@pytest.mark.parametrize("act", ["f32", "bf16"])
def test_caps_sinks_biases_and_scales(act: str, wave: str, kernels: str) -> None:
    for seed, options in enumerate(({"cap": 2.0}, {"sinks": True}, {"alibi": True}, {"scaled": True})):
        check(emulated(wave), Shape((66, 20), (4, 20), act, "fp8_e4m3fnuz", seed=seed, **options))  # type: ignore[arg-type]


def test_more_queries_than_keys_and_rows_before_the_first(wave: str, kernels: str) -> None:
    check(emulated(wave), Shape((5, 70, 3), (7, 66, 3), starts=(2, 65, 3)))
    check(emulated(wave), Shape((5, 3), (7, 3), starts=(2, 3), sinks=True))


def test_more_rows_than_a_block_takes(wave: str) -> None:
    """Prefill: 64 rows, sixteen a wave; decode: eight, which q_len and the group share."""
    check(emulated(wave), Shape((90, 40), (90, 40), heads=6, kv_heads=1))
    check(emulated(wave), Shape((75,), (8,), heads=6, kv_heads=2, phases=("decode",)))


def test_keys_and_values_of_different_widths(wave: str, kernels: str) -> None:
    for dqk, dv in ((192, 128), (64, 256), (8, 64), (40, 24)):
        check(emulated(wave), Shape((70,), (9,), dqk=dqk, dv=dv))


def test_a_full_cache_is_not_read_beyond_its_last_row(wave: str, kernels: str) -> None:
    """It ends at a page that cannot be touched, and here both widths are less than the kernels' own."""
    check(emulated(wave), Shape((70, 70), (9, 1), dqk=40, dv=24, spare=0))


def test_a_sequence_without_queries_is_not_read(wave: str, kernels: str) -> None:
    """Its cache is full: there is no row, and no page of one, where a query would be."""
    c = config(max_len=32, page_size=16, n_pages=4)
    table = np.array([[2, 1], [0, 3]])
    rng = np.random.default_rng(0)
    k, q = (randn(rng, (n, heads, 16), "f32") for n, heads in ((64, 2), (2, 4)))
    with emulated(wave).open(c) as session:
        session.kv_write(0, batch([32, 32], [32, 32], table=table), k, k)
        for phase in ("prefill", "decode"):
            out, _ = session.attend(0, phase, batch([2, 0], [32, 32], table=table), q)  # type: ignore[arg-type]
            alone, _ = session.attend(0, phase, batch([2], [32], table=table), q)  # type: ignore[arg-type]
            assert out.tobytes() == alone.tobytes()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_query_that_is_not_a_number_gives_none(phase: Any, wave: str, kernels: str) -> None:
    """Of its own head, and of no other."""
    rng = np.random.default_rng(0)
    k, q = (randn(rng, (n, heads, 16), "f32") for n, heads in ((48, 2), (1, 4)))
    q[0, 1, 5] = np.nan
    with emulated(wave).open(config()) as session:
        session.kv_write(0, batch([48], [48]), k, k)
        out, lse = session.attend(0, phase, batch([1], [48]), q)
    assert lse is not None
    assert np.isnan(out[0]).all(axis=-1).tolist() == np.isnan(lse[0]).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("window", "infinite", "untouched"),
    [(0, 99, slice(0, 16)), (16, 22, slice(48, 64))],
    ids=["a later tile", "a tile before the window"],
)
def test_an_infinite_value_reaches_no_wave_that_does_not_see_its_tile(
    window: int, infinite: int, untouched: slice, wave: str
) -> None:
    """Prefill multiplies whole tiles, and 0 times infinity is NaN: tiles that no row of a wave sees are left out."""
    rng = np.random.default_rng(0)
    q, k, v = (randn(rng, (n, 1, 64), "bf16") for n in (64, 100, 100))
    layer = LayerConfig(rope_style="none", window=window)
    c = config(n_heads=1, n_kv_heads=1, head_dim_qk=64, head_dim_v=64, act_dtype="bf16", kv_dtype="bf16",
               max_seqs=1, max_len=100, layers=(layer,))  # fmt: skip
    outs = []
    for value in (1.0, np.inf):
        v[infinite] = value
        with emulated(wave).open(c) as session:
            session.kv_write(0, batch([100], [100]), k, v)
            outs.append(session.attend(0, "prefill", batch([64], [100]), q)[0])
    assert not np.isfinite(outs[1].astype(float)).all()
    assert outs[0][untouched].tobytes() == outs[1][untouched].tobytes()


def test_the_naive_kernels_take_any_head_size(wave: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape((70,), (3,), "f32", "f16", dqk=33, dv=7)
    with pytest.raises(Unsupported, match="head_dim: 33 and 7; the fast kernels take multiples of 8"):
        check(emulated(wave), shape)
    monkeypatch.setenv("GRETA_HIP_KERNELS", "naive")
    check(emulated(wave), shape)


def test_the_order_of_the_waves_changes_no_byte(wave: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing barrier would show: between two of them the emulated threads run in the seed's order."""
    shape = Shape((130, 3), (20, 1), page=16, heads=6)
    results = []
    for seed in ("0", "1", "2", "3"):
        monkeypatch.setenv("GRETA_EMULATED_SEED", seed)
        results.append(check(emulated(wave), shape))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_companions_and_pages_change_no_byte(phase: Any, wave: str) -> None:
    rng = np.random.default_rng(1)
    mine = {name: randn(rng, (100, heads, 64), "bf16") for name, heads in (("q", 4), ("k", 2), ("v", 2))}

    def run(companions: list[int], page: int) -> bytes:
        lens, n = [*companions, 100], 1 + len(companions)
        blocks = -(-100 // page) if page else 0
        table = np.random.default_rng(page).permutation(n * blocks).reshape(n, blocks) if page else None
        c = config(act_dtype="bf16", kv_dtype="bf16", head_dim_qk=64, head_dim_v=64, max_seqs=n, max_len=100,
                   page_size=page, n_pages=n * blocks)  # fmt: skip
        q_lens = lens if phase == "prefill" else [1] * n
        with emulated(wave).open(c) as session:
            session.kv_write(0, batch(lens, lens, table=table), _rows(mine["k"], lens), _rows(mine["v"], lens))
            out, lse = session.attend(0, phase, batch(q_lens, lens, table=table), _rows(mine["q"], q_lens))
        assert lse is not None
        return bytes(out[-1].tobytes() + lse[-1].tobytes())

    alone = run([], 0)
    assert run([1], 16) == alone
    assert run([70, 100, 3], 7) == alone


def _rows(x: np.ndarray, counts: list[int]) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate([x[len(x) - count :] for count in counts]))


@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
def test_rope(style: Any, act: str, wave: str) -> None:
    """Far positions and factors too: the angle is in double."""
    layer = LayerConfig(rope_style=style, rope_base=1e6, rotary_dim=48, rope_factors=tuple(np.linspace(1, 8, 24)))
    c = config(act_dtype=act, kv_dtype=act, head_dim_qk=64, head_dim_v=64, layers=(layer,))
    rng = np.random.default_rng(0)
    q, k = (randn(rng, (5, heads, 64), act) for heads in (4, 2))
    b = Batch(int32([0, 5]), int32([5]), int32([0, 1, 7, 1000, 1_000_000]), int32(range(5)), int32([0]))
    mine = [q.copy(), k.copy()]
    with emulated(wave).open(c) as session:
        session.rope(0, "prefill", b, *mine)
    for got, x in zip(mine, (q, k), strict=True):
        expected = rotate(x.astype(np.float64), b.positions, layer)
        size = np.abs(x.astype(float)).max(axis=-1, keepdims=True)
        assert (np.abs(got.astype(float) - expected) <= (1.01 * DTYPES[act].u + 3 * 2.0**-24) * 2 * size).all()
        assert got[..., 48:].tobytes() == x[..., 48:].tobytes()


@pytest.mark.parametrize("kv", list(DTYPES))
@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
def test_the_cache_holds_the_bytes_that_the_cpu_library_stores(act: str, kv: str, wave: str) -> None:
    """Which the CPU library's tests hold to ml_dtypes: rounding, saturation, NaN, scales."""
    special = [
        0.0,
        -0.0,
        1e-9,
        -1e-3,
        0.0009765625,
        1.0625,
        240,
        247.9,
        448,
        464,
        -1e6,
        np.inf,
        np.nan,
        65504,
        7e4,
        1e38,
    ]
    with np.errstate(over="ignore"):
        k = np.array(special * 4, np.float32).reshape(2, 2, 16).astype(DTYPES[act].numpy)
    for scales in (None, (0.5, 3.0)):
        layer = LayerConfig(rope_style="none", k_scale=scales, v_scale=scales)
        stored = []
        for library in (cpu(), emulated(wave)):
            with library.open(config(act_dtype=act, kv_dtype=kv, layers=(layer,))) as session:
                session.kv_write(0, batch([2], [2]), k, k)
                stored.append([x.tobytes() for x in session.kv_read(0, 0, 0, 2)])
        assert stored[0] == stored[1]


def test_trimmed_rows_are_forgotten_and_others_are_not(wave: str) -> None:
    c = config(page_size=16, n_pages=6)
    table = np.array([[4, 1, 5], [0, 3, 2]])
    rng = np.random.default_rng(0)
    k = randn(rng, (40, 2, 16), "f32")
    with emulated(wave).open(c) as session:
        session.kv_write(0, batch([20, 20], [20, 20], table=table), k, k)
        before = session.kv_read(0, 1, 0, 40)
        session.kv_trim(0, 15)
        left, gone, other = (session.kv_read(0, *rows) for rows in ((0, 0, 15), (0, 15, 20), (1, 0, 40)))
        for part in range(2):
            assert left[part].tobytes() == k[:15].tobytes()
            assert not gone[part].any()
            assert other[part].tobytes() == before[part].tobytes()


def test_rows_that_a_sequence_never_wrote_are_another_s(wave: str) -> None:
    """Neither a read of them nor a trim to beyond the end makes them its own."""
    c = config(page_size=16, n_pages=6)
    k = randn(np.random.default_rng(0), (20, 2, 16), "f32")
    with emulated(wave).open(c) as session:
        for seq, table in enumerate(([4, 1, 5], [0, 5, 2])):
            session.kv_write(0, batch([20], [20], [seq], table=np.array([table, table])), k, k)
        session.kv_read(0, 0, 0, 40)
        session.kv_trim(0, 40)
        session.kv_trim(0, 15)
        assert session.kv_read(0, 1, 0, 20)[0].tobytes() == k.tobytes()


def test_what_it_says_of_itself(wave: str, kernels: str) -> None:
    library = emulated(wave)
    said = library.describe()
    assert said.name == "greta-hip-emulated"
    assert said.numerics["prefill"].p_dtype == "act"
    assert said.numerics["decode"].p_dtype == "f32"
    assert ("gfx942" in said.device_kind) == (wave == "cdna")
    k = randn(np.random.default_rng(0), (8, 2, 16), "f32")
    with library.open(config()) as session:
        session.kv_write(0, batch([8], [8]), k, k)
        for phase in ("prefill", "decode", "decode"):
            session.attend(0, phase, batch([1], [8]), np.repeat(k[:1], 2, axis=1))  # type: ignore[arg-type]
        assert session.counters() == {
            ("prefill", said.kernels["prefill"]): 1,
            ("decode", said.kernels["decode"]): 2,
        }
    assert said.kernels["prefill"] == {"fast": "prefill_flash", "naive": "prefill_naive"}[kernels]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"prefill": {"tile": 32}}}, "schedule.prefill..tile is 32; these kernels have tiles of 64"),
        ({"schedule": {"prefill": {"splits": 2}}}, "schedule.prefill..splits is 2; the prefill kernel has 1"),
        ({"schedule": {"decode": {"direction": "reverse"}}}, "direction: schedule.decode..direction; only forward"),
        ({"schedule": {"decode": {"max_update": "none"}}}, "max_update: schedule.decode..max_update; only every_tile"),
        ({"schedule": {"decode": {"p_dtype": "bf16"}}}, "p_dtype: schedule.decode..p_dtype is bf16; here it is f32"),
    ],
)
def test_a_schedule_that_it_does_not_have_is_said(changes: Any, message: str) -> None:
    from pytest_greta.backends.base import Schedule

    schedule = {phase: Schedule(**asked) for phase, asked in changes["schedule"].items()}
    c: SessionConfig = config(max_len=100, schedule=schedule)
    with pytest.raises(Unsupported, match=message):
        emulated().open(c)
