"""What ``greta remote`` says. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # usage
    "remote.date": (
        "{got} is no date; expected YYYY-MM-DD",
        "{got} no es una fecha; se esperaba AAAA-MM-DD",
    ),
    "remote.devices": (
        "{got} are no devices; expected a list such as 0,1",
        "{got} no son dispositivos; se esperaba una lista como 0,1",
    ),
    "remote.bad_host": (
        "{host} is no host; expected a name of your ssh configuration, user@host or ssh://user@host:port",
        "{host} no es un host; se esperaba un nombre de su configuración de ssh, usuario@host o"
        " ssh://usuario@host:puerto",
    ),
    "remote.no_cases": (
        "no case file in {path}; expected *.greta.yaml, or a folder that holds some (--cases)",
        "no hay ningún archivo de casos en {path}; se esperaba *.greta.yaml, o una carpeta que los contenga (--cases)",
    ),
    # on the way
    "remote.no_ssh": (
        "ssh cannot be started ({why}); install the OpenSSH client",
        "no se puede ejecutar ssh ({why}); instale el cliente de OpenSSH",
    ),
    "remote.key_unknown": (
        "the host key of {host} is not among your known hosts; connect once by hand with ssh, compare the fingerprint"
        " that it shows with the host's own, then try again",
        "la clave de host de {host} no está entre sus hosts conocidos; conéctese una vez a mano con ssh, compare la"
        " huella que muestra con la del propio host y vuelva a intentarlo",
    ),
    "remote.key_changed": (
        "the host key of {host} is another than the one you know: somebody may stand in between; ask who runs the host"
        " before you change your known hosts",
        "la clave de host de {host} no es la que usted conoce: puede haber alguien en el medio; pregunte a quien"
        " administra el host antes de cambiar sus hosts conocidos",
    ),
    "remote.denied": (
        "{host} refuses you; load your key into ssh-agent or name it in your ssh configuration: no password is asked"
        " for here",
        "{host} no acepta su acceso; cargue su clave en ssh-agent o indíquela en su configuración de ssh: aquí no se"
        " pide contraseña",
    ),
    "remote.unknown_host": (
        "{host} cannot be found; check the name, or add it to your ssh configuration",
        "no se encuentra {host}; revise el nombre o agréguelo a su configuración de ssh",
    ),
    "remote.no_connection": (
        "no connection to {host}; try it by hand with ssh",
        "no hay conexión con {host}; pruebe a mano con ssh",
    ),
    "remote.no_answer": (
        "{host} gave no answer (exit code {code})",
        "{host} no dio ninguna respuesta (código de salida {code})",
    ),
    "remote.connection_lost": (
        "the connection ended; the run does not need it and goes on. To see it again:",
        "se cortó la conexión; la corrida no la necesita y sigue. Para volver a verla:",
    ),
    "remote.detached": (
        "left; the run goes on there. To see it again, or to end it:",
        "se dejó de seguir; la corrida continúa allí. Para volver a verla, o para terminarla:",
    ),
    "remote.cut_sending": (
        "what arrived on the host is not what was sent; try again",
        "lo que llegó al host no es lo que se envió; vuelva a intentarlo",
    ),
    "remote.cut_receiving": (
        "the connection ended before all files were here; nothing is kept, fetch them again",
        "la conexión se cortó antes de recibir todos los archivos; no se conserva nada, tráigalos de nuevo",
    ),
    # the host
    "remote.no_python": (
        "{python} cannot be run on {host}; give the path of its Python with --python",
        "no se puede ejecutar {python} en {host}; indique la ruta de su Python con --python",
    ),
    "remote.old_python": (
        "{python} on {host} is older than 3.10; give another one with --python",
        "{python} en {host} es anterior a 3.10; indique otro con --python",
    ),
    "remote.host": (
        "{user} on {hostname}: Python {python}, {versions}; {free} free in {folder}",
        "{user} en {hostname}: Python {python}, {versions}; {free} libres en {folder}",
    ),
    "remote.missing": (
        "{python} there lacks {missing}; install pytest-greta for it, or give another Python with --python",
        "a {python} allí le falta {missing}; instale pytest-greta para él o indique otro Python con --python",
    ),
    "remote.doctor": ("{hostname} lacks, by greta doctor there:", "a {hostname} le falta, según greta doctor allí:"),
    "remote.version": (
        "pytest-greta is {there} there and {here} here; verdicts are those of the one there",
        "pytest-greta es {there} allí y {here} aquí; los veredictos son los del de allí",
    ),
    "remote.no_room": (
        "{path} on the host has {free} bytes free and the run needs {need} to begin; free some, or give another folder"
        " there with --remote-dir",
        "{path} en el host tiene {free} bytes libres y la corrida necesita {need} para empezar; libere espacio o"
        " indique otra carpeta allí con --remote-dir",
    ),
    "remote.host_os": (
        "{path} on the host: {why}",
        "{path} en el host: {why}",
    ),
    "remote.locked": (
        "your run {run} is on that host since {since}, and two would share its devices; wait for it (greta remote"
        " attach) or end it (greta remote stop)",
        "su corrida {run} está en ese host desde {since}, y dos compartirían sus dispositivos; espérela (greta remote"
        " attach) o termínela (greta remote stop)",
    ),
    "remote.no_run": (
        "the host has no run {run}; greta remote status lists them",
        "el host no tiene la corrida {run}; greta remote status las muestra",
    ),
    "remote.still_running": (
        "the run {run} is not over; follow it with greta remote attach",
        "la corrida {run} no terminó; sígala con greta remote attach",
    ),
    # a run
    "remote.started": (
        "started {run} in {path}",
        "se inició {run} en {path}",
    ),
    "remote.collecting": (
        "collecting",
        "recolectando",
    ),
    "remote.not_collected": ("no probe was collected", "no se recolectó ninguna sonda"),
    "remote.counts": ("{done} of {all} probes, {failed} failed", "{done} de {all} sondas, {failed} con fallo"),
    "remote.progress": ("{counts}, {left} to go", "{counts}, faltan {left}"),
    "remote.state": ("{run}: {state}, {progress}", "{run}: {state}; {progress}"),
    "remote.running_state": ("running", "en curso"),
    "remote.ended_state": ("ended, pytest's exit code {code}", "terminada, código de salida de pytest {code}"),
    "remote.lost_state": ("lost before its end", "perdida antes de su final"),
    "remote.none": ("no runs on this host", "no hay corridas en este host"),
    # what came back
    "remote.strange_file": (
        "the host sent {file}, which is no plain file of the run; nothing is kept",
        "el host envió {file}, que no es un archivo simple de la corrida; no se conserva nada",
    ),
    "remote.altered": (
        "files are not what they were when the run ended ({count}: {files}); nothing is kept and nothing is concluded",
        "hay archivos que no son los que eran al terminar la corrida ({count}: {files}); no se conserva nada y no se"
        " concluye nada",
    ),
    "remote.not_run": (
        "pytest ran no probe there (exit code {code}); its last lines are above",
        "pytest no ejecutó allí ninguna sonda (código de salida {code}); arriba están sus últimas líneas",
    ),
    "remote.lost": (
        "the run's processes are gone and it never came to its end: the host was restarted, its memory was used up, or"
        " somebody ended them",
        "los procesos de la corrida ya no existen y no llegó a su final: el host se reinició, se agotó su memoria o"
        " alguien los terminó",
    ),
    "remote.ended_with": (
        "pytest ended with {code} there: interrupted (2), an internal error (3) or a signal (below 0)",
        "pytest terminó allí con {code}: interrupción (2), error interno (3) o una señal (menor que 0)",
    ),
    "remote.incomplete": (
        "results of {got} of {total} probes came back; the others are not known",
        "llegaron los resultados de {got} de {total} sondas; los demás no se conocen",
    ),
    "remote.disk_full": (
        "the disk of {path} on the host is full",
        "el disco de {path} en el host está lleno",
    ),
    "remote.nothing_judged": (
        "no probe could be run there; the summary says what is missing",
        "no se pudo ejecutar allí ninguna sonda; el resumen dice qué falta",
    ),
    "remote.failed_elsewhere": (
        "pytest failed there although no probe did; see run/pytest.log",
        "pytest falló allí aunque ninguna sonda lo hizo; vea run/pytest.log",
    ),
    "remote.code_0": ("PASS: every verdict is as expected", "PASS: todos los veredictos son los esperados"),
    "remote.code_1": ("MISMATCH: a verdict is not as expected", "MISMATCH: algún veredicto no es el esperado"),
    "remote.code_2": ("nothing was run", "no se ejecutó nada"),
    "remote.code_3": ("INCONCLUSIVE: no verdict without evidence", "INCONCLUSIVE: sin evidencia no hay veredicto"),
}
