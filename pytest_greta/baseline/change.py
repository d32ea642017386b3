"""An update of a baseline, old against new: nothing widens silently. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_greta.baseline.entry import Entry
from pytest_greta.texts import Text, as_text, text

_FACTS = ("verdict", "library", "version", "device_kind", "model", "dtype", "kv_dtype", "schedule", "seeds", "machine")


def changes(path: str, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[Text]:
    """A line of counts, and below it every entry that is new, gone or another, with each figure that changed."""
    new = [name for name in after if name not in before]
    gone = [name for name in before if name not in after]
    other = [name for name in after if name in before and after[name] != before[name]]
    counts = {"entries": len(after), "new": len(new), "changed": len(other), "removed": len(gone)}
    lines = [text("baseline.written", path=path, **counts)]
    lines += [text("baseline.added", probe=name, verdict=after[name].verdict) for name in sorted(new)]
    lines += [text("baseline.removed", probe=name, verdict=before[name].verdict) for name in sorted(gone)]
    for name in sorted(other):
        lines += [as_text(f"  {name}"), *_changed(before[name], after[name])]
    return lines


def _changed(old: Entry, new: Entry) -> Iterator[Text]:
    for name in _FACTS:
        left, right = getattr(old, name), getattr(new, name)
        if left != right:
            yield as_text(f"    {name}: {_plain(left)} -> {_plain(right)}")
    for stage in dict.fromkeys((*old.rho, *new.rho)):
        left, right = old.rho.get(stage, 0.0), new.rho.get(stage, 0.0)
        if left != right:
            key = "baseline.wider" if right > left else "baseline.narrower"
            yield text(key, stage=stage, before=f"{left:.3g}", after=f"{right:.3g}")
    for stage in dict.fromkeys((*old.hashes, *new.hashes)):
        if old.hashes.get(stage) != new.hashes.get(stage):
            yield text("baseline.other_hashes", stage=stage)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {inner}" for name, inner in value.items()) or "?"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "?"
