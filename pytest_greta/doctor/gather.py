"""Looks at the machine: files, versions, programs. No GPU is initialised and no library loaded in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pytest_greta import environment, masks
from pytest_greta.doctor.facts import Answer, Driver, Facts, Library, Model, Program

COMPILERS = ("amdclang++", "clang++-19", "nvcc", "g++")
BESIDE_CLANG = ("clang-offload-bundler", "ld.lld")
"""What a clang calls, or is called with, to make code for AMD's devices; Debian's are packages of their own."""
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "gguf": ("gguf", "tokenizers"),
    "torch": ("torch",),
    "transformers": ("transformers",),
    "llamacpp": ("xllamacpp",),
}
"""What each extra of ``pyproject.toml`` brings of its own."""

_PATIENCE = 10.0
"""Seconds for a compiler to name its version."""

_VERSION = re.compile(r"\d+(?:\.\d+)+")
_GFX = re.compile(r"^gfx_target_version (\d+)$", re.M)
_SIMDS = re.compile(r"^simd_count (\d+)$", re.M)
_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.M)
_NVIDIA_VERSION = re.compile(r"^NVRM version:.*?(\d+(?:\.\d+)+)", re.M)

Ask = Callable[[Path], Answer]


def gather(
    ask: Ask, own: Sequence[Path] = (), root: Path = Path("/"), environ: Mapping[str, str] = os.environ
) -> Facts:
    """``ask`` is what asks a library, ``own`` are libraries of the user's, ``root`` is where the system's files are."""
    machine = environment.describe()
    rocm = Path(environ.get("ROCM_PATH") or root / "opt/rocm")
    return Facts(
        greta=machine["pytest-greta"],
        python=machine["python"],
        system=machine["system"],
        processor=machine["processor"],
        cores=machine["cores"],
        compilers=tuple(_compiler(name, rocm, root, environ) for name in (*COMPILERS, *BESIDE_CLANG)),
        libraries=libraries(ask, own),
        drivers=(amd_driver(root), nvidia_driver(root)),
        rocm=_read(rocm / ".info/version").strip(),
        masks=masks.present(environ),
        packages={extra: {name: _package(name) for name in names} for extra, names in EXTRAS.items()},
        cache=str(_cache()),
        models=_models(),
    )


# -- compilers and packages --------------------------------------------------------------------------------------------


def _compiler(name: str, rocm: Path, root: Path, environ: Mapping[str, str]) -> Program:
    """On PATH, or where ROCm and CUDA put theirs without telling PATH."""
    beside = {"amdclang++": [rocm / "llvm/bin", rocm / "bin"], "nvcc": [root / "usr/local/cuda/bin"]}
    names = [name]
    if name in BESIDE_CLANG:
        names.append(f"{name}-19")  # Debian's
        clangs = [_compiler(clang, rocm, root, environ).path for clang in ("amdclang++", "clang++-19")]
        beside[name] = [Path(path).resolve().parent for path in clangs if path]
    folders = os.pathsep.join([environ.get("PATH", os.defpath), *map(str, beside.get(name, ()))])
    path = next(filter(None, (shutil.which(each, path=folders) for each in names)), None)
    return Program(name) if path is None else Program(name, path, _version_of(path))


def _version_of(path: str) -> str:
    """The first number with dots, of the lines that say version or release where there are such."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return "?"
    lines = done.stdout.splitlines()
    named = [line for line in lines if re.search("version|release", line)] or lines
    found = [match for line in named for match in _VERSION.findall(line)]
    return found[0] if found else "?"


def _package(name: str) -> str | None:
    """By what the installer wrote: importing torch would take seconds and memory, and may look for GPUs."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# -- attention libraries -----------------------------------------------------------------------------------------------


def libraries(ask: Ask, own: Sequence[Path]) -> tuple[Library, ...]:
    """The built-in ones, then the user's; all are asked side by side, as each may have a driver to wait for."""
    from pytest_greta.backends.native import BUILT_IN as FILE
    from pytest_greta.backends.native import FAULTY_TWIN
    from pytest_greta.backends.registry import NATIVE

    folder = _native_folder()
    found: list[tuple[str, Path, Path | None]] = [
        (name, folder / FILE.format(ending), folder / FAULTY_TWIN.format(ending)) for name, ending in NATIVE.items()
    ]
    found += [(path.name, path.absolute(), None) for path in own]

    def look(name: str, path: Path, twin: Path | None) -> Library:
        built = twin is None or path.is_file()  # the user's is asked anyway: the answer says what is wrong with it
        return Library(name, str(path), twin is not None and twin.is_file(), ask(path) if built else None)

    with ThreadPoolExecutor(len(found)) as pool:
        return tuple(pool.map(lambda entry: look(*entry), found))


def built_in_file(name: str) -> Path | None:
    """Where the built-in library of that name is, or would be; None for another's."""
    from pytest_greta.backends.native import BUILT_IN as FILE
    from pytest_greta.backends.registry import NATIVE

    return _native_folder() / FILE.format(NATIVE[name]) if name in NATIVE else None


def _native_folder() -> Path:
    """Where the built-in libraries are, or would be."""
    spec = importlib.util.find_spec("_greta_native")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0] if places else "_greta_native")


# -- drivers -----------------------------------------------------------------------------------------------------------


def amd_driver(root: Path) -> Driver:
    """amdgpu: /dev/kfd is what a compute process opens, the topology beside it lists the GPUs."""
    device = root / "dev/kfd"
    cards = []
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*"), key=lambda node: node.name.zfill(8)):
        properties = _read(node / "properties")  # a container may not read those of another's GPU
        gfx, simds = _GFX.search(properties), _SIMDS.search(properties)
        if gfx and simds and int(simds[1]) > 0:  # a node without is a processor
            cards.append(gfx_name(int(gfx[1])))
    loaded = device.exists() or (root / "sys/module/amdgpu").exists()
    usable = os.access(device, os.R_OK | os.W_OK)
    return Driver("AMD", loaded, usable, _read(root / "sys/module/amdgpu/version").strip(), tuple(cards))


def gfx_name(version: int) -> str:
    """90402 is gfx942: two decimal digits each for minor and stepping, which the name spells in hex."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def nvidia_driver(root: Path) -> Driver:
    told = _read(root / "proc/driver/nvidia/version")
    found = _NVIDIA_VERSION.search(told)
    cards = []
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        model = _MODEL.search(_read(file))
        cards.append(model[1] if model else "?")
    usable = os.access(root / "dev/nvidiactl", os.R_OK | os.W_OK)
    return Driver("NVIDIA", bool(told), usable, found[1] if found else "", tuple(cards))


def _read(path: Path) -> str:
    """A small file of the system's; "" where there is none, or none for this user."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


# -- models ------------------------------------------------------------------------------------------------------------


def _cache() -> Path:
    from pytest_greta.engine.store import cache_dir

    return cache_dir()


def _models() -> tuple[Model, ...]:
    from pytest_greta.engine.pull import is_pulled
    from pytest_greta.engine.store import known_models, model_path

    found = []
    for model in known_models().values():
        state = "absent" if not model_path(model).is_file() else "ready" if is_pulled(model) else "wrong"
        found.append(Model(model.name, state))
    return tuple(found)
