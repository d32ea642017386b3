"""Each option, its ini twin and its environment variable; which of them wins; what is said about a wrong value."""

from __future__ import annotations

import importlib.metadata
import shutil

import pytest
from greta_project import Project, case

from pytest_greta.options import OPTIONS

native = pytest.importorskip("_greta_native")
LIBRARY = f"{next(iter(native.__path__))}/libgreta_attn.so"
MODEL = "smollm2-135m"

EFFECTS = [
    # option, value, environment, how the stub reports it
    ("backend", "cpu", {}, {"backend": "cpu"}),
    ("library", LIBRARY, {}, {"library": LIBRARY, "backend": {"library": LIBRARY}}),
    ("model", MODEL, {}, {"model": MODEL}),
    ("layers", "3,1", {"GRETA_TRACE_LAYERS": "3,1"}, {"layers": "(1, 3)"}),
    ("seed", "7", {"GRETA_SEED": "7"}, {"seed": 7}),
    ("trace", "full", {}, {"trace": "full"}),
    ("trace", "stats", {"GRETA_TRACE_B3_66": "1"}, {"trace": "stats"}),
    ("canary", "on", {}, {"canary": "on"}),
    ("lang", "es", {}, {"lang": "es"}),
]


def settings_of(project: Project, *args: str) -> dict[str, object]:
    return project.cases(case("ok_1")).results(*args)["ok_1::kv_aligned"]["settings"]


@pytest.mark.parametrize(("name", "value", "env", "effect"), EFFECTS)
def test_option(project: Project, name: str, value: str, env: dict[str, str], effect: dict[str, object]) -> None:
    assert effect.items() <= settings_of(project, f"--greta-{name}", value).items()


@pytest.mark.parametrize(("name", "value", "env", "effect"), EFFECTS)
def test_ini(project: Project, name: str, value: str, env: dict[str, str], effect: dict[str, object]) -> None:
    assert effect.items() <= settings_of(project.ini(f"greta_{name} = {value}")).items()


@pytest.mark.parametrize(("env", "effect"), [row[2:] for row in EFFECTS if row[2]])
def test_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], effect: dict[str, object]
) -> None:
    for variable, given in env.items():
        monkeypatch.setenv(variable, given)
    assert effect.items() <= settings_of(project).items()


def test_without_any_the_defaults_hold(project: Project) -> None:
    found = settings_of(project)
    assert found["seed"] == 1
    assert found["layers"] == "all"
    assert found["trace"] == "off"
    assert found["canary"] == "auto"
    assert found["lang"] == "both"
    assert found["library"] is None
    assert found["model"] == "synthetic"


def test_precedence_option_environment_ini_file(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.cases(case("ok_1", "seed: 2"))
    seed = lambda *args: project.results(*args)["ok_1::kv_aligned"]["settings"]["seed"]  # noqa: E731
    assert seed() == 2
    project.ini("greta_seed = 3")
    assert seed() == 3
    monkeypatch.setenv("GRETA_SEED", "4")
    assert seed() == 4
    assert seed("--greta-seed", "5") == 5


@pytest.mark.parametrize("where", ["option", "environment", "ini"])
def test_mode(project: Project, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    project.cases(case("ok_1", "mode: [as_designed, kv_aligned]"), case("ok_2"))
    args = ["--greta-mode", "as_designed"] if where == "option" else []
    if where == "environment":
        monkeypatch.setenv("GRETA_B3_66_MODE", "as_designed")
    if where == "ini":
        project.ini("greta_mode = as_designed")
    project.run(*args).assert_outcomes(passed=1, deselected=2)


WRONG = [
    ("mode", "aligned", "one of as_designed, kv_aligned", "uno de as_designed, kv_aligned"),
    ("layers", "1;2", "all, or a list such as 0,3,5", "all, o una lista como 0,3,5"),
    ("layers", "-1", "all, or a list such as 0,3,5", "all, o una lista como 0,3,5"),
    ("devices", "x", "none, auto, or a list such as 0,1,3", "none, auto, o una lista como 0,1,3"),
    ("seed", "one", "a whole number from 0 to 2^64 - 1", "un número entero de 0 a 2^64 - 1"),
    ("trace", "all", "one of off, stats, full", "uno de off, stats, full"),
    ("canary", "yes", "one of auto, on, off", "uno de auto, on, off"),
    ("lang", "fr", "one of both, es, en", "uno de both, es, en"),
    ("require", "models", "one or more of model,library,device,extra,all", "uno o más de model,library,device,*"),
    ("timeout", "0", "seconds above 0, at most 1e9", "segundos: más de 0, como máximo 1e9"),
    ("timeout", "nan", "seconds above 0, at most 1e9", "segundos: más de 0, como máximo 1e9"),
    ("timeout", "1000000001", "seconds above 0, at most 1e9", "segundos: más de 0, como máximo 1e9"),
    ("backend", " ", "a name or a path", "un nombre o una ruta"),
]


@pytest.mark.parametrize(("name", "value", "expected", "esperado"), WRONG)
def test_a_wrong_value_is_a_usage_error(project: Project, name: str, value: str, expected: str, esperado: str) -> None:
    result = project.cases(case("ok_1")).run(f"--greta-{name}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"ERROR: --greta-{name}: {name} desconocido: '{value}'; se esperaba {esperado}",
            f"--greta-{name}: unknown {name} '{value}'; expected {expected}",
        ]
    )
    result.stderr.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("lang", "said", "unsaid"), [("en", "unknown", "desconocido"), ("es", "desconocido", "unknown")]
)
@pytest.mark.parametrize("where", ["option", "ini"])
def test_a_wrong_value_is_said_in_the_language_asked_for(
    project: Project, where: str, lang: str, said: str, unsaid: str
) -> None:
    args = [f"--greta-lang={lang}"] if where == "option" else []
    if where == "ini":
        project.ini(f"greta_lang = {lang}")
    shown = project.cases(case("ok_1")).run("--greta-timeout=0", *args).stderr.str()
    assert said in shown
    assert unsaid not in shown


def test_layers_that_the_model_has_not_are_the_option_s_fault_and_said_once(project: Project) -> None:
    project.pytester.makeconftest("")  # the real probe
    project.cases(case("a"), case("b"))
    result = project.run_apart("--greta-layers=0,99", "--tb=no")
    result.assert_outcomes(failed=2)
    shown = result.stdout.str()
    result.stdout.fnmatch_lines(["no concluyentes, 2 sondas: --greta-layers: capa 99: el modelo *"])
    result.stdout.fnmatch_lines(["inconclusive, 2 probes: --greta-layers: layer 99: model *"])
    assert "yaml:3: " not in shown.partition("short test summary")[0]
    project.cases(case("a", "layers: [0, 99]"))
    shown = project.run_apart("--tb=no").stdout.str()
    assert "a.greta.yaml:3:5: layer 99: model synthetic has layers 0 to 5" in "".join(shown.split("\n  "))
    assert "--greta-layers" not in shown


def test_no_hint_for_a_run_that_is_refused(project: Project) -> None:
    result = project.cases(case("ok_1")).run("--greta-library=nowhere.so")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nowhere.so does not exist*"])
    result.stdout.no_fnmatch_line("*would end this run*")


@pytest.mark.parametrize(("variable", "value"), [("GRETA_B3_66_MODE", "v1"), ("GRETA_TRACE_B3_66", "yes")])
def test_a_wrong_environment_only_matters_where_cases_are(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    project.pytester.makepyfile("def test_other(): pass")
    project.run().assert_outcomes(passed=1)
    result = project.cases(case("ok_1")).run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {variable}: * desconocido: {value!r}*", f"{variable}: unknown *{value!r}*"])


def test_an_unknown_mode_names_both_in_both_languages(project: Project) -> None:
    result = project.cases(case("ok_1")).run("--greta-mode=x")
    result.stderr.fnmatch_lines(
        ["*esperaba uno de as_designed, kv_aligned", "*expected one of as_designed, kv_aligned"]
    )


def test_a_value_of_a_later_part_does_not_exist(project: Project) -> None:
    result = project.cases(case("ok_1")).run("--greta-report=html", "--greta-lang=en")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown report 'html'; expected one or more of github,gitlab*"])


@pytest.mark.parametrize("option", [o.flag for o in OPTIONS if not o.is_flag])
def test_an_option_with_a_value_requires_it(project: Project, option: str) -> None:
    result = project.run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*argument {option}: expected one argument"])


def test_help_shows_each_option_its_variable_and_its_twin(project: Project) -> None:
    shown = project.run("--help").stdout.str()
    for option in OPTIONS:
        assert option.flag in shown
        assert f"{option.dest} (" in shown
        assert all(variable in shown for variable in option.env)


def test_paths_of_an_ini_file_are_relative_to_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.path / "libs").mkdir()
    shutil.copy(LIBRARY, project.path / "libs/mine.so")
    project.ini("greta_library = libs/mine.so", "greta_model = models/m.gguf", "greta_artifacts = out")
    project.cases(case("ok_1"))
    (project.path / "models").mkdir()
    (project.path / "models/m.gguf").touch()
    (project.path / "below").mkdir()
    monkeypatch.chdir(project.path / "below")
    project.run("..")
    found = project.written(project.path / "out")["ok_1::kv_aligned"]["settings"]
    assert found["library"] == str(project.path / "libs/mine.so")
    assert found["model"] == str(project.path / "models/m.gguf")


def test_a_folder_of_transformers_in_an_ini_file_is_relative_to_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.path / "models").mkdir()
    project.ini("greta_model = transformers:./models").cases(case("ok_1"))
    (project.path / "below").mkdir()
    monkeypatch.chdir(project.path / "below")
    project.run("..", "--greta-artifacts=out")
    found = project.written(project.path / "below/out")["ok_1::kv_aligned"]["settings"]
    assert found["model"] == f"transformers:{project.path / 'models'}"


def test_a_library_of_the_command_line_is_relative_to_the_caller(project: Project) -> None:
    shutil.copy(LIBRARY, project.path / "mine.so")
    assert settings_of(project, "--greta-library", "mine.so")["library"] == str(project.path / "mine.so")


def test_settings_are_shown_once_and_only_with_cases(project: Project) -> None:
    project.pytester.makepyfile("def test_other(): pass")
    project.run("--greta-seed", "3").stdout.no_fnmatch_line("greta: *")
    result = project.cases(case("ok_1")).run("--greta-seed", "3", "--greta-artifacts", "out")
    lines = [line for line in result.outlines if line.startswith("greta: ")]
    assert len(lines) == 1
    assert "seed=3 (--greta-seed)" in lines[0]
    assert "lang=both" in lines[0]


# ------------------------------------------------------------------------------------------------- names


NAMES = [
    ("backend", "cpv", "unknown backend 'cpv'; did you mean 'cpu'? known: cpu, *, mine, or {library: PATH}"),
    ("model", "smolm2", "unknown model 'smolm2'*smollm2-135m*"),
    ("model", "./absent.gguf", "no model file at */absent.gguf; give the path*"),
    ("model", "transformers:./absent", "no folder '*/absent'*give the folder*"),
    ("model", "transformers:./absent.gguf", "no model file at */absent.gguf; give the path*"),
    ("model", "synthetic:qwen4", "model 'synthetic:qwen4'*no variant 'qwen4'; did you mean synthetic:qwen3?"),
    ("model", "zzz", "unknown model 'zzz'; known: smollm2-135m, synthetic, *, synthetic:wide; give the path*"),
    ("library", "absent.so", "attention library */absent.so does not exist; give the path*"),
    ("library", "a.greta.yaml", "*/a.greta.yaml cannot be loaded: *"),
]
HOOK = "def pytest_greta_backends(config): return {'mine': dict}"


@pytest.mark.parametrize("how", ["option", "ini", "xdist"])
@pytest.mark.parametrize(("name", "value", "said"), NAMES)
def test_a_name_that_is_none_is_a_usage_error(project: Project, name: str, value: str, said: str, how: str) -> None:
    project.conftest(HOOK).cases(case("ok_1"), case("ok_2"))
    if how == "ini":
        project.ini(f"greta_{name} = {value}")
    given = [] if how == "ini" else [f"--greta-{name}={value}", "--greta-lang=en"]
    result = project.run_apart("-n", "1", *given) if how == "xdist" else project.run(*given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    source = f"ini greta_{name}" if how == "ini" else f"--greta-{name}"
    result.stderr.fnmatch_lines([f"*{source}: {said.replace('[', '[[]')}"])
    result.stderr.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.parametrize("model", ["synthetic:qwen3", "transformers:owner/name"])
def test_a_backend_of_the_users_own_and_what_may_be_in_a_cache_are_names(project: Project, model: str) -> None:
    project.conftest(HOOK).cases(case("ok_1"))
    project.run("--greta-backend=mine", f"--greta-model={model}").assert_outcomes(passed=1)


def test_wrong_names_do_not_matter_where_there_are_no_cases(project: Project) -> None:
    project.pytester.makepyfile("def test_other(): pass")
    project.run("--greta-backend=cpv", "--greta-library=absent.so").assert_outcomes(passed=1)


def test_options_for_cases_where_there_are_none(project: Project) -> None:
    """As whoever follows a page from an empty folder: "no tests ran" does not say what is missing."""
    said = "greta: no case was found for --greta-model: a case stands in a file such as mine.greta.yaml (docs/cases.md)"
    assert said in project.run_apart("--greta-model=synthetic").outlines
    assert not [line for line in project.run_apart().outlines if line.startswith("greta: no case")]
    project.cases(case("ok_1"))
    assert said not in project.run_apart("--greta-model=synthetic").outlines
    deselected = project.run_apart("--greta-model=synthetic", "-m", "as_designed")
    assert not [line for line in deselected.outlines if line.startswith("greta: no case")]


def test_a_trace_without_a_folder_is_said_to_be_nowhere(project: Project) -> None:
    project.cases(case("ok_1"))
    said = "greta: --greta-trace: no trace is written without a folder; give --greta-artifacts=DIR too"
    assert said in project.run("--greta-trace=stats").outlines
    assert said not in project.run("--greta-trace=stats", "--greta-artifacts=out").outlines


def test_a_library_that_could_end_the_run_is_said_to(project: Project) -> None:
    project.cases(case("ok_1"))
    said = (
        "greta: --greta-library: a crash of it would end this run, and lose the cases after it; with -n 1 it costs one"
    )
    alone = project.run_apart(f"--greta-library={LIBRARY}")
    worker = project.run_apart(f"--greta-library={LIBRARY}", "-n", "1")
    assert [any(line.startswith(said) for line in run.outlines) for run in (alone, worker)] == [True, False]


@pytest.mark.skipif(not importlib.metadata.entry_points(group="pytest11", name="greta"), reason="not installed")
def test_a_path_that_pytest_took_for_one_of_tests(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Plugins are loaded after pytest has chosen its rootdir, so this can only be said."""
    library = tmp_path_factory.mktemp("elsewhere") / "libmine.so"
    shutil.copy(LIBRARY, library)
    project.ini("greta_seed = 3").cases(case("ok_1"))
    split = project.run_apart("--greta-library", str(library), "a.greta.yaml")
    joined = project.run_apart(f"--greta-library={library}", "a.greta.yaml")
    said = [line for line in split.outlines if line.endswith(f"write --greta-library={library}")]
    assert len(said) == ("seed=3" not in split.stdout.str()), "said where, and only where, the ini file is lost"
    assert not any("rootdir is" in line for line in joined.outlines)
    assert "seed=3 (ini greta_seed)" in joined.stdout.str()
    lost = project.run_apart("--greta-library", str(library))
    lost.stdout.fnmatch_lines(["greta: pytest took the path*no ini file is read; write --greta-library=*/libmine.so"])
