"""What a library did wrong."""

from __future__ import annotations


class Finding(Exception):
    """Ends a case. ``kind`` stands in the catalogue as ``conform.KIND``; ``values`` are plain."""

    def __init__(self, kind: str, **values: object) -> None:
        super().__init__(kind)
        self.kind, self.values = kind, values
