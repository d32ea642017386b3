"""What a plain YAML scalar means: the YAML 1.2 core schema, and nothing beyond it.

PyYAML resolves by YAML 1.1, where ``no`` is False, ``1e-3`` a string and ``12:30`` the number 750.
"""

from __future__ import annotations

import re

from pytest_greta.texts import text as say

Scalar = None | bool | int | float | str

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = frozenset((".nan", ".NaN", ".NAN"))

LONGEST_NUMBER = 64
"""Characters. Python refuses to convert thousands of digits, and nobody means them."""


def resolve(text: str) -> Scalar:
    """The value of a plain (unquoted, untagged) scalar. YAML 1.2.2, section 10.3.2, tag resolution table.

    Raises ``ValueError``, which holds a ``Text``, for a number of more than ``LONGEST_NUMBER`` characters.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for pattern, convert in ((_INT, int), (_OCTAL, _octal), (_HEX, _hexadecimal), (_FLOAT, float)):
        if pattern.fullmatch(text):
            if len(text) > LONGEST_NUMBER:
                raise ValueError(say("yaml.long_number", length=len(text), most=LONGEST_NUMBER))
            return convert(text)
    if sign := _INF.fullmatch(text):
        return float(f"{sign[1]}inf")
    return float("nan") if text in _NAN else text


def _octal(text: str) -> int:
    return int(text[2:], 8)


def _hexadecimal(text: str) -> int:
    return int(text[2:], 16)
