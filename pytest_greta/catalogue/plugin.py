"""What the plugin itself says. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "or": ("{left} or {right}", "{left} o {right}"),
    "and": ("{left} and {right}", "{left} y {right}"),
    "bad_value": (
        "{source}: unknown {name} {value!r}; expected {expected}",
        "{source}: {name} desconocido: {value!r}; se esperaba {expected}",
    ),
    "option.name": ("a name or a path", "un nombre o una ruta"),
    "option.layers": ("all, or a list such as 0,3,5", "all, o una lista como 0,3,5"),
    "option.devices": ("none, auto, or a list such as 0,1,3", "none, auto, o una lista como 0,1,3"),
    "option.seed": ("a whole number from 0 to 2^64 - 1", "un número entero de 0 a 2^64 - 1"),
    "option.seconds": ("seconds above 0, at most 1e9", "segundos: más de 0, como máximo 1e9"),
    "option.some_of": ("one or more of {names}", "uno o más de {names}"),
    "unknown_mark": (
        "{where}: unknown mark {mark!r}; register it under 'markers' in the ini file, or use one of: {known}",
        "{where}: marca desconocida {mark!r}; regístrela en 'markers' del archivo ini, o use una de: {known}",
    ),
    "not_run": ("not run ({kind}): {message}", "no ejecutado ({kind}): {message}"),
    "not_run_mend": (
        "not run ({kind}): {message}; to mend it: {mend}",
        "no ejecutado ({kind}): {message}; para remediarlo: {mend}",
    ),
    "marked": ("a mark leaves it out ({reason})", "una marca lo omite ({reason})"),
    "unsupported": ("unsupported {feature}", "no admite {feature}"),
    "unsupported_why": ("unsupported {feature} ({message})", "no admite {feature} ({message})"),
    "ci.no_summary": (
        "--greta-report github: {variable} is not set, so there is no step summary; GitHub Actions sets it",
        "--greta-report github: {variable} no está definida, así que no hay resumen del paso; GitHub Actions la define",
    ),
    "ci.summary_full": (
        "--greta-report github: no room left in {path}, which may hold 1 MiB a step; run pytest in a step of its own",
        "--greta-report github: no queda lugar en {path}, que admite 1 MiB por paso; ejecute pytest en un paso aparte",
    ),
    "ci.unwritable": (
        "--greta-report {report}: {path}: {error}",
        "--greta-report {report}: no se pudo escribir {path}: {error}",
    ),
    "nothing_ran": (
        "no selected case was run: exit code 1 (--greta-allow-empty makes it 0)",
        "no se ejecutó ningún caso seleccionado: código de salida 1 (--greta-allow-empty lo hace 0)",
    ),
    "unwritten": (
        "what was asked for could not be written, as said above: exit code 1 at least",
        "no se pudo escribir lo que se pidió, como se dice arriba: código de salida 1 como mínimo",
    ),
    "timeout": (
        "{where}: {nodeid} did not end within {seconds:g} s; this process is ended",
        "{where}: {nodeid} no terminó en {seconds:g} s; se termina este proceso",
    ),
    "exited": (
        "{where}: {nodeid} called exit() or quick_exit(); a library must not: this process is ended with exit code 70",
        "{where}: {nodeid} llamó a exit() o quick_exit(), y no debe: se termina este proceso con código de salida 70",
    ),
    "aborted": ("{where}: {nodeid} came to no end: {said}", "{where}: {nodeid} no llegó a su fin: {said}"),
    "alone": (
        "what came after it was not run; with pytest -n 1 the cases have a process of their own, and one alone is lost",
        "lo que seguía no se ejecutó; con pytest -n 1 los casos tienen un proceso propio, y solo se pierde uno",
    ),
    "timeout_reason": ("timeout: not ended within {seconds:g} s", "tiempo agotado: no terminó en {seconds:g} s"),
    "crash_reason": ("crash: worker {worker} died inside this case", "caída: el proceso {worker} murió en este caso"),
    "crash_check": (
        "`greta backend check {library}` tries each of its calls alone",
        "`greta backend check {library}` prueba por separado cada una de sus llamadas",
    ),
    "outcome_inside": (
        "{error}; a backend skips no case by pytest: for what it cannot run it raises BackendMissing or Unsupported",
        "{error}; un backend no omite casos con pytest: si no puede ejecutar uno, lanza BackendMissing o Unsupported",
    ),
    "not_reached": ("the run ended before this case did", "la ejecución terminó antes que este caso"),
    "interrupted": (
        "INTERRUPTED: {count} probes were not reached; what is above holds for the others only",
        "INTERRUMPIDO: {count} sondas no se alcanzaron; lo de arriba vale solo para las demás",
    ),
    "so_far": ("results so far:", "resultados hasta ahora:"),
    "no_cases": (
        "no case was found for {options}: a case stands in a file such as mine.greta.yaml (docs/cases.md)",
        "no se halló ningún caso para {options}: un caso está en un archivo como mine.greta.yaml (docs/es/casos.md)",
    ),
    "native_inside": (
        "{source}: a crash of it would end this run, and lose the cases after it; with -n 1 it costs one case",
        "{source}: una caída suya terminaría esta corrida, con los casos siguientes perdidos; con -n 1 cuesta uno solo",
    ),
    "trace_nowhere": (
        "{source}: no trace is written without a folder; give --greta-artifacts=DIR too",
        "{source}: sin carpeta no se escribe ninguna traza; indique también --greta-artifacts=DIR",
    ),
    "devices.given": (
        "one device a worker, by {variable}: {shown}",
        "un dispositivo por proceso, con {variable}: {shown}",
    ),
    "devices.shared": (
        "{workers} workers share {devices} devices, by {variable}: {shown}",
        "{workers} procesos comparten {devices} dispositivos, con {variable}: {shown}",
    ),
    "devices.beyond": (
        "{source}: there is no device {device}: {variable}={mask} leaves {count}, counted from 0",
        "{source}: no hay dispositivo {device}: {variable}={mask} deja {count}, contados desde 0",
    ),
    "root_moved": (
        "pytest took the path of an option for one of tests, so its rootdir is {root} and no ini file is read; "
        "write {option}",
        "pytest tomó la ruta de una opción por una de pruebas: su rootdir es {root} y no se lee ningún archivo ini; "
        "escriba {option}",
    ),
    "bad_hook": (
        "hook pytest_greta_backends ({place}) returned {found}; expected {{name: function}}",
        "el hook pytest_greta_backends ({place}) devolvió {found}; se esperaba {{nombre: función}}",
    ),
    "bad_hook_name": (
        "hook pytest_greta_backends ({place}): the name {name} is of type {kind}; expected a string",
        "hook pytest_greta_backends ({place}): el nombre {name} es de tipo {kind}; se esperaba un string",
    ),
    "bad_hook_entry": (
        'hook pytest_greta_backends ({place}): "{name}" is of type {kind}; expected a function without arguments: '
        '"{name}": lambda: ...',
        'hook pytest_greta_backends ({place}): "{name}" es de tipo {kind}; se esperaba una función sin argumentos: '
        '"{name}": lambda: ...',
    ),
    "fixture.unseen": (
        "the test passed without a look at this verdict; call .assert_aligned() on what greta.probe() returns, "
        "or expect its .verdict",
        "la prueba pasó sin mirar este veredicto; llame a .assert_aligned() en lo que devuelve greta.probe(), "
        "o espere su .verdict",
    ),
    "fixture.wants_pass": (
        "assert_aligned() wants a PASS; in as_designed bytes may differ: use mode='kv_aligned', or look at .verdict",
        "assert_aligned() pide un PASS; en as_designed puede haber drift: use mode='kv_aligned', o mire .verdict",
    ),
    "written": ("written to {path}", "escrito en {path}"),
}
