"""The fixture ``greta``: probes inside ordinary tests, in the same summary and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import settings as settings_

if TYPE_CHECKING:
    from pytest_greta.api import Run, WatchedRun
    from pytest_greta.result import ProbeResult

UNSEEN: pytest.StashKey[Callable[[], str]] = pytest.StashKey()
"""Of a test with probes: what to say of the first verdict that is no PASS and that the test never asked for, or ""."""

REFUSED: pytest.StashKey[Callable[[ProbeResult], bool]] = pytest.StashKey()
"""Of a test with probes: whether ``assert_aligned`` has refused the probe of this result."""


class Greta:
    """The fixture's value."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._item: pytest.Item = request.node
        self._runs: list[WatchedRun] = []
        self._count = 0
        self._item.stash[UNSEEN] = self._unseen
        self._item.stash[REFUSED] = lambda result: any(run.refused and run.result is result for run in self._runs)

    def probe(
        self,
        model: Any,
        prompt: str | Sequence[int],
        *,
        mode: str = "kv_aligned",
        backend: Any = "cpu",
        dtype: str = "f32",
        **settings: Any,
    ) -> Run:
        """Run a probe and judge it. Its result joins the summary and the result files of the session.

        ``model``: what ``pytest_greta.load_model`` gives, or a name or path for it. ``prompt``: text, or token ids.
        ``settings``: further keys of a case file (``seed``, ``page_size``, ``gemm``, ...).

        Skips the test where the model, the library or a feature is not there, or fails it where ``--greta-require``
        names that.
        """
        from pytest_greta import running
        from pytest_greta.nodes import RESULTS, properties, skip_reason
        from pytest_greta.report.failure import failure_text

        item = self._item
        name = f"{item.name}.{self._count}" if self._count else item.name
        self._count += 1
        found = running.run_api(item, name, model, prompt, mode, backend=backend, dtype=dtype, **settings)
        item.stash.setdefault(RESULTS, []).append(found.result)
        item.user_properties += properties(found.result)
        if not isinstance(found, running.Unfinished):
            from pytest_greta.api import WatchedRun

            self._runs.append(WatchedRun(found.verdict, found.trace, found.result, found.lang))
            return self._runs[-1]
        lang = settings_.lang(item.config)
        if found.result.outcome == "not_run":
            pytest.skip(skip_reason(found.result, lang))
        pytest.fail("\n".join([failure_text(found.result, lang), found.trace]).rstrip(), pytrace=False)

    def _unseen(self) -> str:
        from pytest_greta.report.failure import failure_text
        from pytest_greta.texts import say

        lang = settings_.lang(self._item.config)
        for run in self._runs:
            if run.overlooked:
                return "\n".join([say(lang, "fixture.unseen"), failure_text(run.result, lang)])
        return ""


@pytest.fixture
def greta(request: pytest.FixtureRequest) -> Greta:
    """Probes inside ordinary tests: ``greta.probe("synthetic", "Hi").assert_aligned()``."""
    return Greta(request)
