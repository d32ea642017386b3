"""Which devices a process may see: the variables that the runtimes of AMD and NVIDIA read when they start."""

from __future__ import annotations

from collections.abc import Mapping

ROCR, HIP, CUDA = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"
VARIABLES = (ROCR, HIP, CUDA)
"""From the outermost: HIP counts among the devices that ROCR leaves. (HIP reads CUDA's variable, too.)"""

_INNERMOST = {"AMD": (HIP, CUDA, ROCR), "NVIDIA": (CUDA,)}
"""What each vendor's runtime reads, the variable that counts last first; the last of these is set where none is."""


def entries(value: str) -> tuple[str, ...]:
    """The devices of a mask, numbers or UUIDs. The runtimes stop at the first that is none (-1, nothing, a word)."""
    found = []
    for part in (part.strip() for part in value.split(",")):
        if not (part.isdecimal() or part.startswith(("GPU-", "MIG-"))):
            break
        found.append(part)
    return tuple(found)


def present(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Each variable's value, None where it is not set. An empty one hides every device."""
    return {name: environ.get(name) for name in VARIABLES}


def innermost(environ: Mapping[str, str], vendor: str) -> tuple[str, tuple[str, ...] | None]:
    """The one variable to narrow, and the devices that it leaves so far; None where no mask is set.

    A second variable beside it would count anew among the devices that the first leaves.
    """
    names = _INNERMOST[vendor]
    name = next((name for name in names if name in environ), names[-1])
    return name, entries(environ[name]) if name in environ else None
