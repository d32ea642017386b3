"""A kernel that reads, or computes, something else is named by what it did; noise is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_greta.backends.base import LayerConfig
from pytest_greta.checks.run import check_trace
from pytest_greta.report.notes import note_text
from tests.checks.tiny_trace import BEFORE, BESIDE, DIM, KV_HEADS, PAGE, STEPS, Break, N, Read, Tiny

CHUNKS = ((0, 5), (5, 4))
BLOCK = ((N, STEPS),)
TABLE = ((4, 9, 11), (7, 2, 5))
"""Of a companion of 7 rows and of the probed sequence of 11."""
SINKS = (0.5, -1.0, 2.0, 0.0)
ALIBI = (0.5, 0.25, 0.125, 0.0625)


def wrong(tiny: Tiny):
    return [c for c in check_trace(tiny.trace(), tiny.source, tiny.stages, {}) if c.rho > 1]


def cache(read: Read, layer: int | None = None):
    return read.tiny.caches[read.path if read.path != "aligned" else "full", read.layer if layer is None else layer]


def held(read: Read, name: str):
    return [read.tiny.held[name, read.layer, part] for part in "kv"]


def layer_0(read: Read) -> Read:
    return read.other(*cache(read, 0))


def layer_2(read: Read) -> Read:
    """Which has not written the row yet that is being decoded."""
    return read.other(*(x[: read.row] for x in read.tiny.caches["prefix" if read.row == N else "decode", 2]))


def length_of_the_other(read: Read) -> int:
    """It decodes along."""
    return BESIDE["seq0"] - (N + STEPS - 1 - read.row if read.path == "decode" else 0)


def sequence(read: Read) -> Read:
    return read.other(*(x[: length_of_the_other(read)] for x in held(read, "seq0")))


def sequence_and_its_length(read: Read) -> Read:
    return replace(sequence(read), stop=length_of_the_other(read))


def through(read: Read, table: tuple[int, ...]) -> Read:
    """The probed rows as ``table`` finds them in memory, where ``TABLE`` put all rows."""
    pages = np.zeros((2, 2 * sum(map(len, TABLE)), PAGE, KV_HEADS, DIM), np.float32)
    companion = [x[: length_of_the_other(read)] for x in held(read, "seq0")]
    for seq, rows in ((0, companion), (1, cache(read))):
        for part, values in enumerate(rows):
            for slot, value in enumerate(values):
                pages[part, TABLE[seq][slot // PAGE], slot % PAGE] = value.astype(np.float32)
    k, v = (pages[part][list(table)].reshape(-1, KV_HEADS, DIM) for part in (0, 1))
    return read.other(k, v)


def left_behind(read: Read) -> Read:
    rows = [x.copy() for x in cache(read)]
    for x, old in zip(rows, held(read, "before"), strict=True):
        x[BEFORE : BEFORE + len(old)] = old
    return read.other(*rows)


def unwritten(read: Read) -> Read:
    rows = [x.copy() for x in cache(read)]
    for x in rows:
        x[read.row] = 0
    return read.other(*rows)


def pads(read: Read) -> Read:
    rows = [np.concatenate([pad, x]) for pad, x in zip(held(read, "pad"), cache(read), strict=True)]
    return replace(read.other(*rows), stop=read.stop + BESIDE["pad"])


def scales(k: float | None = None, v: float | None = None):
    def reads(read: Read) -> Read:
        own = (np.float32(x[read.kv_head]) for x in (read.tiny.k_scale, read.tiny.v_scale))
        factors = [
            np.float32(1 if new is None else new) / old if new else 1 for new, old in zip((k, v), own, strict=True)
        ]
        return replace(read, k=read.k * np.float32(factors[0]), v=read.v * np.float32(factors[1]))

    return reads


def exchanged(read: Read) -> Read:
    k, v = (np.float32(x[read.kv_head]) for x in (read.tiny.k_scale, read.tiny.v_scale))
    return replace(read, k=read.k / k * v, v=read.v / v * k)


FP8 = {"kv": "fp8_e4m3fn", "k_scale": (0.19, 0.23), "v_scale": (0.11, 0.13)}
WINDOWS = {"windows": (0, 4, 6)}

CASES = {
    "values of another kv head": (
        {}, lambda r: replace(r, v=r.to(1 - r.kv_head).v), "kv_head", "values of kv head 1 in place of 0"
    ),
    "layer 0": ({}, layer_0, "layer", "the cache of layer 0"),
    "layer 2": ({}, layer_2, "layer", "the cache of layer 2"),
    "sequence": ({"beside": ("seq0",)}, sequence, "sequence", "the cache of sequence 0 of the batch"),
    "sequence, its length": ({"beside": ("seq0",)}, sequence_and_its_length, "sequence", "sequence 0 of the batch"),
    "no page table": (
        {"beside": ("seq0",), "pages": TABLE}, lambda r: through(r, (0, 1, 2)), "page", "without the page table"
    ),
    "page ids + 2": ({"beside": ("seq0",), "pages": TABLE}, lambda r: through(r, (9, 4, 7)), "page", "ids off by 2"),
    "page ids cut": ({"beside": ("seq0",), "pages": TABLE}, lambda r: through(r, (3, 2, 1)), "page", "cut to 2 bits"),
    "neighbour": ({"beside": ("seq0",), "pages": TABLE}, lambda r: through(r, (5, 7, 2)), "page", "the block before"),
    "one page": (
        {"beside": ("seq0",), "pages": TABLE}, lambda r: through(r, (7, 9, 5)), "page",
        "page 9 in place of 2 as block 1",
    ),
    "left behind": ({"beside": ("before",)}, left_behind, "previous_bytes", "the rows that an earlier request left"),
    "unwritten": ({}, unwritten, "previous_bytes", "its own row before it was written"),
    "window + 1": (WINDOWS, lambda r: replace(r, start=r.start - 1), "window", "window 5 in place of 4"),
    "window - 1": (WINDOWS, lambda r: replace(r, start=r.start + 1), "window", "window 3 in place of 4"),
    "no window": (WINDOWS, lambda r: replace(r, start=0), "window", "the window ignored"),
    "another layer's window": (WINDOWS, lambda r: replace(r, start=r.stop - 6), "window", "window 6 in place of 4"),
    "a window where none is": (
        {"windows": (4, 0, 0)}, lambda r: replace(r, start=r.stop - 4), "window", "a window of 4 where there is none"
    ),
    "no mask": (  # of two rows only the first sees one key more: a length could be off too
        {"decode": BLOCK}, lambda r: replace(r, stop=N + STEPS), "mask,kv_len",
        "no causal mask; fits with one key after",
    ),
    "corner": (
        {"decode": BLOCK}, lambda r: replace(r, stop=r.row - N + 1), "mask", "a causal mask aligned to the first key"
    ),
    "pads": ({"beside": ("pad",)}, pads, "mask", "the pad rows seen"),
    "moved window": (
        WINDOWS, lambda r: replace(r, start=r.start - 1, stop=r.stop - 1), "kv_len", "without the last key"
    ),
    "three keys too few": ({}, lambda r: replace(r, stop=r.stop - 3), "kv_len", "without the last 3 keys"),
    "three keys too many": ({}, lambda r: replace(r, stop=r.stop + 3), "kv_len", "with 3 keys that were never written"),
    "first key": ({}, lambda r: replace(r, start=1), "kv_len", "without the first key"),
    "k scale 1": (FP8, scales(k=1.0), "kv_scale", "k scale 1"),
    "v scale 1": (FP8, scales(v=1.0), "kv_scale", "v scale 1"),
    "both 1": (FP8, scales(1.0, 1.0), "kv_scale", "k and v scale 1"),
    "exchanged": (FP8, exchanged, "kv_scale", "k and v scales exchanged"),
    "no cap": (
        {"layer": LayerConfig(softcap=2.0)}, lambda r: replace(r, softcap=0.0), "score_mod", "without the soft cap"
    ),
    "no sink": ({"layer": LayerConfig(sinks=SINKS)}, lambda r: replace(r, sink=None), "score_mod", "without the sink"),
    "another sink": (
        {"layer": LayerConfig(sinks=SINKS)}, lambda r: replace(r, sink=SINKS[(r.head + 1) % 4]), "score_mod",
        "the sink of head",
    ),
    "no bias": ({"layer": LayerConfig(alibi=ALIBI)}, lambda r: replace(r, slope=0.0), "score_mod", "without ALiBi"),
}  # fmt: skip


@pytest.mark.parametrize("act", ["f32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_reading_is_named(name, act):
    settings, reads, cause, words = CASES[name]
    settings = {"kv": act, **settings}
    assert not wrong(Tiny(2, act, **settings))
    found = wrong(Tiny(2, act, broken=Break(reads=reads), **settings))
    assert {(c.path, c.layer) for c in found} == {("decode", 1)}
    for check in found:
        assert check.cause == cause, (check.stage, check.note)
        assert words in check.note
        assert all(part.startswith("encaja") for part in note_text(check.note, "es").split("; ")), check.note


@pytest.mark.parametrize("path", ["full", "aligned", "prefix"])
def test_a_wrong_reading_is_named_on_every_path(path):
    for name in ("layer 0", "sequence", "left behind" if path == "prefix" else "page ids + 2"):
        settings, reads, cause, words = CASES[name]
        found = wrong(Tiny(3, broken=Break(path, reads=reads), **settings))
        assert {(c.path, c.layer, c.cause) for c in found} == {(path, 1, cause)}
        assert all(words in c.note for c in found)


def test_a_prefill_without_a_mask():
    found = wrong(Tiny(1, broken=Break("full", reads=lambda r: replace(r, stop=N + STEPS))))
    assert {(c.path, c.cause) for c in found} == {("full", "mask")}


def test_the_corner_of_a_chunked_prefill():
    reads = lambda r: replace(r, stop=r.stop if r.row < 5 else r.row - 5 + 1)  # noqa: E731
    found = wrong(Tiny(1, prefix=CHUNKS, broken=Break("prefix", reads=reads)))
    assert {(c.path, c.cause) for c in found} == {("prefix", "mask")}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_given_no_cause(name, seed):
    """In a setting that has every alternative: whatever is searched, noise on what the kernel gave fits none."""
    settings = CASES[name][0]
    rng = np.random.default_rng(seed)

    def noise(path, key, values):
        if (path, key.layer) == ("decode", 1) and key.stage in ("lse", "attn_out"):
            return (values * (1 + 0.03 * rng.standard_normal(values.shape))).astype(values.dtype)
        return values

    found = wrong(Tiny(seed, spoil=noise, **settings))
    assert found
    assert {c.cause for c in found} == {""}


def test_what_fits_equally_well_is_said():
    """A first key that weighs nothing: the row has one key less, or another window; both are the same reading."""
    reads = lambda r: replace(r, stop=r.stop - 1, start=r.start)  # noqa: E731
    found = wrong(Tiny(2, broken=Break("decode", reads=reads), decode=BLOCK))
    assert {c.cause for c in found} == {"kv_len"}
    # a whole call over rows that nobody has written yet: another, later layer's, or its own before the write
    zeros = lambda r: replace(r, k=r.k * 0, v=r.v * 0)  # noqa: E731
    found = wrong(Tiny(2, broken=Break("full", reads=zeros)))
    assert {c.cause for c in found} == {"layer,previous_bytes"}
    assert all("layer 2" in c.note and "written" in c.note for c in found)
