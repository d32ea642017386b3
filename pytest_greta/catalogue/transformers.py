"""What is wrong with a model of transformers, or with what is asked of it. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "hf.extra": (
        "model {model!r} needs the package {package!r}, which is not installed",
        "el modelo {model!r} necesita el paquete {package!r}, que no está instalado",
    ),
    "hf.no_folder": (
        "no folder {name!r}, nor a model of that name in the local cache of huggingface_hub; nothing is downloaded",
        "no hay una carpeta {name!r}, ni un modelo de ese nombre en la caché local de huggingface_hub; "
        "no se descarga nada",
    ),
    "hf.mend.folder": (
        "give the folder that save_pretrained wrote",
        "indique la carpeta que escribió save_pretrained",
    ),
    "hf.config": (
        "{path}: transformers cannot read its config.json: {error}",
        "{path}: transformers no puede leer su config.json: {error}",
    ),
    "hf.gguf": (
        "{path}: transformers cannot read this GGUF: {error}",
        "{path}: transformers no puede leer este GGUF: {error}",
    ),
    "hf.mend.saved": (
        "expected a folder as save_pretrained writes it",
        "se esperaba una carpeta como la escribe save_pretrained",
    ),
    "hf.no_weights": ("{path}: no *.safetensors in it", "{path}: no contiene ningún *.safetensors"),
    "hf.mend.safetensors": (
        "save it again with save_pretrained, which writes safetensors",
        "guárdelo de nuevo con save_pretrained, que escribe safetensors",
    ),
    "hf.no_tensor": (
        "the checkpoint has no tensor {name!r}, the weight of {stage}",
        "el checkpoint no tiene el tensor {name!r}, el peso de {stage}",
    ),
    "hf.arch": (
        "model {model!r}: architecture {arch!r} is not one whose stages are known",
        "modelo {model!r}: {arch!r} no es una arquitectura cuyas etapas se conozcan",
    ),
    "hf.parameter": (
        "model {model!r}: {key} is {value!r}, for which there is no reference",
        "modelo {model!r}: {key} es {value!r}, para lo que no hay referencia",
    ),
    "hf.not_a_model": (
        "{kind} is not a model of transformers: it has no config",
        "{kind} no es un modelo de transformers: no tiene config",
    ),
    "hf.no_head": (
        "{kind} has no output matrix (lm_head), so that there are no logits",
        "{kind} no tiene matriz de salida (lm_head), así que no hay logits",
    ),
    "hf.mend.causal": (
        "give a causal language model, as AutoModelForCausalLM loads it",
        "indique un modelo de lenguaje causal, como lo carga AutoModelForCausalLM",
    ),
    "hf.training": (
        "{kind} is in training mode, in which dropout is random",
        "{kind} está en modo de entrenamiento, en el que el dropout es aleatorio",
    ),
    "hf.mend.eval": ("call model.eval() first", "llame antes a model.eval()"),
    "hf.device": ("{kind} is on {devices}; expected cpu", "{kind} está en {devices}; se esperaba cpu"),
    "hf.mend.cpu": ("call model.to('cpu') first", "llame antes a model.to('cpu')"),
    "hf.types": (
        "{kind} has parameters of the types {types}; expected one of float32, bfloat16, float16 in all",
        "{kind} tiene parámetros de los tipos {types}; se esperaba float32, bfloat16 o float16 en todos",
    ),
    "hf.mend.one_type": (
        "load it again with dtype=torch.float32, torch.bfloat16 or torch.float16",
        "cárguelo de nuevo con dtype=torch.float32, torch.bfloat16 o torch.float16",
    ),
    "hf.other_type": (
        "model {model!r} is loaded in {types}, not in {dtype}",
        "el modelo {model!r} está cargado en {types}, no en {dtype}",
    ),
    "hf.backend": (
        "model {model!r} runs its own attention: its backend has the keys attention and cache, not {backend}",
        "el modelo {model!r} ejecuta su propia atención: su backend tiene las claves attention y cache, no {backend}",
    ),
    "hf.attention": (
        "attention {name!r} of transformers cannot be traced; those that can: {names}",
        "la atención {name!r} de transformers no se puede trazar; las que sí: {names}",
    ),
    "hf.softcap": (
        "model {model!r} caps its scores, which sdpa cannot; use eager",
        "el modelo {model!r} acota sus puntajes, y sdpa no sabe hacerlo; use eager",
    ),
    "hf.cache_name": (
        "cache {name!r} cannot be traced; those that can: {names}",
        "la caché {name!r} no se puede trazar; las que sí: {names}",
    ),
    "hf.cache": (
        "the rows of a {kind} cannot be read back as they were written",
        "las filas de un {kind} no se pueden releer como se escribieron",
    ),
    "hf.cache_package": (
        "cache {name!r} needs the package {package!r}, which is not installed",
        "la caché {name!r} necesita el paquete {package!r}, que no está instalado",
    ),
    "hf.cache_refuses": (
        "transformers makes no cache {name!r} for this model: {error}",
        "transformers no crea una caché {name!r} para este modelo: {error}",
    ),
    "hf.cache_chunk": (
        "cache {name!r} hands a later chunk the rows of earlier ones rounded; probe it with the prompt in one piece",
        "la caché {name!r} entrega redondeadas a un fragmento posterior las filas de los anteriores; sondéela con el "
        "prompt entero",
    ),
    "hf.cache_axis": (
        "cache {name!r}: axis_key {key} and axis_value {value}; its groups are known for axis 0 alone",
        "caché {name!r}: axis_key {key} y axis_value {value}; solo se conocen sus grupos para el eje 0",
    ),
    "hf.cache_groups": (
        "cache {name!r}: groups of {group} elements do not fill rows of {row}; give another q_group_size",
        "caché {name!r}: los grupos de {group} elementos no llenan filas de {row}; indique otro q_group_size",
    ),
    "hf.cache_anew": (
        "cache {name!r} rounds all rows anew once {rows} more were kept aside, and {later} are decoded; decode fewer",
        "la caché {name!r} vuelve a redondear todas las filas cuando apartó {rows} más, y se decodifican {later}; "
        "decodifique menos",
    ),
    "hf.attention_needs": (
        "attention {name!r} needs {needs} and is not traced by this version; those that are: {names}",
        "la atención {name!r} necesita {needs} y esta versión no la traza; las que sí: {names}",
    ),
    "hf.not_compiled": (
        "torch cannot compile {name} here: {error}",
        "torch no puede compilar {name} aquí: {error}",
    ),
    "hf.compiler": (
        "attention {name!r} is compiled by {compiler!r}, which is not here",
        "la atención {name!r} se compila con {compiler!r}, que no está aquí",
    ),
    "hf.no_cache": (
        "model {model!r} is not one of transformers: it takes no cache",
        "el modelo {model!r} no es de transformers: no acepta una caché",
    ),
    "hf.feature": (
        "{feature} cannot be asked of {model!r}, which runs its own forward pass",
        "{feature} no se le puede pedir a {model!r}, que ejecuta su propia pasada hacia adelante",
    ),
    "hf.inject": (
        "fault {fault}, as it is asked for, cannot be planted in {model!r}, which runs its own forward pass; "
        "whole layers of these can: {names} (gain: stage kv_write, magnitude 1)",
        "el fallo {fault}, tal como se lo pide, no se puede plantar en {model!r}, que ejecuta su propia pasada hacia "
        "adelante; en capas enteras se pueden: {names} (gain: etapa kv_write, magnitud 1)",
    ),
    "hf.no_tokenizer": ("the model comes without a tokenizer", "el modelo viene sin tokenizador"),
    "probe.own_attention": (
        "model {model!r} runs its own attention; a library cannot stand in for it",
        "el modelo {model!r} ejecuta su propia atención; una biblioteca no puede reemplazarla",
    ),
}
