"""What is wrong with an attention library. What the library itself says stays as it is. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # by name
    "backend.unknown": (
        "unknown backend {name!r}; {near}known: {names}, or {{library: PATH}}",
        "backend desconocido {name!r}; {near}conocidos: {names}, o {{library: PATH}}",
    ),
    "backend.ambiguous": (
        "backend {name!r}: several installed packages have this name: {entries}; uninstall all but one",
        "backend {name!r}: varios paquetes instalados tienen este nombre: {entries}; desinstale todos menos uno",
    ),
    "backend.no_entry": (
        "backend {name!r}: entry point {entry} leads nowhere ({error}); expected MODULE:FUNCTION",
        "backend {name!r}: el entry point {entry} no lleva a nada ({error}); se esperaba MÓDULO:FUNCIÓN",
    ),
    "backend.no_factory": (
        "backend {name!r}: entry point {entry} is of type {kind}; expected a function without arguments",
        "backend {name!r}: el entry point {entry} es de tipo {kind}; se esperaba una función sin argumentos",
    ),
    "backend.raised": (
        "backend {name!r}: its function raised {error} ({place})",
        "backend {name!r}: su función lanzó {error} ({place})",
    ),
    "backend.near": ("did you mean {name!r}? ", "¿quiso decir {name!r}? "),
    "backend.no_twin": (
        "faults inside the kernel need a library with a faulty twin; use backend: cpu",
        "los fallos dentro del kernel necesitan una biblioteca con gemela defectuosa; use backend: cpu",
    ),
    "backend.no_twin_of": (
        "backend {name!r} has no faulty twin; use backend: cpu",
        "el backend {name!r} no tiene gemela defectuosa; use backend: cpu",
    ),
    "backend.library_no_twin": (
        "library {library} has no faulty twin",
        "la biblioteca {library} no tiene gemela defectuosa",
    ),
    "backend.import_mend": ("install what {entry} needs", "instale lo que {entry} necesita"),
    # what a case needs and a library lacks
    "backend.declares": (
        "library {library} declares {name} {names}",
        "la biblioteca {library} declara {name} {names}",
    ),
    "backend.declares_mend": (
        "give {name} one of: {names}; or implement {wanted} and declare it in {where}",
        "dé a {name} uno de: {names}; o implemente {wanted} y declárelo en {where}",
    ),
    "backend.no_feature": (
        "library {library} does not declare {feature}",
        "la biblioteca {library} no declara {feature}",
    ),
    "backend.no_pages": ("library {library} has no paged cache", "la biblioteca {library} no tiene caché paginada"),
    "backend.no_schedule": (
        "the schedule of library {library} cannot be set",
        "el schedule de la biblioteca {library} no se puede fijar",
    ),
    "backend.keeps_cache": (
        "library {library} keeps its cache but has no {function}",
        "la biblioteca {library} mantiene su propia caché pero no tiene {function}",
    ),
    "backend.no_kv_load": (
        "the two phases are different libraries and the second has no greta_kv_load",
        "las dos fases son de bibliotecas distintas y la segunda no tiene greta_kv_load",
    ),
    "backend.attend_pair": (
        "attend of backend {name} returned {got}; expected the pair (out, lse)",
        "attend del backend {name} devolvió {got}; se esperaba el par (out, lse)",
    ),
    "backend.attend_array": (
        "attend of backend {name} returned {array} as {got}; expected {expected}",
        "attend del backend {name} devolvió {array} como {got}; se esperaba {expected}",
    ),
    # a function in Python
    "function.no_signature": (
        "attention function {name} does not tell its parameters; wrap it in a def attend(q, k, v, *, scale, mask)",
        "la función de atención {name} no dice sus parámetros; envuélvala en un def attend(q, k, v, *, scale, mask)",
    ),
    "function.three": (
        "attention function {name}{signature} does not take q, k and v; expected def attend(q, k, v, ...)",
        "la función de atención {name}{signature} no toma q, k y v; se esperaba def attend(q, k, v, ...)",
    ),
    "function.parameter": (
        "attention function {name} has a parameter {parameter!r} that nothing is known of; known: {known}. "
        "Rename it or give it a default",
        "la función de atención {name} tiene un parámetro {parameter!r} desconocido; conocidos: {known}. "
        "Cámbiele el nombre o dele un valor por defecto",
    ),
    "function.kv_dtype": (
        "attention function {name} takes a cache in the activation's type, here {dtype}",
        "la función de atención {name} toma una caché en el tipo de las activaciones, aquí {dtype}",
    ),
    "function.declares": (
        "attention function {library} declares {name} {names}",
        "la función de atención {library} declara {name} {names}",
    ),
    "function.unserved": (
        "attention function {name} has no parameter {parameters}",
        "la función de atención {name} no tiene un parámetro {parameters}",
    ),
    "function.raised": (
        "attention function {name} raised in {phase}, layer {layer}: {error} ({place})",
        "la función de atención {name} lanzó una excepción en {phase}, capa {layer}: {error} ({place})",
    ),
    "function.no_lse": (
        "attention function {name} returned {got} in {phase}, layer {layer}; expected the pair (out, lse), "
        "or say lse=False where it has none",
        "la función de atención {name} devolvió {got} en {phase}, capa {layer}; se esperaba el par (out, lse), "
        "o indique lse=False si no lo tiene",
    ),
    "function.has_lse": (
        "attention function {name} returned {got} in {phase}, layer {layer}; expected out alone, because of lse=False",
        "la función de atención {name} devolvió {got} en {phase}, capa {layer}; se esperaba out solo, por lse=False",
    ),
    "function.array": (
        "attention function {name} returned {array} as {got} in {phase}, layer {layer}; expected a {kind}, {expected}",
        "la función de atención {name} devolvió {array} como {got} en {phase}, capa {layer}; "
        "se esperaba un {kind}, {expected}",
    ),
    "function.numpy_array": ("NumPy array", "arreglo de NumPy"),
    "function.view": (
        "attention function {name} returned {array} as a view of its argument {argument} in {phase}, layer {layer}; "
        "expected memory of its own",
        "la función de atención {name} devolvió {array} como una vista de su argumento {argument} en {phase}, "
        "capa {layer}; se esperaba memoria propia",
    ),
    # torch
    "torch.extra": (
        "PyTorch is not installed ({error})",
        "PyTorch no está instalado ({error})",
    ),
    "torch.tensor": ("torch tensor on {device}", "tensor de torch en {device}"),
    "torch.device": ("{device!r} is not a device of torch", "{device!r} no es un dispositivo de torch"),
    "torch.build": (
        "torch {version} is built for {build}, not for {device}",
        "torch {version} está compilado para {build}, no para {device}",
    ),
    "torch.build_mend": (
        "install a build of torch for {device}: pytorch.org/get-started",
        "instale una versión de torch para {device}: pytorch.org/get-started",
    ),
    "torch.no_gpu": ("torch {version} finds no device for {device}", "torch {version} no encuentra un {device}"),
    "torch.square": (
        "torch's {kernel} kernel is called with one query, or with as many queries as rows",
        "al kernel {kernel} de torch se lo llama con una consulta, o con tantas consultas como filas",
    ),
    # a shared library
    "native.not_installed": (
        "the native library of pytest-greta is not installed",
        "la biblioteca nativa de pytest-greta no está instalada",
    ),
    "native.install": (
        "install it with `pip install .` in the checkout, or `pip install pytest-greta`",
        "instálela con `pip install .` en el repositorio, o con `pip install pytest-greta`",
    ),
    "native.build": (
        "build it: `pip install . -C cmake.define.{option}=ON` in the checkout",
        "compílela: `pip install . -C cmake.define.{option}=ON` en el repositorio",
    ),
    "native.absent": ("{path} does not exist", "{path} no existe"),
    "native.no_library": ("attention library {path} does not exist", "la biblioteca de atención {path} no existe"),
    "native.folder": ("attention library {path} is a folder", "la biblioteca de atención {path} es una carpeta"),
    "native.give_path": (
        "give the path of a shared library (.so)",
        "indique la ruta de una biblioteca compartida (.so)",
    ),
    "native.twin": (
        "{path} is a faulty twin, which only `inject:` may load",
        "{path} es una gemela defectuosa, que solo `inject:` puede cargar",
    ),
    "native.twin_mend": ("name the library itself", "nombre la biblioteca misma"),
    "native.not_loaded": ("{path} cannot be loaded: {error}", "no se puede cargar {path}: {error}"),
    "native.not_loaded_mend": (
        "give a shared library built for this machine",
        "indique una biblioteca compartida compilada para esta máquina",
    ),
    "native.lacks": ("{path} lacks {names}", "a {path} le falta {names}"),
    "native.lacks_mend": (
        "export what greta_attn.h marks as required, as extern C",
        "exporte lo que greta_attn.h marca como obligatorio, como extern C",
    ),
    "native.abi": (
        "{path} speaks version {theirs} of the ABI, this pytest-greta version {ours}",
        "{path} habla la versión {theirs} de la ABI, este pytest-greta la versión {ours}",
    ),
    "native.abi_mend": (
        "rebuild it with the greta_attn.h of this pytest-greta",
        "recompílela con el greta_attn.h de este pytest-greta",
    ),
    "native.no_session": (
        "greta_open of {path} says GRETA_OK and gives no session",
        "greta_open de {path} dice GRETA_OK y no da una sesión",
    ),
    "native.not_a_twin": (
        "{path} is no faulty twin: it has no greta_fault_set",
        "{path} no es una gemela defectuosa: no tiene greta_fault_set",
    ),
    "native.forked": (
        "{name} of {path} forked: a library must not, its copy would run on as a second pytest (the copy was ended)",
        "{name} de {path} hizo fork: una biblioteca no debe, su copia seguiría como un segundo pytest (se terminó la "
        "copia)",
    ),
    "native.scribbled": (
        "{name} of {path} wrote into {argument}, which is an input; nothing of this run can be believed",
        "{name} de {path} escribió en {argument}, que es una entrada; nada de esta corrida es creíble",
    ),
    "native.beyond": (
        "{name} of {path} wrote beyond {output}, into memory that is not its own; greta backend check shows how far",
        "{name} de {path} escribió fuera de {output}, en memoria ajena; greta backend check muestra hasta dónde",
    ),
    "native.no_why": (
        "{path} returned GRETA_UNSUPPORTED and gives no reason",
        "{path} devolvió GRETA_UNSUPPORTED y no da un motivo",
    ),
    "native.no_why_mend": (
        "export greta_last_error, which says what is missing",
        "exporte greta_last_error, que dice lo que falta",
    ),
    "native.undeclared": (
        "{path} returned GRETA_UNSUPPORTED from greta_open and gives no reason; the case asks for {asked}, which its "
        "features ({features}) do not declare",
        "{path} devolvió GRETA_UNSUPPORTED en greta_open y no da un motivo; el caso pide {asked}, que sus features "
        "({features}) no declaran",
    ),
    "native.undeclared_mend": (
        "use another model, or implement {asked} and declare it",
        "use otro modelo, o implemente {asked} y declárelo",
    ),
    "native.no_reason": ("the library gives no reason", "la biblioteca no da un motivo"),
    "native.no_device_mend": (
        "greta doctor shows devices, drivers and masks",
        "greta doctor muestra dispositivos, drivers y máscaras",
    ),
    "native.no_device_memory": (
        "{path} does not declare device memory",
        "{path} no declara memoria de dispositivo",
    ),
    "native.no_torch": (
        "arrays in device memory need PyTorch, which is not installed",
        "los arreglos en memoria de dispositivo necesitan PyTorch, que no está instalado",
    ),
    "native.torch_blind": (
        "PyTorch sees no device {device}, in whose memory the library wants its arrays",
        "PyTorch no ve el dispositivo {device}, en cuya memoria la biblioteca quiere sus arreglos",
    ),
    "native.torch_blind_mend": (
        "install a PyTorch built for this GPU; greta doctor shows devices, drivers and masks",
        "instale un PyTorch compilado para esta GPU; greta doctor muestra dispositivos, drivers y máscaras",
    ),
    "native.closed": ("{name}: the session is closed", "{name}: la sesión está cerrada"),
    "native.not_exported": (
        "{name}: {path} does not export greta_{name}",
        "{name}: {path} no exporta greta_{name}",
    ),
    "native.counters": (
        "greta_counters says that {count} kernels ran; expected 0 to {most}, and the same at a second call",
        "greta_counters dice que se ejecutaron {count} kernels; se esperaban de 0 a {most}, y lo mismo en otra llamada",
    ),
    "native.counter_phase": (
        "greta_counters names phase {phase}, expected 0 or 1",
        "greta_counters nombra la fase {phase}, se esperaba 0 o 1",
    ),
    # greta_describe
    "describe.null": (
        "greta_describe of {path} returned NULL, expected a JSON object",
        "greta_describe de {path} devolvió NULL, se esperaba un objeto JSON",
    ),
    "describe.not_json": (
        "greta_describe of {path} is not JSON: {error}",
        "greta_describe de {path} no es JSON: {error}",
    ),
    "describe.not_object": (
        "greta_describe of {path} is no JSON object",
        "greta_describe de {path} no es un objeto JSON",
    ),
    "describe.type": (
        "greta_describe of {path}: '{key}' is {value!r}, expected a JSON {type}",
        "greta_describe de {path}: '{key}' es {value!r}, se esperaba en JSON {type}",
    ),
    "describe.choice": (
        "greta_describe of {path}: '{key}' is {value!r}, expected {expected}",
        "greta_describe de {path}: '{key}' es {value!r}, se esperaba {expected}",
    ),
    "describe.holds": (
        "greta_describe of {path}: '{key}' holds {value!r}, expected one of {names}",
        "greta_describe de {path}: '{key}' contiene {value!r}, se esperaba uno de {names}",
    ),
    "describe.holds_string": (
        "greta_describe of {path}: '{key}' holds {value!r}, expected a string",
        "greta_describe de {path}: '{key}' contiene {value!r}, se esperaba un string",
    ),
    "describe.kernel": (
        "greta_describe of {path}: 'kernels' names none for {phase}",
        "greta_describe de {path}: 'kernels' no nombra ninguno para {phase}",
    ),
    "describe.numerics": (
        "greta_describe of {path}: numerics.{key} is {value!r}, expected {type}",
        "greta_describe de {path}: numerics.{key} es {value!r}, se esperaba {type}",
    ),
    "describe.object": ("a JSON object", "un objeto JSON"),
    "numerics.value": (
        "numerics: {name} is {value}; expected {expected}",
        "numerics: {name} es {value}; se esperaba {expected}",
    ),
    "numerics.range": ("{least} to {most}", "de {least} a {most}"),
    "describe.unknown": (
        "greta_describe of {path}: numerics.{key} is unknown; known: {names}",
        "greta_describe de {path}: numerics.{key} es desconocido; conocidos: {names}",
    ),
}
