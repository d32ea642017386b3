"""Which rows, heads, channels and layers are wrong, where that says something about the cause. Pure.

A pattern is a key of the report's catalogues (``pattern.KEY``) with its values. It is named only where there was
something to tell apart: of one checked row, "all rows are wrong" would say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from pytest_greta.checks.result import Pattern, StageCheck
from pytest_greta.trace.paths import phase_of

LEAST = 2
"""Boundaries that must be wrong before it is said that every one is."""


def rows(wrong: Iterable[int], checked: Iterable[int], sizes: Mapping[str, int]) -> Iterator[Pattern]:
    """``wrong`` of the ``checked`` rows. ``sizes``: of a ``tile`` and of a ``page``, 0 where there is none."""
    bad, all_ = sorted(set(wrong)), sorted(set(checked))
    if not bad or len(all_) < 2:
        return
    first = bad[0]
    if bad == all_:
        yield Pattern("rows_all")
    elif len(bad) == 1 and (first < all_[-1] or len(all_) > 2):
        yield Pattern("row_first" if first == 0 else "row_last" if first == all_[-1] else "row_one", {"row": first})
    elif bad == [row for row in all_ if row >= first]:
        yield from _rows_from(first, all_, sizes)
    else:
        yield from _at_boundaries(bad, all_, sizes)


def _rows_from(first: int, checked: Sequence[int], sizes: Mapping[str, int]) -> Iterator[Pattern]:
    if first == checked[1] and checked[0] == 0:
        yield Pattern("rows_but_first")
        return
    right = max(row for row in checked if row < first)
    for name, size in sizes.items():
        if size > 1 and first % size == 0:
            yield Pattern(f"rows_from_{name}", {"first": first, "size": size})
            return
    yield Pattern("rows_from", {"first": first, "right": right})


def _at_boundaries(wrong: Sequence[int], checked: Sequence[int], sizes: Mapping[str, int]) -> Iterator[Pattern]:
    for name, size in sizes.items():
        for side, at in (("first", 0), ("last", size - 1)):
            edges = [row for row in checked if size > 1 and row % size == at and row >= size - 1]
            if len(edges) >= LEAST and list(wrong) == edges:
                yield Pattern(f"rows_{name}_{side}", {"size": size})
                return


def heads(wrong: Iterable[int], count: int, group: int) -> Iterator[Pattern]:
    """``wrong`` of ``count`` heads, ``group`` of which share a kv head (1: these are kv heads)."""
    bad = sorted(set(wrong))
    if not bad or count < 2:
        return
    groups, places = {h // group for h in bad}, {h % group for h in bad}
    if len(bad) == count:
        yield Pattern("heads_all")
    elif len(bad) == 1:
        yield Pattern("head_one", {"head": bad[0]})
    elif len(bad) == group and len(groups) == 1:
        yield Pattern("heads_group", {"first": bad[0], "last": bad[-1], "kv_head": bad[0] // group})
    elif len(places) == 1 and len(groups) == count // group:
        yield Pattern("heads_each_group", {"place": bad[0] % group})


def channels(wrong: Iterable[int], count: int) -> Iterator[Pattern]:
    """``wrong`` of the ``count`` elements of a row (of a head's row, where there are heads)."""
    bad = sorted(set(wrong))
    if not bad or len(bad) == count:
        return
    if len(bad) == 1:
        yield Pattern("channel_one", {"channel": bad[0]})
    elif bad == list(range(bad[0], bad[-1] + 1)):
        yield Pattern("channels_range", {"first": bad[0], "last": bad[-1]})


def layers(wrong: Iterable[int], judged: Iterable[int]) -> Iterator[Pattern]:
    """``wrong`` of the layers in which the same stage was ``judged``; teacher forcing hears each on its own account."""
    bad, all_ = sorted(set(wrong)), sorted(set(judged))
    if not bad or len(all_) < 2:
        return
    steps = {b - a for a, b in pairwise(bad)}
    if bad == all_:
        yield Pattern("layers_all")
    elif len(bad) == 1:
        yield Pattern("layer_one", {"layer": bad[0]})
    elif bad == [layer for layer in all_ if layer >= bad[0]]:
        yield Pattern("layers_from", {"first": bad[0]})
    elif len(steps) == 1 and bad == [layer for layer in all_ if layer % min(steps) == bad[0] % min(steps)]:
        yield Pattern("layers_every", {"step": min(steps), "first": bad[0]})


def phases(wrong: Iterable[str], judged: Iterable[str]) -> Iterator[Pattern]:
    """``wrong`` of the phases in which the stage was ``judged``."""
    bad = set(wrong)
    if len(bad) == 1 and len(set(judged)) == 2:
        yield Pattern(f"{bad.pop()}_only")


def of_stage(
    same: Sequence[StageCheck], wrong: Iterable[StageCheck], checks: Iterable[StageCheck]
) -> tuple[Pattern, ...]:
    """The pattern of one layer's stage. ``same``: its wrong checks, a path each; ``wrong`` and ``checks``: all wrong
    ones and all, of which those of the same stage in other layers and phases count.

    Rows are those of the path with most of them; heads and channels must be wrong alike on every path.
    """
    stage, widest = same[0].stage, max(same, key=lambda c: c.rows)
    judged = [c for c in checks if c.stage == stage and c.path != "aligned"]
    bad = [c for c in wrong if c.stage == stage]
    alike = [p for p in widest.pattern if all(p in c.pattern for c in same)]
    here = [c for c in judged if c.layer == same[0].layer]
    return (
        *(p for p in widest.pattern if p.key.startswith("row")),
        *(p for p in alike if not p.key.startswith("row")),
        *layers((c.layer for c in bad), (c.layer for c in judged)),
        *phases((phase_of(c.path) for c in same), (phase_of(c.path) for c in here)),
    )
