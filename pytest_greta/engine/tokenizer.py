"""Byte-level BPE tokenizer from a GGUF's metadata, by the package ``tokenizers``; exact against llama.cpp.

The pre-tokenizer expressions are llama.cpp's (``src/llama-vocab.cpp``, ``llm_tokenizer_bpe``), by
``tokenizer.ggml.pre``. Special tokens in a prompt are parsed (``<|im_start|>`` is one token), as llama-cli and
llama-server do with prompts (``parse_special=true``); a chat template is not applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from pytest_greta.engine.store import ModelError, ModelMissing
from pytest_greta.texts import text as say

if TYPE_CHECKING:
    import tokenizers

_CONTROL, _USER_DEFINED = 3, 4
"""``tokenizer.ggml.token_type``. llama.cpp finds both whole in a text before it splits the rest."""

_PRE = ("smollm",)
"""Pre-tokenizers that have been compared with llama.cpp."""


def import_tokenizers() -> Any:
    """The package ``tokenizers``. Raises ``ModelMissing`` (extra)."""
    try:
        import tokenizers
    except ImportError:
        raise missing_extra("tokenizers") from None
    return tokenizers


def missing_extra(package: str) -> ModelMissing:
    return ModelMissing("extra", say("model.extra", package=package), "pip install 'pytest-greta[gguf]'")


class BpeTokenizer:
    """Implements ``spec.Tokenizer``. Built at first use: a run over token ids does not pay for it (0.1 s)."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """``facts``: what ``tokenizer_facts`` returned; plain JSON types."""
        self._facts = facts

    @cached_property
    def _bpe(self) -> tokenizers.Tokenizer:
        if kind := self._facts.get("unsupported"):
            known = ", ".join(f"gpt2/{name}" for name in _PRE)
            message = say("tokenizer.unsupported", path=self._facts["where"], tokenizer=kind, known=known)
            raise ModelError("tokenizer", message, say("mend.token_ids"))
        bpe: tokenizers.Tokenizer = import_tokenizers().Tokenizer.from_str(self._facts["json"])
        return bpe

    def encode(self, text: str) -> list[int]:
        """Token ids, with the begin-of-sequence token first only where the checkpoint asks for it. "" may give []."""
        ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        return [*self._facts["prefix"], *ids, *self._facts["suffix"]]

    def decode(self, ids: Sequence[int]) -> str:
        """The text, special tokens included; bytes that are no UTF-8 become U+FFFD, so that this may lose something."""
        text: str = self._bpe.decode(list(ids), skip_special_tokens=False)
        return text


def tokenizer_facts(where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What ``BpeTokenizer`` needs, from the ``tokenizer.ggml.*`` fields of a GGUF (keys without that prefix).

    An unsupported kind of tokenizer is not an error here: token ids can still be given. ``where`` names the file.
    """
    kind, pre = fields.get("model"), fields.get("pre", "default")
    if kind != "gpt2" or pre not in _PRE:
        return {"unsupported": f"{kind}/{pre}", "where": where}
    tokens, merges, types = fields.get("tokens"), fields.get("merges"), fields.get("token_type")
    if not (tokens and _texts(tokens) and _texts(merges) and isinstance(types, list) and len(types) == len(tokens)):
        raise ModelError("tokenizer", say("tokenizer.fields", path=where), say("mend.damaged"))
    return {
        "json": _build(where, pre, tokens, merges, types),
        "prefix": _marker(where, fields, "bos", len(tokens)),
        "suffix": _marker(where, fields, "eos", len(tokens)),
    }


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _marker(where: str, fields: Mapping[str, Any], name: str, vocab: int) -> list[int]:
    """[id] where the checkpoint puts that token around a text (``add_bos_token``, ``add_eos_token``), else []."""
    if not fields.get(f"add_{name}_token", False):
        return []
    token = fields.get(f"{name}_token_id")
    if not isinstance(token, int) or not 0 <= token < vocab:
        message = say("tokenizer.marker", path=where, name=name, token=token, last=vocab - 1)
        raise ModelError("tokenizer", message, say("mend.damaged"))
    return [token]


def _build(where: str, pre: str, tokens: Sequence[str], merges: Sequence[str], types: Sequence[int]) -> str:
    tk = import_tokenizers()
    from tokenizers import decoders, models, pre_tokenizers

    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    vocab = {token: i for i, token in enumerate(tokens)}
    try:
        bpe = tk.Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    except Exception as error:  # the package raises bare Exception for a merge outside the vocabulary
        raise ModelError("tokenizer", f"{where}: {error}", say("mend.damaged")) from None
    assert pre in _PRE
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(
        [tk.AddedToken(t, special=True) for t, k in zip(tokens, types, strict=True) if k == _CONTROL]
    )
    bpe.add_tokens(
        [tk.AddedToken(t, normalized=False) for t, k in zip(tokens, types, strict=True) if k == _USER_DEFINED and t]
    )
    text: str = bpe.to_str()
    return text
