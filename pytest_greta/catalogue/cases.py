"""What is wrong with a case file, or with a case for its model. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # the file
    "case.file": ("a case file", "un archivo de casos"),
    "case.prompt": ("a prompt", "un prompt"),
    "case.no_file": ("no such file", "el archivo no existe"),
    "case.not_a_file": ("is not a file", "no es un archivo"),
    "case.too_large": (
        "{size} bytes are too many for {what}; expected at most {most}",
        "{size} bytes son demasiados para {what}; se esperaban como máximo {most}",
    ),
    "case.unreadable": ("cannot be read: {error}", "no se puede leer: {error}"),
    "case.not_utf8": (
        "byte 0x{byte:02x} is not UTF-8; save the file as UTF-8",
        "el byte 0x{byte:02x} no es UTF-8; guarde el archivo en UTF-8",
    ),
    # YAML
    "yaml.character": (
        'character U+{code:04X} must be written as "{escape}" in double quotes',
        'el carácter U+{code:04X} se escribe "{escape}" entre comillas dobles',
    ),
    "yaml.invalid": ("not valid YAML: {problem}{hint}", "YAML no válido: {problem}{hint}"),
    "yaml.hint_colon": (
        "; quote a value that contains ': ', and indent keys of one mapping alike",
        "; ponga entre comillas el valor que contenga ': ', y dé la misma sangría a las claves de un mismo mapa",
    ),
    "yaml.hint_escape": (
        "; in double quotes a backslash is written twice",
        "; entre comillas dobles la barra invertida se escribe dos veces",
    ),
    "yaml.tab_indent": (
        "a tab cannot indent YAML; use spaces",
        "la sangría de YAML no admite tabuladores; use espacios",
    ),
    "yaml.tab_here": ("a tab cannot stand here; use spaces", "aquí no puede haber un tabulador; use espacios"),
    "yaml.empty": (
        "the file is empty; expected the keys suite: and cases:",
        "el archivo está vacío; se esperaban las claves suite: y cases:",
    ),
    "yaml.version": (
        "case files are YAML 1.2; remove the %YAML line",
        "los archivos de casos son YAML 1.2; quite la línea %YAML",
    ),
    "yaml.second": (
        "a second document; expected one document a file",
        "un segundo documento; se esperaba uno solo por archivo",
    ),
    "yaml.tag": (
        "tag {tag}: case files have no tags; quote a value to make it text",
        "etiqueta {tag}: los archivos de casos no llevan etiquetas; ponga el valor entre comillas para que sea texto",
    ),
    "yaml.deep": (
        "nested too deeply; expected at most {most} levels",
        "demasiado anidado; se esperaban como máximo {most} niveles",
    ),
    "yaml.surrogate": (
        "half a surrogate pair; write the character itself or \\UXXXXXXXX",
        "medio par sustituto; escriba el carácter mismo o \\UXXXXXXXX",
    ),
    "yaml.long_number": (
        "a number of {length} characters; expected at most {most}",
        "un número de {length} caracteres; se esperaban como máximo {most}",
    ),
    "yaml.twice": (
        "key {key}: given twice, first on line {line}; keep one",
        "clave {key}: está dos veces, la primera en la línea {line}; deje una sola",
    ),
    "yaml.plain_key": ("a key must be a plain word", "una clave tiene que ser una palabra simple"),
    "yaml.merge": (
        "key <<: YAML 1.2 has no merge keys; put what cases share under defaults:",
        "clave <<: YAML 1.2 no tiene claves de fusión; ponga lo que los casos comparten en defaults:",
    ),
    "yaml.aliases": (
        "more than {most} aliases; put what cases share under defaults:",
        "más de {most} alias; ponga lo que los casos comparten en defaults:",
    ),
    "yaml.no_anchor": ("alias *{name}: no anchor &{name} before it", "alias *{name}: no hay antes un ancla &{name}"),
    "yaml.inside": ("alias *{name}: lies inside its own anchor", "alias *{name}: está dentro de su propia ancla"),
    "yaml.nodes": (
        "more than {most} values with aliases expanded",
        "más de {most} valores con los alias expandidos",
    ),
    # the schema: how a place is named, what a value is, what was expected
    "schema.file": ("the file", "el archivo"),
    "schema.case": ("case {id}", "caso {id}"),
    "schema.case_number": ("case number {number}", "caso número {number}"),
    "schema.key": ("key {key}", "clave {key}"),
    "schema.key_of": ("key {key} ({owner})", "clave {key} ({owner})"),
    "schema.string": ("text", "texto"),
    "schema.integer": ("a whole number", "un número entero"),
    "schema.number": ("a number", "un número"),
    "schema.array": ("a list", "una lista"),
    "schema.object": ("a mapping", "un mapa"),
    "schema.null": ("nothing", "nada"),
    "schema.max_update": ("every_tile, none or lazy:NUMBER", "every_tile, none o lazy:NÚMERO"),
    "schema.layers": ("all or a list of layer numbers", "all o una lista de números de capa"),
    "schema.lengths": ("sweep or a list of lengths", "sweep o una lista de longitudes"),
    "schema.none": ("none", "ninguna"),
    "schema.one_of": ("one of {names}", "uno de {names}"),
    "schema.near": ("; did you mean {name}?", "; ¿quiso decir {name}?"),
    "schema.quote": ("; quote it", "; póngalo entre comillas"),
    "schema.unquote": ("; remove the quotes", "; quite las comillas"),
    "schema.unknown_key": ("unknown key{near}", "clave desconocida{near}"),
    "schema.of_a_case": (
        "belongs to a case, not to defaults; give it in each case",
        "es de un caso, no de defaults; póngala en cada caso",
    ),
    "schema.unknown_key_of": (
        "unknown key; expected one of {names}",
        "clave desconocida; se esperaba una de {names}",
    ),
    "schema.expected": (
        "expected {expected}, got {got}{hint}",
        "se esperaba {expected}, se encontró {got}{hint}",
    ),
    "schema.key_among": (
        "expected one of {names}, got {given}",
        "se esperaba una de {names}, se encontró {given}",
    ),
    "schema.missing": ("the key {keys} is missing", "falta la clave {keys}"),
    "schema.missing_phase": (
        "the key {keys} is missing; expected prefill and decode together",
        "falta la clave {keys}; prefill y decode se dan juntas",
    ),
    "schema.minimum": ("expected at least {limit}, got {got}", "se esperaba al menos {limit}, se encontró {got}"),
    "schema.exclusiveMinimum": (
        "expected more than {limit}, got {got}",
        "se esperaba más de {limit}, se encontró {got}",
    ),
    "schema.maximum": ("expected at most {limit}, got {got}", "se esperaba como máximo {limit}, se encontró {got}"),
    "schema.maxLength": (
        "expected at most {limit} characters, got {got}",
        "se esperaban como máximo {limit} caracteres, se encontraron {got}",
    ),
    "schema.empty": ("is empty", "está vacía"),
    "schema.twice": ("the value {value} is given twice; keep one", "el valor {value} está dos veces; deje uno solo"),
    "schema.more": ("and {count} more", "y {count} más"),
    # what a schema cannot say
    "case.name_character": (
        "holds a character that cannot be printed",
        "contiene un carácter que no se puede imprimir",
    ),
    "case.name_holds": (
        "holds {part}, which pytest node ids use",
        "contiene {part}, que los ids de nodo de pytest usan",
    ),
    "case.name_ends": (
        "begins or ends with a space or a colon",
        "empieza o termina con un espacio o con dos puntos",
    ),
    "case.twice": (
        "two cases {id} in suite {suite}, the first on line {line}; give one another id",
        "dos casos {id} en la suite {suite}, el primero en la línea {line}; dé otro id a uno",
    ),
    "case.twice_in_suite": (
        "two cases {id} in suite {suite}, the first at {where}; give one file another suite name or id",
        "dos casos {id} en la suite {suite}, el primero en {where}; dé otra suite u otro id a un archivo",
    ),
    "case.in_matrix": ("also under matrix; keep one", "también está en matrix; deje una sola"),
    "case.few_tokens": (
        "{count} tokens are too few for {steps} steps; expected at least {least}",
        "{count} tokens son pocos para {steps} pasos; se esperaban al menos {least}",
    ),
    "case.long_length": (
        "N = {length} needs {need} tokens, {steps} of them decoded; the prompt has {count}: expected at most {most}",
        "N = {length} necesita {need} tokens, {steps} de ellos en decode; el prompt tiene {count}: se esperaba como"
        " máximo {most}",
    ),
    "case.sweep_of_text": (
        "a sweep is laid out before any model is loaded, and how many tokens a text has is the model's to say; give "
        "random_tokens or token_ids, or a list of lengths",
        "un barrido se traza antes de cargar ningún modelo, y cuántos tokens tiene un texto lo dice el modelo; use "
        "random_tokens o token_ids, o una lista de longitudes",
    ),
    "case.empty_prompt": ("{file}: is empty", "{file}: está vacío"),
    "case.fault_without": (
        "fault {fault} does not use {key}; remove the key, or use one of {users}",
        "el fallo {fault} no usa {key}; quite la clave, o use uno de {users}",
    ),
    "case.fault_stage": (
        "fault {fault} is not planted at {stage}; expected one of {stages}",
        "el fallo {fault} no se inyecta en {stage}; se esperaba uno de {stages}",
    ),
    "case.fault_of_nothing": (
        "a fault of magnitude 0 changes nothing; the usual one is {usual}",
        "un fallo de magnitud 0 no cambia nada; lo usual es {usual}",
    ),
    "case.fault_whole": (
        "fault {fault} is there or not, got magnitude {got}: leave the key out",
        "el fallo {fault} está o no está, se obtuvo magnitud {got}: quite la clave",
    ),
    "case.fault_choice": (
        "fault {fault} knows the magnitudes {choices}, got {got}",
        "el fallo {fault} conoce las magnitudes {choices}, se obtuvo {got}",
    ),
    "case.unknown_fault": (
        "unknown fault {fault}; expected one of {faults}{near}",
        "fallo desconocido {fault}; se esperaba uno de {faults}{near}",
    ),
    "expect.stray": (
        "{key} among modes; give fields under each mode",
        "{key} está entre los modos; ponga los campos bajo cada modo",
    ),
    "expect.no_mode": (
        "the case has no mode {mode}; it has {modes}",
        "el caso no tiene el modo {mode}; tiene {modes}",
    ),
    "expect.reason": (
        "INCONCLUSIVE needs a reason; expected {{status: INCONCLUSIVE, reason: a part of the reason}}",
        "INCONCLUSIVE necesita un motivo; se esperaba {{status: INCONCLUSIVE, reason: una parte del motivo}}",
    ),
    "expect.none_alone": (
        "a mismatch has the finding NONE, too; expected status or scenario beside it, such as status: PASS",
        "una discrepancia también tiene finding NONE; se esperaba además status o scenario, como status: PASS",
    ),
    "expect.stray_reason": ("only with status: INCONCLUSIVE", "solo con status: INCONCLUSIVE"),
    # a case and its model
    "probe.library_path": ("; did you mean {{library: {path}}}?", "; ¿quiso decir {{library: {path}}}?"),
    "probe.one_of_each": (
        "a key has a list of values; a probe has one of each",
        "una clave tiene una lista de valores; una sonda tiene uno solo de cada clave",
    ),
    "probe.short": (
        "prompt: {count} token(s); expected at least {least}, of which {steps} decoded after a prefill",
        "prompt: {count} token(s); se esperaban al menos {least}, {steps} de ellos en decode tras un prefill",
    ),
    "probe.length": (
        "key lengths: N = {length} needs {need} tokens, {steps} of them decoded; the prompt has {count}",
        "clave lengths: N = {length} necesita {need} tokens, {steps} de ellos en decode; el prompt tiene {count}",
    ),
    "probe.slots": (
        "batch, left_pad or reuse: a sequence needs {count} rows; the context holds {context}: shorten it, or raise"
        " context",
        "batch, left_pad o reuse: una secuencia necesita {count} filas; en el contexto caben {context}: acórtela, o"
        " aumente context",
    ),
    "probe.alone": (
        "contract.batch_invariant: there is no batch to compare with; add batch",
        "contract.batch_invariant: no hay lote con el que comparar; añada batch",
    ),
    "probe.reuse": (
        "key reuse: prefix {prefix} is longer than the {rows} rows before the decoded tokens; expected 1 to {rows}",
        "clave reuse: prefix {prefix} supera las {rows} filas anteriores a los tokens decodificados; se esperaba de 1 a"
        " {rows}",
    ),
    "probe.long": (
        "prompt: {count} tokens; the context holds {context}: shorten the prompt",
        "prompt: {count} tokens; en el contexto caben {context}: acorte el prompt",
    ),
    "probe.token": (
        "token_ids: {token} is not a token; expected 0 to {last}",
        "token_ids: {token} no es un token; se esperaba de 0 a {last}",
    ),
    "probe.unseen": (
        "inject: layer {layer} is not among the layers that are looked at ({layers}): nobody would see the fault; name "
        "it in layers",
        "inject: la capa {layer} no está entre las que se miran ({layers}): nadie vería el fallo; nómbrela en layers",
    ),
    "probe.layer": (
        "layer {layer}: model {model} has layers 0 to {last}",
        "capa {layer}: el modelo {model} tiene las capas 0 a {last}",
    ),
    "probe.head": (
        "head {head}: model {model} has heads 0 to {last}",
        "cabeza {head}: el modelo {model} tiene las cabezas 0 a {last}",
    ),
}
