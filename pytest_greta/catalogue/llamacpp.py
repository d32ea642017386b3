"""What is wrong with a model that llama.cpp runs, or with what is asked of it. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "llamacpp.extra": (
        "model {model!r} needs the package {package!r}, which is not installed",
        "el modelo {model!r} necesita el paquete {package!r}, que no está instalado",
    ),
    "llamacpp.release": (
        "{package} {found} is not a release whose llama.cpp is known here; known: {known}",
        "{package} {found} no es una versión cuyo llama.cpp se conozca aquí; conocida: {known}",
    ),
    "llamacpp.layout": (
        "{package} {found}: its llama.cpp does not lay out {field} as that release does",
        "{package} {found}: su llama.cpp no dispone {field} como lo hace esa versión",
    ),
    "llamacpp.load": (
        "{path}: llama.cpp cannot load this file: {error}",
        "{path}: llama.cpp no puede cargar este archivo: {error}",
    ),
    "llamacpp.context": (
        "llama.cpp makes no context: {error}",
        "llama.cpp no crea el contexto: {error}",
    ),
    "llamacpp.decode": (
        "llama_decode gave {status}: {error}",
        "llama_decode devolvió {status}: {error}",
    ),
    "llamacpp.abort": (
        "an assertion failed inside llama.cpp, which ends the process: {error}",
        "falló una aserción dentro de llama.cpp, que termina el proceso: {error}",
    ),
    "llamacpp.set_state": (
        "llama.cpp will not take the state back: {error}",
        "llama.cpp no acepta el estado de vuelta: {error}",
    ),
    "llamacpp.state": (
        "the state that llama.cpp saved is laid out in an unknown way: {what} at byte {at} of {size}",
        "el estado que guardó llama.cpp tiene una disposición desconocida: {what} en el byte {at} de {size}",
    ),
    "llamacpp.cells": (
        "the state that llama.cpp saved holds {found} rows; expected {expected}",
        "el estado que guardó llama.cpp contiene {found} filas; se esperaban {expected}",
    ),
    "llamacpp.between": (
        "model {model!r} is not one of llama.cpp: nothing can be done between its prefill and its decode",
        "el modelo {model!r} no es de llama.cpp: no se puede hacer nada entre su prefill y su decode",
    ),
    "llamacpp.arch": (
        "model {model!r}: architecture {arch!r} has {key}, whose nodes in llama.cpp's graph are not known here",
        "modelo {model!r}: la arquitectura {arch!r} tiene {key}, cuyos nodos en el grafo de llama.cpp no se conocen",
    ),
    "llamacpp.mend.arch": (
        "give a model of the llama family: Llama, Mistral, SmolLM2, Qwen2",
        "indique un modelo de la familia de Llama: Llama, Mistral, SmolLM2, Qwen2",
    ),
    "llamacpp.types": (
        "model {model!r}: weights of the types {found}, for whose products in llama.cpp there is no bound here",
        "modelo {model!r}: pesos de los tipos {found}, para cuyos productos en llama.cpp no hay cota aquí",
    ),
    "llamacpp.mend.types": (
        "convert it with --outtype f16 or f32: {names} can be judged",
        "conviértalo con --outtype f16 o f32: se pueden juzgar {names}",
    ),
    "llamacpp.backend": (
        "model {model!r} runs its own attention: its backend has the key attention, not {backend}",
        "el modelo {model!r} ejecuta su propia atención: su backend tiene la clave attention, no {backend}",
    ),
    "llamacpp.attention": (
        "attention {name!r} of llama.cpp cannot be judged; those that can: {names}",
        "la atención {name!r} de llama.cpp no se puede juzgar; las que sí: {names}",
    ),
    "llamacpp.flash_f32": (
        "llama.cpp's flash attention copies an f32 cache into f16 at every call; expected kv_dtype f16, or plain",
        "la atención flash de llama.cpp copia una caché f32 a f16 en cada llamada; se esperaba kv_dtype f16, o plain",
    ),
    "llamacpp.dtype": (
        "llama.cpp is probed with {key} {names}, not {said}",
        "llama.cpp se sondea con {key} {names}, no {said}",
    ),
}
