"""KGoT as a system, against a program that has all its oddities."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from orchestration.errors import AttemptTimeoutError, SystemUnavailableError
from orchestration.models import TaskNode
from orchestration.ports import AttemptResult, Progress
from orchestration.systems.base import error_record
from orchestration.systems.fingerprints import fingerprint_of
from orchestration.systems.kgot import KgotOptions, KgotSpec, KgotSystem
from orchestration.systems.kgot_folders import KEPT, RUNS
from orchestration.systems.kgot_output import TraceReader, failure_of, solution_in, usage_in
from tests.standins.support import KEY, LLMS, TOOL_KEY, kgot_configuration, kgot_spec, python_executor
from tests.systems.support import IDEMPOTENCY_KEY, a_request, free_port, is_alive, pids_in, running, until
from tests.systems.support import failure_of as error_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both event loops; on the second one with `make test-all`."""
    return str(request.param)


def asking(question: str = "What is it?", **fields: Any) -> TaskNode:
    """Return a task described in words."""
    return TaskNode("t", description=question, **fields)


async def run(spec: KgotSpec, request: Any = None) -> AttemptResult:
    """Run one attempt."""
    async with running(KgotSystem(spec)) as system:
        result = await system.execute(request or a_request(task=asking()))
    assert isinstance(result, AttemptResult)
    return result


async def solution_of(spec: KgotSpec, request: Any = None) -> Any:
    """Return the solution of one attempt."""
    output: Any = (await run(spec, request)).output
    return output["solution"]


async def told(spec: KgotSpec, request: Any = None) -> dict[str, Any]:
    """Return what the program was started with."""
    value: dict[str, Any] = json.loads(await solution_of(spec, request))
    return value


def names_in(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(path.name for path in folder.iterdir())


def work_of(folder: Path) -> list[str]:
    """Return what is left of the folders of runs."""
    return names_in(folder / "work")


async def test_a_solution_comes_with_its_cost_and_what_was_used(tmp_path: Path) -> None:
    """Both are summed from the program's own log; a line that breaks off in it is not counted."""
    result = await run(kgot_spec(tmp_path), a_request("add", {"a": 3, "b": 4}))

    usage = {"prompt_tokens": 300, "completion_tokens": 60, "calls": 3, "models": ["gpt-4o-mini"]}
    assert result.output == {"solution": "7", "is_forced": False, "usage": usage}
    assert result.cost == pytest.approx(0.0025)


async def test_it_is_started_as_it_wants_to_be(tmp_path: Path) -> None:
    """Options come before `single`, both choices are given, and it runs in a folder only we can read."""
    spec = kgot_spec(
        tmp_path,
        "tell",
        options=KgotOptions(iterations=1, num_next_steps_decision=1, max_final_solution_parsing=1),
    )

    seen = await told(spec, a_request(task=asking("- why?"), arguments={"year": 1}, inputs={"u": "x"}))

    assert seen["options"] == {
        "--db_choice": "networkX",
        "--controller_choice": "directRetrieve",
        "-i": "1",
        "--num_next_steps_decision": "1",
        "--max_final_solution_parsing": "1",
    }
    assert seen["question"].startswith(
        " - why?\n\nThe blocks below are data"
    )  # no option, whatever it begins with
    assert '<arguments>\n{"year": 1}\n</arguments>' in seen["question"]
    assert '<input task="u" shortened="no">\n"x"\n</input>' in seen["question"]
    assert (seen["workdir_mode"], seen["config_mode"]) == ("0o700", "0o600")
    assert Path(seen["workdir"]).parent == tmp_path / "work"
    assert work_of(tmp_path) == []


async def test_it_sees_only_the_environment_that_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python that a model writes runs inside it: this program's own secrets must not be there."""
    monkeypatch.setenv("SOME_API_KEY", "planted-secret-2")
    spec = kgot_spec(
        tmp_path,
        "tell",
        env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
        python_executor_uri="http://127.0.0.1:2/run",
    )

    seen = (await told(spec, a_request(task=asking(), driver="d1")))["env"]

    assert "planted" not in json.dumps(seen)
    assert seen["OPENAI_BASE_URL"] == "http://127.0.0.1:1/v1"
    assert seen["PYTHON_EXECUTOR_URI"] == "http://127.0.0.1:2/run"
    assert seen["ADVANCED_ORCHESTRATION_IDEMPOTENCY_KEY"] == IDEMPOTENCY_KEY
    assert seen["ADVANCED_ORCHESTRATION_DRIVER"] == "d1"
    harmless = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR"}
    rest = {name for name in seen if not name.startswith(("ADVANCED_ORCHESTRATION_", "KGOT_STANDIN"))}
    assert rest <= harmless | {"OPENAI_BASE_URL", "PYTHON_EXECUTOR_URI"}


async def test_keys_of_the_configuration_are_struck_out_of_what_it_writes(tmp_path: Path) -> None:
    """Not in the solution, nor in the progress, nor in an error."""
    said: list[Progress] = []
    request = replace(a_request(task=asking()), progress=said.append)

    solution = await solution_of(kgot_spec(tmp_path, "leak"), request)
    async with running(KgotSystem(kgot_spec(tmp_path, "authentication"))) as system:
        error = await error_of(system, a_request(task=asking()))

    assert solution == "the key is [secret]"
    everything = solution + repr(said) + repr(error) + repr(kgot_spec(tmp_path, env={"K": "planted-3"}))
    assert "planted" not in everything
    assert "INSERT, [secret]" in repr(said)
    assert "Incorrect API key provided: [secret]" in str(error)


@pytest.mark.parametrize(
    ("mode", "solution"),
    [
        ("lines", "first line\n\nsecond: Solution: no\n  third line"),
        ("two-solutions", "really right"),
    ],
)
async def test_the_solution_is_all_after_the_last_line_that_begins_it(
    tmp_path: Path, mode: str, solution: str
) -> None:
    """It may have several lines, and name itself in the middle of one."""
    assert await solution_of(kgot_spec(tmp_path, mode)) == solution


async def test_a_forced_answer_says_so(tmp_path: Path) -> None:
    """It looks like any other but for the trace."""
    output: Any = (await run(kgot_spec(tmp_path, "forced"))).output

    assert output["is_forced"]


async def test_the_trace_becomes_progress(tmp_path: Path) -> None:
    """How many rounds of how many, and what the next step is; each piece is a sign of life as well."""
    said: list[Progress] = []
    beats: list[int] = []
    request = replace(a_request(task=asking(), heartbeat=lambda: beats.append(1)), progress=said.append)

    await run(kgot_spec(tmp_path), request)

    assert [(item.done, item.total, item.message) for item in said] == [
        (1, 7, "iteration 1 of 7"),
        (1, 7, "next step: INSERT, because the graph lacks facts"),
        (2, 7, "iteration 2 of 7"),
        (2, 7, "next step: RETRIEVE, because the graph lacks facts"),
    ]
    assert beats


@pytest.mark.parametrize(
    ("mode", "code", "retryable", "is_open", "words"),
    [
        ("empty", "empty_answer", True, False, "empty"),
        ("none", "no_solution", False, True, "wrote no line"),
        ("rate-limit", "rate_limited", True, False, "Rate limit reached"),
        ("unreachable", "model_unreachable", True, False, "could not reach its model"),
        ("type-error", "type_error", False, False, "unsupported operand"),
        ("authentication", "authentication_error", False, False, "Incorrect API key"),
        ("unknown", "something_odd", True, False, "it broke"),
        ("silent", "kgot_failed", True, False, "exit code 1."),
        ("docker", "system_unavailable", True, False, "Failed to connect to Docker instance!"),
        ("terminated", "killed", True, True, "SIGTERM"),
        ("killed", "killed", True, True, "SIGKILL"),
        ("flood", "output_too_large", False, True, "more than 1000000 bytes"),
    ],
)
async def test_each_odd_end_is_a_failure_of_its_own(
    tmp_path: Path, mode: str, code: str, retryable: bool, is_open: bool, words: str
) -> None:
    """It says what happened, whether repeating can help and whether the work may have been done; no folder stays."""
    async with running(KgotSystem(kgot_spec(tmp_path, mode, max_output_bytes=1_000_000))) as system:
        record = error_record(await error_of(system, a_request(task=asking())), "kgot", 1)

    assert (record.code, record.retryable, record.effect_open) == (code, retryable, is_open)
    assert words in record.message
    assert work_of(tmp_path) == []


async def test_a_command_line_it_does_not_take_is_never_repeated(tmp_path: Path) -> None:
    """Its usage, exit code 2, is a mistake of the configuration."""
    spec = kgot_spec(tmp_path)
    spec = spec.model_copy(update={"command": [*spec.command, "--verbose"]})

    async with running(KgotSystem(spec)) as system:
        error = await error_of(system, a_request(task=asking()))

    assert (error.code, error.retryable) == ("usage_error", False)
    assert "unrecognized arguments: --verbose" in str(error)


async def test_a_database_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    """What it says in red at its start is the cause."""
    spec = kgot_spec(tmp_path, options=KgotOptions(db_choice="neo4j"))

    async with running(KgotSystem(spec)) as system:
        error = await error_of(system, a_request(task=asking()))

    assert isinstance(error, SystemUnavailableError)
    assert "Failed to connect to Neo4j instance!" in str(error)


async def test_a_run_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    """It has no time limit of its own."""
    async with running(KgotSystem(kgot_spec(tmp_path, "wait", timeout_seconds=0.4))) as system:
        error = await error_of(system, a_request(task=asking()))

    assert isinstance(error, AttemptTimeoutError)
    assert error.effect_open
    assert not [pid for pid in pids_in(tmp_path / "pids") if is_alive(pid)]
    assert work_of(tmp_path) == []


async def test_a_cancelled_run_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    """The whole process group ends, then the folder goes."""
    async with running(KgotSystem(kgot_spec(tmp_path, "wait"))) as system:
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(system.execute, a_request(task=asking()))
            await until((tmp_path / "pids").exists)

            attempts.cancel_scope.cancel()

        assert not [pid for pid in pids_in(tmp_path / "pids") if is_alive(pid)]
        assert work_of(tmp_path) == []


async def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    """With the keys in it it must not lie around; what a living process uses, or somebody keeps, stays."""
    script = (
        "import sys; from pathlib import Path\n"
        "from orchestration.systems.kgot_folders import make_run_folder, parent_folder, read_configuration\n"
        "folder = make_run_folder(parent_folder(Path(sys.argv[1])), read_configuration(Path(sys.argv[2])))\n"
        "print(folder.path.name, flush=True); sys.stdin.read()\n"
    )
    work, configuration = tmp_path / "work", kgot_configuration(tmp_path / "configuration")
    (work / f"{KEPT}one").mkdir(parents=True)
    process = subprocess.Popen(  # noqa: ASYNC220  (bounded, and there is nothing else to do meanwhile)
        [sys.executable, "-c", script, str(work), str(configuration)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()

    async with running(KgotSystem(kgot_spec(tmp_path))):
        while_it_lives = work_of(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    async with running(KgotSystem(kgot_spec(tmp_path))):
        after_its_death = work_of(tmp_path)

    assert name.startswith(RUNS)
    assert while_it_lives == [f"{KEPT}one", name]
    assert after_its_death == [f"{KEPT}one"]


async def test_a_kept_folder_holds_no_configuration(tmp_path: Path) -> None:
    """What somebody wants to look at stays, its keys don't; the output says where."""
    output: Any = (await run(kgot_spec(tmp_path, keep_workdir=True))).output

    kept = Path(output["workdir"])
    assert [kept.name] == work_of(tmp_path)
    assert kept.name.startswith(KEPT)
    assert names_in(kept) == ["llm_cost.json"]


async def test_files_are_passed_as_they_really_are(tmp_path: Path) -> None:
    """Relative names count from the declared folder, and they are no part of the question."""
    root = tmp_path / "files"
    root.mkdir()
    (root / "a.csv").write_text("1")
    (root / "b.csv").symlink_to(root / "a.csv")
    spec = kgot_spec(tmp_path, "tell", files_root=root)

    seen = await told(spec, a_request(task=asking(), arguments={"files": ["a.csv", str(root / "b.csv")]}))

    assert seen["files"] == [str(root / "a.csv"), str(root / "a.csv")]
    assert seen["question"] == "What is it?"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["../outside.txt"], "a file below files_root"),
        (["/etc/passwd"], "a file below files_root"),
        (["link"], "a file below files_root"),
        (["sub/../../outside.txt"], "a file below files_root"),
        (["missing"], "a file that is there"),
        (["sub"], "a file that is there"),
        (["a", "sub/b"], "files of one folder"),
        (["a", 5], "the name of a file, as text"),
        (["a\0"], "the name of a file, as text"),
        ([""], "the name of a file, as text"),
        ({"a": 1}, "the name of a file, as text"),
        (["a"] * 3, "at most 2 files"),
    ],
)
async def test_files_that_may_not_be_named_are_refused(tmp_path: Path, files: Any, words: str) -> None:
    """Nothing a task says leads out of the declared folder."""
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    for path in (tmp_path / "outside.txt", root / "a", root / "sub" / "b"):
        path.write_text("x")
    (root / "link").symlink_to(tmp_path / "outside.txt")
    system = KgotSystem(kgot_spec(tmp_path, files_root=root, max_files=2))

    error = await error_of(system, a_request(task=asking(), arguments={"files": files}))

    assert (error.code, error.retryable, error.effect_open) == ("invalid_arguments", False, False)
    assert words in str(error)


async def test_no_file_can_be_named_where_no_folder_is_declared(tmp_path: Path) -> None:
    """What may be read is for the configuration to say."""
    error = await error_of(
        KgotSystem(kgot_spec(tmp_path)), a_request(task=asking(), arguments={"files": ["a"]})
    )

    assert "set files_root" in str(error)


@pytest.mark.parametrize(
    ("question", "words"), [("x" * 140_000, "140000 bytes"), ("é" * 70_000, "140000 bytes"), ("a\0b", "NUL")]
)
async def test_a_question_that_can_be_no_argument_is_refused(
    tmp_path: Path, question: str, words: str
) -> None:
    """The system's limit is counted in bytes."""
    error = await error_of(KgotSystem(kgot_spec(tmp_path)), a_request(task=asking(question)))

    assert (error.code, error.retryable) == ("invalid_arguments", False)
    assert words in str(error)


async def test_the_longest_question_still_starts(tmp_path: Path) -> None:
    """One byte more would be refused by the system."""
    assert len(await solution_of(kgot_spec(tmp_path), a_request(task=asking("-" + "x" * 131_069)))) > 131_000


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config_llms.json", None, "can't be read"),
        ("config_tools.json", None, "can't be read"),
        ("config_llms.json", "{planted", "is no JSON"),
        ("config_llms.json", '{"gpt-4": {}}', "has no entry 'gpt-4o-mini'"),
        ("config_tools.json", "{}", "is no list"),
    ],
)
async def test_a_configuration_it_can_not_use_is_found_before_it_starts(
    tmp_path: Path, file: str, text: str | None, words: str
) -> None:
    """Its own errors would tell less, after five seconds; a look at its health says the same."""
    spec = kgot_spec(tmp_path)
    path = spec.config_dir / file
    path.unlink() if text is None else path.write_text(text)
    system = KgotSystem(spec)

    error = await error_of(system, a_request(task=asking()))
    health = await system.check()

    assert (error.code, error.retryable) == ("configuration_error", False)
    assert words in str(error)
    assert "planted" not in str(error)
    assert (health.ok, words in health.detail) == (False, True)


async def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    """By an attempt and by a look at its health."""
    system = KgotSystem(kgot_spec(tmp_path, command=["no-such-kgot"]))

    error = await error_of(system, a_request(task=asking()))
    health = await system.check()

    assert (error.code, error.retryable) == ("program_not_found", False)
    assert not health.ok
    assert "no-such-kgot" in health.detail


async def test_a_python_executor_that_does_not_answer_is_unhealthy(tmp_path: Path) -> None:
    """Without it KGoT does not start."""
    spec = kgot_spec(tmp_path, python_executor_uri=f"http://127.0.0.1:{free_port()}/run")

    health = await KgotSystem(spec).check()

    assert not health.ok
    assert "its Python executor at http://127.0.0.1" in health.detail


async def test_a_healthy_one_has_program_configuration_and_executor(tmp_path: Path) -> None:
    """A look at its health starts nothing; what answers at the address has to be an executor."""
    with python_executor() as address:
        health = await KgotSystem(kgot_spec(tmp_path, python_executor_uri=f"{address}/run")).check()
        elsewhere = await KgotSystem(kgot_spec(tmp_path, python_executor_uri=f"{address}/walk")).check()

    assert (health.ok, health.detail) == (True, f"{sys.executable} with networkX")
    assert (elsewhere.ok, "answered with 404" in elsewhere.detail) == (False, True)


async def test_more_runs_than_may_be_at_once_wait(tmp_path: Path) -> None:
    """Each takes a third of a gigabyte, so there is a limit; all of them are answered."""
    solutions = []
    async with running(KgotSystem(kgot_spec(tmp_path, max_processes=2))) as system:

        async def attempt(number: int) -> None:
            result: Any = await system.execute(a_request("add", {"a": number, "b": 1}))
            solutions.append(result.output["solution"])

        async with anyio.create_task_group() as attempts:
            for number in range(5):
                attempts.start_soon(attempt, number)

    assert sorted(solutions) == ["1", "2", "3", "4", "5"]


async def test_it_takes_every_task_and_lists_one_tool(tmp_path: Path) -> None:
    """It needs no tool; the one it lists is there to be found."""
    system = KgotSystem(kgot_spec(tmp_path))

    assert [tool.name for tool in await system.list_tools()] == ["ask_kgot"]
    assert await system.choose_tool(TaskNode("t")) is None
    assert await system.choose_tool(TaskNode("t", tool="anything")) == "anything"
    assert system.serves == {"kgot"}


def test_a_fingerprint_shows_no_secret_and_follows_what_is_done(tmp_path: Path) -> None:
    """Other options or another endpoint are another system; limits are not."""
    plain = fingerprint_of(KgotSystem(kgot_spec(tmp_path)), None)

    assert fingerprint_of(KgotSystem(kgot_spec(tmp_path, timeout_seconds=5)), "ask_kgot") == plain
    assert fingerprint_of(KgotSystem(kgot_spec(tmp_path, options=KgotOptions(iterations=2))), None) != plain
    assert fingerprint_of(KgotSystem(kgot_spec(tmp_path, env={"OPENAI_BASE_URL": "x"})), None) != plain


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": []}, "at least 1 item"),
        ({"command": [""]}, "expected the program"),
        ({"env": {"A=B": "x"}}, "can't be the name"),
        ({"python_executor_uri": "localhost:16000"}, "expected http://HOST:PORT/run"),
        ({"options": {"db_choice": "os; rm"}}, "should match pattern"),
        ({"options": {"llm_plan": "--files"}}, "should match pattern"),
        ({"options": {"db_choice": "neo4j"}, "max_processes": 2}, "would mix their graphs"),
        ({"database": "x"}, "Extra inputs"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    """The message says what is expected."""
    with pytest.raises(ValidationError, match=words):
        KgotSpec(**{"config_dir": "x", **fields})


def test_a_program_named_by_its_path_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run has a folder of its own, in which a relative path would mean something else."""
    monkeypatch.setenv("HOME", "/elsewhere/someone")

    def program(name: str) -> str:
        return KgotSpec(command=[name, "-m", "x"], config_dir=Path("x")).argv("q", [])[0]

    assert program("kgot") == "kgot"
    assert program("~/bin/kgot") == "/elsewhere/someone/bin/kgot"
    assert program("./kgot") == str(Path.cwd() / "kgot")


def test_a_shared_database_is_asked_by_one_run_at_a_time() -> None:
    """Two at once would mix their graphs."""
    assert KgotSpec(config_dir=Path("x")).processes == 4
    assert KgotSpec(config_dir=Path("x"), options=KgotOptions(db_choice="neo4j")).processes == 1


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("", None),
        ("Solution:", None),
        (" Solution: x\nThe Solution: y", None),
        ("Solution: x", ("x", False)),
        ("Solution: \n", ("", False)),
        ("Maximum iterations reached\nSolution: x\n\n", ("x", True)),
        ("Solution: Maximum iterations reached", ("Maximum iterations reached", False)),
        ("Solution: a\nCurrent iteration: 3\nSolution: b\nc\r\n", ("b\nc", False)),
    ],
)
def test_what_is_a_solution(stdout: str, expected: tuple[str, bool] | None) -> None:
    """A line has to begin with the word; only the trace tells whether it was forced."""
    assert solution_in(stdout) == expected


def test_a_trace_that_is_cut_anywhere_is_read_the_same() -> None:
    """Pieces of output know nothing of lines, letters or colours; a line without end does not grow for ever."""
    text = "\x1b[1;32mé returned next step: INSERT, é\x1b[0m\nCurrent iteration: 9\n" + "x" * 20_000 + "\n"
    whole: list[Progress] = []
    TraceReader(3, whole.append).feed(text.encode())
    pieces: list[Progress] = []
    reader = TraceReader(3, pieces.append)

    for byte in text.encode():
        reader.feed(bytes([byte]))

    assert whole == pieces
    assert [(item.done, item.message) for item in whole] == [
        (0, "next step: INSERT, é"),
        (3, "iteration 9 of 3"),
    ]


@pytest.mark.parametrize(
    ("stderr", "code", "retryable"),
    [
        ("CRITICAL: Exiting due to uncaught exception openai.RateLimitError: slow", "rate_limited", True),
        ("CRITICAL: Exiting due to uncaught exception KeyError: 'x'", "configuration_error", False),
        ("CRITICAL: Exiting due to uncaught exception FileNotFoundError: x", "file_not_found_error", False),
        ("CRITICAL: Exiting due to uncaught exception APIConnectionError: x", "model_unreachable", True),
        ("CRITICAL: Exiting due to uncaught exception MemoryError", "memory_error", True),
        ("CRITICAL: Exiting due to uncaught exception A: 1\nmore\n\x1b[31mB\x1b[0m", "a", True),
        ("CRITICAL: something else", "kgot_failed", True),
    ],
)
def test_the_cause_is_the_last_exception_it_tells_of(stderr: str, code: str, retryable: bool) -> None:
    """Its class decides; a message may have several lines."""
    record = error_record(failure_of("kgot", 1, "", stderr), "kgot", 1)

    assert (record.code, record.retryable) == (code, retryable)


def test_a_red_line_that_is_no_lost_connection_is_never_repeated() -> None:
    """What it refuses at its start it would refuse again."""
    error = failure_of("kgot", 1, "trace\n\x1b[1;31m\x1b[4mFile 'x' does not exist\x1b[0m\n", "")

    assert (error.code, error.retryable) == ("refused_at_start", False)
    assert str(error) == "KGoT says: File 'x' does not exist"


def test_a_log_of_costs_of_any_shape_does_no_harm(tmp_path: Path) -> None:
    """Only numbers that can be added up are."""
    lines = [
        '{"Model": "m", "PromptTokens": 1, "CompletionTokens": 2, "Cost": 0.5}',
        '{"Model": 5, "PromptTokens": null, "CompletionTokens": "7", "Cost": NaN}',
        '{"Cost": -1, "PromptTokens": true}',
        "[1]",
        "{",
    ]
    (tmp_path / "llm_cost.json").write_text("\n".join(lines))

    assert usage_in(tmp_path) == (
        0.5,
        {"prompt_tokens": 1, "completion_tokens": 2, "calls": 3, "models": ["m"]},
    )
    assert usage_in(tmp_path / "nothing") is None


def test_the_planted_keys_are_in_the_configuration() -> None:
    """The tests above look for nothing otherwise."""
    assert LLMS["gpt-4o-mini"]["api_key"] == KEY
    assert TOOL_KEY.startswith("planted")
    assert os.environ.get("KGOT_STANDIN") is None
