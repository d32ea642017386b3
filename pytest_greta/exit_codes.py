"""What ``greta analyze``, ``report``, ``compare`` and ``remote`` end with, and by which rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_greta.verdict import INCONCLUSIVE as NO_VERDICT

if TYPE_CHECKING:
    from pytest_greta.result import ProbeResult

PASSED, MISMATCH, USAGE, INCONCLUSIVE = 0, 1, 2, 3


def weigh(*, mismatch: bool, unclear: bool) -> int:
    """A mismatch outweighs what is inconclusive, and that what passed."""
    if mismatch:
        return MISMATCH
    return INCONCLUSIVE if unclear else PASSED


def of_results(results: Iterable[ProbeResult], *, incomplete: bool) -> int:
    """Of probes that had their expectations. ``incomplete``: something that should be there is not among them."""
    failed = [result for result in results if result.outcome == "failed"]
    mismatch = any(result.verdict is not None and result.verdict.status != NO_VERDICT for result in failed)
    return weigh(mismatch=mismatch, unclear=bool(failed) or incomplete)
