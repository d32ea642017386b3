"""What ``greta.Recorder`` says of what cannot be a trace. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "record.steps": (
        "steps is {steps}, expected 1 to one less than the {tokens} tokens: the prefix holds at least one",
        "steps es {steps}, se esperaba de 1 a uno menos que los {tokens} tokens: el prefijo tiene al menos uno",
    ),
    "record.token": (
        "token {token} is not in the model's vocabulary of {vocab}",
        "el token {token} no está en el vocabulario del modelo, de {vocab}",
    ),
    "record.numerics": (
        "numerics: unknown key {key!r}; expected prefill, decode or model",
        "numerics: clave desconocida {key!r}; se esperaba prefill, decode o model",
    ),
    "record.phase": (
        "unknown phase {phase!r}; expected one of {phases}",
        "fase desconocida {phase!r}; se esperaba una de {phases}",
    ),
    "record.stage": (
        "{where}: the model has no such stage; it has {stages}",
        "{where}: el modelo no tiene esa etapa; tiene {stages}",
    ),
    "record.shape": (
        "{where}: the array is {shape}, expected {rows} rows (one a position) of {row}",
        "{where}: el arreglo es {shape}, se esperaban {rows} filas (una por posición) de {row}",
    ),
    "record.row": (
        "{where}: row {row} is not of this run, expected {first} to {last}",
        "{where}: la fila {row} no es de esta corrida, se esperaba de {first} a {last}",
    ),
    "record.twice": (
        "{where}: row {row} was recorded twice in one run",
        "{where}: la fila {row} se registró dos veces en una corrida",
    ),
    "record.missing": (
        "run {run}: layer {layer} {stage} was not recorded ({taken} other stages were): without it nothing can be said "
        "of the attention",
        "corrida {run}: no se registró {stage} de la capa {layer} (sí otras {taken} etapas): sin ella no puede decirse "
        "nada de la atención",
    ),
    "record.types": (
        "values of several types were recorded as one: {types}; record what the next stage reads",
        "se registraron valores de varios tipos como uno solo: {types}; registre lo que lee la etapa siguiente",
    ),
    "record.line": (
        "{path}:{line}: {error}; expected phase, layer, stage, positions, dtype, shape and data (base64)",
        "{path}:{line}: {error}; se esperaban phase, layer, stage, positions, dtype, shape y data (base64)",
    ),
}
