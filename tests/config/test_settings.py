"""Settings: where they come from, which wins, and how each mistake is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from config import settings as settings_module
from config.keys import GIVEN_VARIABLES
from config.settings import PACKAGED_FILE, Settings, config_path, load_settings
from config.systems_config import CommandSettings, FunctionSettings, McpSettings
from orchestration.errors import ConfigurationError
from orchestration.models import OrchestrationMode
from orchestration.options import OrchestratorOptions, RetentionOptions
from orchestration.systems import command


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the platform's user folders a home of their own, and stand in another folder."""
    monkeypatch.setattr(settings_module, "user_config_folder", lambda: tmp_path / "config")
    monkeypatch.setattr(settings_module, "user_data_folder", lambda: tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(config: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, environ or {})
    return [str(problem).replace(str(config), "my.yaml") for problem in caught.value.problems]


def test_the_packaged_file_says_what_is_built_in(home: Path) -> None:
    """The commented defaults that users read are the ones that hold."""
    found = load_settings()

    assert found.options == OrchestratorOptions()
    assert found.log_level == "INFO"
    assert found.synchronous == "normal"
    assert found.database == home / "data" / "orchestrations.db"
    assert found.sequential_thinking is not None
    assert found.sequential_thinking.command == "npx"
    assert not found.log_level_chosen
    assert found.source is None


def test_the_packaged_file_names_every_option() -> None:
    """A setting nobody can read about does not exist for users."""
    import yaml

    from config.keys import KEYS

    text = PACKAGED_FILE.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    missing = []
    for *sections, name in KEYS:
        section = document
        for step in sections:
            section = section.get(step, {})
        if name not in section and f"# {name}:" not in text:
            missing.append((*sections, name))

    assert missing == []


def test_the_packaged_functions_can_be_imported() -> None:
    """The default `codebase` system works as it is, and holds nothing that writes."""
    from orchestration.systems.function import FunctionSystem

    codebase = load_settings().systems["codebase"]

    assert isinstance(codebase, FunctionSettings)
    assert FunctionSystem.from_import_strings(codebase.functions, "codebase").name == "codebase"
    assert "write_report" not in codebase.functions


def test_the_specification_s_file_is_read(home: Path) -> None:
    """Every key of the specification's file has its effect."""
    config = written(
        home,
        """
advanced_orchestration:
  max_concurrent_tasks: 7
  default_mode: "ADAPTIVE"
  enable_metrics: false
  task_execution: {timeout_seconds: 60, max_retries: 1, backoff_factor: 1.5}
  prioritization:
    {policy: weighted, time_weight: 0.1, dependency_weight: 0.2, complexity_weight: 0.3, base_priority_weight: 0.4}
  performance:
    {enable_parallel_execution: false, enable_resource_monitoring: false, enable_adaptive_scheduling: false}
""",
    )

    options = load_settings(config).options

    assert (options.max_concurrent_tasks, options.concurrency) == (7, 1)
    assert options.default_mode is OrchestrationMode.ADAPTIVE
    assert (options.task_timeout_seconds, options.max_retries, options.backoff_factor) == (60.0, 1, 1.5)
    assert options.prioritization.policy == "weighted"
    assert options.prioritization.base_priority_weight == 0.4
    assert not options.enable_metrics
    assert not options.enable_resource_monitoring
    assert not options.enable_adaptive_scheduling


def test_every_environment_variable_has_its_effect() -> None:
    """The seven of the specification, and the database."""
    found = load_settings(
        environ={
            "ADVANCED_ORCHESTRATION_MAX_CONCURRENT_TASKS": "9",
            "ADVANCED_ORCHESTRATION_DEFAULT_MODE": "simple",
            "ADVANCED_ORCHESTRATION_ENABLE_METRICS": "false",
            "ADVANCED_ORCHESTRATION_LOG_LEVEL": "debug",
            "ADVANCED_ORCHESTRATION_TASK_TIMEOUT": "12.5",
            "ADVANCED_ORCHESTRATION_RETRY_ATTEMPTS": "0",
            "ADVANCED_ORCHESTRATION_BACKOFF_FACTOR": "3",
            "ADVANCED_ORCHESTRATION_DATABASE": "/var/lib/orchestrations.db",
        }
    )

    options = found.options
    assert (options.max_concurrent_tasks, options.default_mode) == (9, OrchestrationMode.SIMPLE)
    assert (options.task_timeout_seconds, options.max_retries, options.backoff_factor) == (12.5, 0, 3.0)
    assert not options.enable_metrics
    assert (found.log_level, found.log_level_chosen) == ("DEBUG", True)
    assert found.database == Path("/var/lib/orchestrations.db")


def test_command_line_beats_environment_beats_file_beats_defaults(home: Path) -> None:
    """Each layer hides the ones below it, key by key."""
    config = written(
        home,
        "advanced_orchestration: {max_concurrent_tasks: 2, default_mode: simple, log_level: ERROR}\n"
        "storage: {database: file.db}\n",
    )
    environ = {
        "ADVANCED_ORCHESTRATION_DEFAULT_MODE": "adaptive",
        "ADVANCED_ORCHESTRATION_LOG_LEVEL": "warning",
        "ADVANCED_ORCHESTRATION_RETRY_ATTEMPTS": "",
    }

    found = load_settings(
        config, environ, {"advanced_orchestration.log_level": "DEBUG", "storage.database": None}
    )

    assert found.options.max_retries == 3, "an empty variable counts as absent"
    assert found.options.max_concurrent_tasks == 2
    assert found.options.default_mode is OrchestrationMode.ADAPTIVE
    assert found.log_level == "DEBUG"
    assert found.database == home / "file.db", "a relative path counts from the file that names it"


def test_a_time_limit_can_be_lifted(home: Path) -> None:
    """`null` in the file and `none` in the environment mean no limit."""
    config = written(home, "advanced_orchestration: {task_execution: {timeout_seconds: null}}")

    assert load_settings(config).options.task_timeout_seconds is None
    assert (
        load_settings(environ={"ADVANCED_ORCHESTRATION_TASK_TIMEOUT": "none"}).options.task_timeout_seconds
        is None
    )


def test_how_long_things_live_is_read_from_the_file(home: Path) -> None:
    """Leases, waits, retention and the time of a whole orchestration; `null` keeps for ever."""
    config = written(
        home,
        """
advanced_orchestration: {task_execution: {orchestration_timeout_seconds: 7200}}
storage:
  lease_seconds: 3
  control_wait_seconds: 0
  retention: {compact_after_seconds: 60, remove_after_seconds: null, keep_finished: 5}
""",
    )

    options = load_settings(config).options

    assert options.orchestration_timeout_seconds == 7200
    assert (options.lease_seconds, options.control_wait_seconds) == (3, 0)
    assert options.retention == RetentionOptions(
        compact_after_seconds=60, remove_after_seconds=None, keep_finished=5
    )


def test_a_bad_retention_or_lease_is_told_like_any_mistake(home: Path) -> None:
    """A lease that is too short, a negative age, a count that is none, a slip in a key."""
    config = written(
        home,
        """
storage:
  lease_seconds: 0.1
  control_wait_seconds: true
  retention:
    compact_after_seconds: -1
    remove_after: 5
    keep_finished: many
""",
    )

    assert mistakes(config) == [
        "my.yaml:3: storage.lease_seconds: is 0.1; expected at least 0.3.",
        "my.yaml:4: storage.control_wait_seconds: is True; expected a number.",
        "my.yaml:6: storage.retention.compact_after_seconds: is -1; expected at least 0.",
        "my.yaml:7: storage.retention.remove_after: unknown key 'remove_after'. Fix: write 'remove_after_seconds'.",
        "my.yaml:8: storage.retention.keep_finished: is 'many'; expected a whole number.",
    ]


def test_the_current_folder_is_never_looked_at(home: Path) -> None:
    """A cloned repository must not declare commands; the user's folder and the named file may."""
    (home / "elsewhere" / "advanced_orchestration.yaml").write_text("nonsense: 1")
    assert load_settings().source is None

    own = home / "config" / "advanced_orchestration.yaml"
    own.parent.mkdir()
    own.write_text("advanced_orchestration: {max_concurrent_tasks: 3}")
    named = written(home, "advanced_orchestration: {max_concurrent_tasks: 4}")

    assert load_settings().options.max_concurrent_tasks == 3
    assert load_settings(environ={"ADVANCED_ORCHESTRATION_CONFIG": str(named)}).source == named
    assert config_path(Path("x.yaml"), {"ADVANCED_ORCHESTRATION_CONFIG": str(named)}) == Path("x.yaml")


def test_systems_are_added_to_the_packaged_ones(home: Path) -> None:
    """A user's file keeps `codebase` unless it names it."""
    config = written(
        home,
        """
systems:
  local: {kind: command, commands: {count: {argv: [wc, -l, "{path}"], timeout_seconds: 10}}}
  python: {kind: function, functions: {sum: "mypackage.jobs:add_up"}, engine: thread}
  files: {kind: mcp, command: npx, args: [-y, server, /data]}
  remote: {kind: mcp, url: "https://example.org/mcp", headers: {Authorization: "Bearer ${TOKEN}"}}
""",
    )

    systems = load_settings(config, {"TOKEN": "s3cret"}).systems

    assert list(systems) == ["codebase", "local", "python", "files", "remote"]
    local, remote = systems["local"], systems["remote"]
    assert isinstance(local, CommandSettings)
    assert local.commands["count"].argv == ["wc", "-l", "{path}"]
    assert isinstance(remote, McpSettings)
    assert remote.headers == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(systems)


def test_a_packaged_system_can_be_replaced_and_removed(home: Path) -> None:
    """By its name; `null` removes it."""
    replaced = written(home, "systems: {codebase: {kind: function, functions: {only: 'os.path:basename'}}}")
    codebase = load_settings(replaced).systems["codebase"]
    assert isinstance(codebase, FunctionSettings)
    assert list(codebase.functions) == ["only"]

    removed = written(home, "systems: {codebase: null}")
    assert load_settings(removed).systems == {}


def test_all_mistakes_are_told_at_once_each_in_one_line(home: Path) -> None:
    """With the file's line, the value, what was expected, and the nearest right key."""
    config = written(
        home,
        """
advanced_orchestration:
  max_concurrent_taks: 3
  default_mode: fastest
  enable_metrics: perhaps
  task_execution:
    timeout_seconds: -1
    max_retries: many
    backoff_factor: true
  prioritization: {time_weight: .inf, policy: newest}
  performance: 5
max_retries: 3
model: {nam: some, temperature: true}
mcp_servers_file: mcp.json
storage: {synchronous: sometimes, database: "postgresql://host/db"}
sequential_thinking: {args: [1], comand: npx}
playbook_folders: [nowhere]
""",
    )

    assert mistakes(config) == [
        (
            "my.yaml:3: advanced_orchestration.max_concurrent_taks: unknown key 'max_concurrent_taks'. "
            "Fix: write 'max_concurrent_tasks'."
        ),
        (
            "my.yaml:4: advanced_orchestration.default_mode: is 'fastest'; "
            "expected one of SIMPLE, HIERARCHICAL, ADAPTIVE."
        ),
        "my.yaml:5: advanced_orchestration.enable_metrics: is 'perhaps'; expected true or false.",
        "my.yaml:7: advanced_orchestration.task_execution.timeout_seconds: is -1; expected a number over 0.",
        "my.yaml:8: advanced_orchestration.task_execution.max_retries: is 'many'; expected a whole number.",
        "my.yaml:9: advanced_orchestration.task_execution.backoff_factor: is True; expected a number.",
        "my.yaml:10: advanced_orchestration.prioritization.time_weight: is inf; expected a finite number.",
        (
            "my.yaml:10: advanced_orchestration.prioritization.policy: is 'newest'; "
            "expected 'upward_rank' or 'weighted'."
        ),
        (
            "my.yaml:11: advanced_orchestration.performance: is 5; expected keys (enable_parallel_execution, "
            "enable_resource_monitoring, enable_adaptive_scheduling)."
        ),
        (
            "my.yaml:12: max_retries: unknown key 'max_retries' here. "
            "Fix: put it at 'advanced_orchestration.task_execution.max_retries'."
        ),
        "my.yaml:13: model.name: is missing. Fix: add 'name'.",
        "my.yaml:13: model.temperature: is True; expected a number.",
        "my.yaml:13: model.nam: unknown key 'nam'. Fix: write 'name'.",
        (
            f"my.yaml:14: mcp_servers_file: there is no file {str(home / 'mcp.json')!r}. "
            "Fix: check the path, or remove the key."
        ),
        (
            "my.yaml:15: storage.database: databases at postgresql:// are not available yet. "
            "Fix: give the path of a file."
        ),
        "my.yaml:15: storage.synchronous: is 'sometimes'; expected 'normal' or 'full'.",
        "my.yaml:16: sequential_thinking.command: is missing. Fix: add 'command'.",
        "my.yaml:16: sequential_thinking.args[0]: is 1; expected text.",
        "my.yaml:16: sequential_thinking.comand: unknown key 'comand'. Fix: write 'command'.",
        (
            f"my.yaml:17: playbook_folders[0]: {str(home / 'nowhere')!r} is not a folder. "
            "Fix: create it or correct the path."
        ),
    ]


def test_mistakes_in_systems_are_told_like_the_others(home: Path) -> None:
    """Engines that are not there yet are refused by name; each kind's own keys are checked."""
    config = written(
        home,
        """
systems:
  weather: {kind: http, base_url: "http://x"}
  alita: {kind: alita, base_ulr: "http://x"}
  fine: {kind: command, commands: {a: {argv: ["true"]}}}
  none: {}
  text: hello
  auto: {kind: command, commands: {a: {argv: [true]}}}
  "a b": {kind: command, commands: {a: {argv: ["true"]}}}
  pool: {kind: function, engine: mpi, functions: {a: nocolon}}
  threads: {kind: function, workers: 3, functions: {a: "json:loads"}}
  agent: {kind: command, commands: {a: {argv: ["true"]}}}
  me: {kind: agent}
  often: {kind: command, rate: {requests: 0}, commands: {a: {argv: ["true"]}}}
  local:
    kind: command
    commands:
      count:
        argv: []
        timeout_second: 3
  both: {kind: mcp, command: x, url: "http://x/mcp"}
  empty: {kind: function, functions: {}}
""",
    )

    kinds = "command | function | mcp | http | alita | kgot | agent"
    assert mistakes(config) == [
        "my.yaml:3: systems.weather.operations: is missing. Fix: add 'operations'.",
        "my.yaml:4: systems.alita.base_ulr: unknown key 'base_ulr'. Fix: write 'base_url'.",
        f"my.yaml:6: systems.none.kind: is missing. Fix: add `kind: {kinds}`.",
        f"my.yaml:7: systems.text: is 'hello'; expected keys with `kind: {kinds}`.",
        "my.yaml:8: systems.auto: 'auto' is reserved: it lets the router choose. Fix: choose another name.",
        "my.yaml:9: systems.a b: is 'a b'; expected a name of letters, digits, `_`, `-` and `.`.",
        "my.yaml:10: systems.pool.engine: 'mpi' is not available yet (ranks of an MPI job). Fix: write thread.",
        "my.yaml:10: systems.pool.functions.a: is 'nocolon'; expected package.module:function.",
        "my.yaml:11: systems.threads: workers goes with `engine: process`.",
        (
            "my.yaml:12: systems.agent: 'agent' is of kind 'command'; the calling agent is the one system of kind "
            "'agent', and called so. Fix: write `agent: {kind: agent}`, or choose another name and kind."
        ),
        (
            "my.yaml:13: systems.me: 'me' is of kind 'agent'; the calling agent is the one system of kind 'agent', and "
            "called so. Fix: write `agent: {kind: agent}`, or choose another name and kind."
        ),
        "my.yaml:14: systems.often.rate.requests: is 0; expected at least 1.",
        "my.yaml:19: systems.local.commands.count.argv: is []; expected at least 1 entries.",
        (
            "my.yaml:20: systems.local.commands.count.timeout_second: unknown key 'timeout_second'. "
            "Fix: write 'timeout_seconds'."
        ),
        "my.yaml:21: systems.both: expected exactly one of `command` (stdio) and `url` (Streamable HTTP).",
        "my.yaml:22: systems.empty.functions: is {}; expected at least 1 entries.",
    ]


def test_a_system_without_its_secret_is_there_and_says_so_and_the_others_run(home: Path) -> None:
    """One missing variable must not keep everything else from starting."""
    config = written(
        home,
        """
systems:
  remote: {kind: mcp, url: "https://x/mcp", headers: {Authorization: "Bearer ${NO_SUCH_TOKEN}"}}
  local: {kind: command, commands: {a: {argv: ["true"]}}}
""",
    )

    found = load_settings(config, {})

    assert "local" in found.systems
    assert "remote" not in found.systems
    assert found.unusable_systems["remote"].kind == "mcp"
    assert (
        "environment variable NO_SUCH_TOKEN is not set. Fix: set NO_SUCH_TOKEN"
        in found.unusable_systems["remote"].reason
    )


def test_a_system_of_an_unknown_kind_is_there_and_says_so_and_the_others_run(home: Path) -> None:
    """With the nearest kind, else with all; other mistakes, also of the name, stop the start as ever."""
    text = """
systems:
  typo: {kind: comand, whatever: 1}
  old: {kind: ftp, url: "${NO_SUCH_URL}"}
  secret: {kind: "${HUSH}"}
  codebase: {kind: gone}
  local: {kind: command, commands: {a: {argv: ["true"]}}}
"""
    config = written(home, text)

    found = load_settings(config, {"HUSH": "hunter2-hunter2"})

    assert list(found.systems) == ["local"], "not the packaged namesake either"
    told = {name: (each.kind, each.reason) for name, each in found.unusable_systems.items()}
    unset_fix = "Fix: set NO_SUCH_URL, or write $${ for a literal ${."
    kinds = "the kinds are command, function, mcp, http, alita, kgot, agent."
    assert told == {
        "typo": (
            "comand",
            f"{config}:3: systems.typo.kind: 'comand' is no kind of system. Fix: write 'command'.",
        ),
        "old": (
            "ftp",
            f"{config}:4: systems.old.url: environment variable NO_SUCH_URL is not set. {unset_fix}",
        ),
        "secret": (
            "${HUSH}",
            f"{config}:5: systems.secret.kind: '${{HUSH}}' is no kind of system. Fix: {kinds}",
        ),
        "codebase": ("gone", f"{config}:6: systems.codebase.kind: 'gone' is no kind of system. Fix: {kinds}"),
    }
    assert [*found.warnings] == [f"System {name!r} can't run: {reason}" for name, (_, reason) in told.items()]
    assert mistakes(written(home, "systems: {agent: {kind: ftp}, auto: {kind: ftp}}")) == [
        (
            "my.yaml:1: systems.agent: 'agent' is of kind 'ftp'; the calling agent is the one system of kind "
            "'agent', and called so. Fix: write `agent: {kind: agent}`, or choose another name and kind."
        ),
        "my.yaml:1: systems.auto: 'auto' is reserved: it lets the router choose. Fix: choose another name.",
    ]


def test_two_systems_of_one_name_are_neither_and_the_others_run(home: Path) -> None:
    """Nobody can say which was meant; a key that stands twice inside a system is a mistake as ever."""
    twice = """
systems:
  a: {kind: function, functions: {x: "os:getpid"}}
  b: {kind: function, functions: {x: "os:getpid"}}
  a: {kind: mcp, command: x}
  c: {kind: mcp, command: x}
  c:
"""
    config = written(home, twice)

    found = load_settings(config)

    assert list(found.systems) == ["codebase", "b"]
    assert {name: (each.kind, each.reason) for name, each in found.unusable_systems.items()} == {
        "a": ("mcp", f"{config}:5: systems.a: stands on line 3 already. Fix: keep one."),
        "c": ("unknown", f"{config}:7: systems.c: stands on line 6 already. Fix: keep one."),
    }
    assert mistakes(written(home, "systems:\n  a: {kind: mcp, command: x, command: y}")) == [
        "my.yaml:2: systems.a.command: stands on line 2 already. Fix: keep one."
    ]


def test_a_bad_environment_variable_is_named() -> None:
    """Whoever set it must find it."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(
            environ={
                "ADVANCED_ORCHESTRATION_TASK_TIMEOUT": "soon",
                "ADVANCED_ORCHESTRATION_LOG_LEVEL": "loud",
            }
        )

    assert str(caught.value) == (
        "The configuration has 2 mistakes:\n"
        "  environment variable ADVANCED_ORCHESTRATION_TASK_TIMEOUT: is 'soon'; expected a number.\n"
        "  environment variable ADVANCED_ORCHESTRATION_LOG_LEVEL: is 'loud'; "
        "expected 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'."
    )


def test_an_odd_variable_is_mentioned_but_stops_nothing() -> None:
    """Another version of this program may know it; a slip is worth a line."""
    found = load_settings(
        environ={
            "ADVANCED_ORCHESTRATION_TASK_TIMEOUTS": "3",
            **dict.fromkeys(GIVEN_VARIABLES, "a:b:1"),
        }
    )

    assert found.warnings == (
        (
            "Environment variable ADVANCED_ORCHESTRATION_TASK_TIMEOUTS means nothing to this program. "
            "Did you mean ADVANCED_ORCHESTRATION_TASK_TIMEOUT?"
        ),
    )


def test_every_variable_a_command_is_given_is_known() -> None:
    """A command may run this program again, which must not wonder about them."""
    assert set(GIVEN_VARIABLES) == set(command.GIVEN_VARIABLES)


def test_environment_variables_stand_in_values(home: Path) -> None:
    """`${NAME}` anywhere in a value, `$${` for the text itself."""
    config = written(
        home,
        "advanced_orchestration: {max_concurrent_tasks: '${SLOTS}'}\n"
        "systems: {s: {kind: command, commands: {c: {argv: [echo, 'a${X}b${X}', '$${task.path}']}}}}\n",
    )

    found = load_settings(config, {"SLOTS": "6", "X": "ü"})

    system = found.systems["s"]
    assert found.options.max_concurrent_tasks == 6
    assert isinstance(system, CommandSettings)
    assert system.commands["c"].argv == ["echo", "aübü", "${task.path}"]


def test_a_variable_that_is_not_set_is_a_mistake_and_secrets_are_never_printed(home: Path) -> None:
    """A message quotes what the file says, not what the environment holds."""
    config = written(
        home,
        "advanced_orchestration:\n  max_concurrent_tasks: ${SECRET}\n  log_level: ${MISSING}\n"
        "storage:\n  database: ${no name}\n"
        "systems:\n  x: {kind: mcp, url: 'ftp://${SECRET}'}\n",
    )

    found = mistakes(config, {"SECRET": "hunter2"})

    assert found == [
        "my.yaml:2: advanced_orchestration.max_concurrent_tasks: is '${SECRET}'; expected a whole number.",
        (
            "my.yaml:3: advanced_orchestration.log_level: environment variable MISSING is not set. "
            "Fix: set MISSING, or write $${ for a literal ${."
        ),
        (
            "my.yaml:5: storage.database: '${no name}' names no environment variable. "
            "Fix: write ${NAME} with letters, digits and _, or $${ for a literal ${."
        ),
        "my.yaml:7: systems.x: url is 'ftp://${SECRET}'; expected http://… or https://….",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: [1",
            "my.yaml:2:1: broken YAML: while parsing a flow sequence, did not find expected ',' or ']'. ",
        ),
        (
            "- a list",
            "my.yaml: holds list; expected keys with values. Fix: begin with `advanced_orchestration:`",
        ),
        ("storage: {}\nstorage: {}", "my.yaml:2: storage: stands on line 1 already. Fix: keep one."),
        ("1: x", "my.yaml:1: key '1' is not text. Fix: put it in quotes."),
        ("a: !!python/object:os.system x", "my.yaml:1:4: broken YAML: could not determine a constructor"),
        ("systems: [1]", "my.yaml:1: systems: is [1]; expected systems by name."),
    ],
)
def test_a_broken_file_says_where(home: Path, text: str, expected: str) -> None:
    """YAML that can't be read is told with line and column."""
    assert mistakes(written(home, text))[0].startswith(expected)


def test_a_file_that_cannot_be_read_says_why(home: Path) -> None:
    """A missing file, a folder, another encoding, something far too large."""
    binary = home / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    large = home / "large.yaml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))

    assert mistakes(home / "none.yaml") == [
        "my.yaml: there is no such configuration file. Fix: check the path."
    ]
    assert mistakes(home) == ["my.yaml: is a folder; expected a YAML file."]
    assert mistakes(binary) == ["my.yaml: is not UTF-8 text (byte 0). Fix: save it as UTF-8."]
    assert mistakes(large) == ["my.yaml: is over 1,048,576 bytes; is it a configuration file?"]


def test_an_empty_file_and_empty_sections_change_nothing(home: Path) -> None:
    """A file somebody only began is no mistake."""
    assert load_settings(written(home, "")).options == OrchestratorOptions()
    assert (
        load_settings(written(home, "advanced_orchestration:\nsystems:\n")).options == OrchestratorOptions()
    )


def test_aliases_may_not_blow_a_small_file_up(home: Path) -> None:
    """A file whose aliases mean millions of values is refused instead of read."""
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]

    assert mistakes(written(home, "\n".join(layers))) == [
        "my.yaml: can't be read as YAML: it stands for over 100,000 values."
    ]


def test_settings_are_frozen_and_thinking_can_stay_inside(home: Path) -> None:
    """`in-process` needs no program; nobody changes settings afterwards."""
    found = load_settings(written(home, "sequential_thinking: in-process"))

    assert found.sequential_thinking is None
    assert Settings.model_config["frozen"] is True
    assert mistakes(written(home, "sequential_thinking: off-process")) == [
        "my.yaml:1: sequential_thinking: is 'off-process'; expected 'in-process' or {command: …, args: […]}."
    ]
