"""Who signs a report: the name that git has, else the login name and why it is not git's."""

from __future__ import annotations

import getpass
import subprocess

from pytest_greta.report.messages import Lang, say

_SECONDS = 10


def default_author(lang: Lang) -> str:
    """ "" where the system knows no name either."""
    try:
        asked = ["git", "config", "--get", "user.name"]
        name = subprocess.run(asked, capture_output=True, timeout=_SECONDS, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return _login("author.no_git", lang)
    return name.decode("utf-8", "replace").strip() or _login("author.unset", lang)


def _login(key: str, lang: Lang) -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        name = "-"
    return say(key, lang, name=name)
