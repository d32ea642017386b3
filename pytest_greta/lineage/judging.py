"""From what was paired of a prompt to its verdict. Pure. Without a reference, a difference is shown and not judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_greta.decide import inconclusive
from pytest_greta.lineage.pairing import Prompt
from pytest_greta.lineage.records import HASHED
from pytest_greta.verdict import (
    ALIGNED,
    ATTENTION_COMPUTATION_MISMATCH,
    KV_MISMATCH,
    PASS,
    REAL_MISMATCH,
    Breach,
    Evidence,
    Verdict,
)

_REMARKS = ("left_prefill",)
"""Said, and no reason to conclude nothing: the prefill before the decoded token has no counterpart by nature."""


def judge(found: Prompt, mode: str, problems: Sequence[Breach]) -> Verdict:
    """``found`` is finished. ``problems``: lines of its files that could not be read."""
    blockers = (*problems, *_blockers(found))
    evidence = Evidence(stages=len(found.stages), rows=found.rows, elements=found.elements, breaches=blockers)
    base = Verdict(PASS, ALIGNED, mode=mode, evidence=evidence)
    if found.failure is not None:
        mismatch = replace(base, status=KV_MISMATCH, scenario=REAL_MISMATCH, hypothesis="H1")
        return replace(mismatch, first_failure=found.failure[1])
    if found.difference is not None:
        _, failure, apart = found.difference
        if mode == "as_designed":
            failure = replace(failure, causes=("cause.as_designed",))
            return replace(base, status=KV_MISMATCH, scenario=ATTENTION_COMPUTATION_MISMATCH, first_failure=failure)
        where = {
            "stage": failure.stage,
            "layer": failure.layer,
            "position": failure.positions[0],
            "apart": f"{apart:.3g}",
        }
        return replace(inconclusive(base, (Breach("no_reference", where), *blockers)), first_failure=failure)
    return inconclusive(base, blockers) if blockers else base


def remarks(found: Prompt) -> list[Breach]:
    """What a report says beside the verdict."""
    said = [found.breaches[key] for key in _REMARKS if key in found.breaches]
    if found.unknown:
        names = ", ".join(list(found.unknown)[:8])
        said.append(Breach("unknown_points", {"count": sum(found.unknown.values()), "names": names}))
    if found.widest > HASHED and found.rows > found.printed:
        said.append(Breach("hash_scope", {"words": HASHED, "width": found.widest}))
    return said


def _blockers(found: Prompt) -> list[Breach]:
    said = [breach for key, breach in found.breaches.items() if key not in _REMARKS]
    for side, name in ((True, "prefill"), (False, "decode")):
        if not found.seen[side]:
            said.append(Breach("phase_missing", {"phase": name}))
    if not found.rows:
        return [*said, Breach("nothing_compared")]
    if not found.after_attention:
        said.append(Breach("no_attention"))
    if found.printed:
        said.append(Breach("printed_only", {"count": found.printed}))
    unvouched = found.narrow - found.logits
    if unvouched:
        said.append(Breach("hash_narrow", {"words": HASHED, "position": min(unvouched)}))
    if not found.other_call:
        said.append(Breach("same_run"))
    return said
