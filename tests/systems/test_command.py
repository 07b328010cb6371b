"""Declared commands as tools."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from orchestration.errors import AttemptTimeoutError
from orchestration.systems.command import (
    GIVEN_VARIABLES,
    INHERITED,
    CommandParameter,
    CommandSpec,
    CommandSystem,
)
from orchestration.systems.marked_processes import DRIVER_VARIABLE, MARK_VARIABLE
from tests.systems.support import IDEMPOTENCY_KEY, a_request, failure_of, is_alive, pids_in, until

pytestmark = pytest.mark.anyio


def sh(script: str, *more: str, **fields: Any) -> CommandSpec:
    """Return a command that runs a fixed shell script; `more` are its $1, $2, …"""
    return CommandSpec(argv=["sh", "-c", script, "sh", *more], **fields)


def one(spec: CommandSpec, **options: Any) -> CommandSystem:
    """Return a system of one command, called `c`."""
    return CommandSystem({"c": spec}, **options)


async def run(spec: CommandSpec, **arguments: Any) -> Any:
    """Run a command and return its output."""
    return await one(spec).execute(a_request("c", arguments))


async def error_of(spec: CommandSpec, **arguments: Any) -> str:
    """Return the code and the message a command fails with."""
    error = await failure_of(one(spec), a_request("c", arguments))
    return f"{error.code} {error.retryable}: {error}"


async def test_an_argument_is_one_argv_item_whatever_it_holds() -> None:
    """No shell sees it: quotes, spaces, dollars and newlines arrive as they are."""
    value = "a b; $(rm -rf x) `id` 'q' \"d\" * \n \\ é"

    output = await run(CommandSpec(argv=["printf", "%s|", "{text}", "x={text}"]), text=value)

    assert output == {"text": f"{value}|x={value}|", "exit_code": 0}


async def test_only_names_in_braces_are_placeholders() -> None:
    """Other braces stay, and a doubled pair writes a name in braces literally."""
    spec = CommandSpec(argv=["printf", "%s|", "{print $1}", "{{name}}", '{"a":{"b":1}}', "{a}-{b}"])

    output = await run(spec, a=1, b=2)

    assert output["text"] == '{print $1}|{name}|{"a":{"b":1}}|1-2|'
    assert spec.placeholders == ["a", "b"]


async def test_scalars_are_written_as_text() -> None:
    """Truth values as true and false, numbers as JSON writes them."""
    output = await run(CommandSpec(argv=["printf", "%s ", "{a}", "{b}", "{c}"]), a=True, b=1.5, c=-0.0 + 7)

    assert output["text"] == "true 1.5 7.0 "


async def test_a_value_that_looks_like_an_option_is_refused() -> None:
    """A task can't slip options to a program; a path can be written with ./ in front."""
    error = await error_of(CommandSpec(argv=["ls", "{path}"]), path="--color")

    assert error == (
        "invalid_arguments False: Command 'c' can't be run like this: argument 'path' is '--color', which the program "
        "could take for an option (write a path as './-name'; the declaration may allow it: allow_leading_dash). "
        "It takes: path."
    )


@pytest.mark.parametrize(
    "spec",
    [
        CommandSpec(
            argv=["printf", "%s", "{x}"], parameters={"x": CommandParameter(allow_leading_dash=True)}
        ),
        CommandSpec(argv=["printf", "--", "%s", "{x}"]),
        CommandSpec(argv=["printf", "%s", "x={x}"]),
    ],
)
async def test_a_leading_dash_is_allowed_where_it_can_do_no_harm(spec: CommandSpec) -> None:
    """Where the declaration allows it, after `--`, and behind a literal beginning."""
    assert (await run(spec, x="-5"))["text"].endswith("-5")


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        (CommandParameter(), None, "argument 'x' is missing"),
        (
            CommandParameter(),
            [1],
            "argument 'x' is [1]; expected text, a number or true/false, not a list or object",
        ),
        (CommandParameter(), "a\0b", "argument 'x' holds a NUL character"),
        (CommandParameter(max_length=3), "four", "argument 'x' has 4 characters; the limit is 3"),
        (CommandParameter(type="integer"), "many", "argument 'x' is 'many'; expected a whole number"),
        (CommandParameter(type="integer"), 1.5, "argument 'x' is 1.5; expected a whole number"),
        (CommandParameter(type="number"), True, "argument 'x' is True; expected a number"),
        (CommandParameter(type="boolean"), "yes", "argument 'x' is 'yes'; expected true or false"),
        (CommandParameter(type="string"), 5, "argument 'x' is 5; expected text"),
        (CommandParameter(choices=["a", "b"]), "c", "argument 'x' is 'c'; expected one of 'a', 'b'"),
    ],
)
async def test_a_wrong_value_is_refused_before_anything_runs(
    parameter: CommandParameter, value: Any, message: str
) -> None:
    """With the value found, what was expected, and no retry."""
    error = await error_of(CommandSpec(argv=["echo", "{x}"], parameters={"x": parameter}), x=value)

    assert error.startswith(f"invalid_arguments False: Command 'c' can't be run like this: {message}")


async def test_an_unknown_argument_is_refused_with_the_nearest_one() -> None:
    """It would be lost silently."""
    error = await error_of(CommandSpec(argv=["echo", "{path}"]), path="x", pth="y")

    assert "there is no argument 'pth' (did you mean 'path'?)" in error


async def test_typed_values_may_be_given_as_text_and_defaults_fill_in() -> None:
    """Templates of references put numbers into text."""
    parameters = {"n": CommandParameter(type="integer"), "unit": CommandParameter(default="s")}
    spec = CommandSpec(argv=["printf", "%s", "{n}{unit}"], parameters=parameters)

    assert (await run(spec, n="12"))["text"] == "12s"
    assert spec.json_schema()["required"] == ["n"]


async def test_the_schema_tells_types_choices_and_defaults() -> None:
    """Whoever plans sees what a command takes."""
    parameters = {
        "n": CommandParameter(type="integer", description="how many"),
        "how": CommandParameter(type="string", choices=["up", "down"], default="up"),
    }
    spec = CommandSpec(argv=["x", "{n}", "{how}", "{free}"], parameters=parameters)

    assert spec.json_schema() == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "how many"},
            "how": {"type": "string", "enum": ["up", "down"], "default": "up"},
            "free": {"type": ["string", "integer", "number", "boolean"]},
        },
        "required": ["n", "free"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"argv": []}, "at least 1 item"),
        ({"argv": [""]}, r"argv\[0\], the program, is empty"),
        ({"argv": ["{program}"]}, "the program itself can't be a placeholder; declare one command each"),
        ({"argv": ["a", "b\0"]}, "argv holds a NUL character"),
        (
            {"argv": ["a", "{x}"], "parameters": {"y": {}}},
            "parameters.y stands nowhere in argv; its placeholders",
        ),
        ({"argv": ["a"], "shell": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_declaration_is_refused(fields: dict[str, Any], message: str) -> None:
    """When it is made, not when it runs."""
    with pytest.raises(ValidationError, match=message):
        CommandSpec(**fields)


async def test_the_environment_is_small_and_has_the_idempotency_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets of the server stay out; what is declared comes in."""
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LANG", "C.UTF-8")

    output = await run(CommandSpec(argv=["env"], env={"MINE": "1"}))

    found = dict(line.split("=", 1) for line in output["text"].splitlines())
    assert found["MINE"] == "1"
    assert found["LANG"] == "C.UTF-8"
    assert found["ADVANCED_ORCHESTRATION_IDEMPOTENCY_KEY"] == IDEMPOTENCY_KEY
    assert found["ADVANCED_ORCHESTRATION_ATTEMPT_ID"] == "t#1"
    assert set(found) <= {*INHERITED, *GIVEN_VARIABLES, "MINE", "PWD", "SHLVL", "_"}


async def test_a_command_is_told_who_runs_it_and_has_a_mark_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two runs have two marks; where this program is a command itself, its own mark stands before them."""
    monkeypatch.setenv(MARK_VARIABLE, "outer")
    system = one(CommandSpec(argv=["env"]))

    outputs: list[Any] = [await system.execute(a_request("c", driver="driver-1")) for _ in range(2)]

    first, second = (dict(line.split("=", 1) for line in output["text"].splitlines()) for output in outputs)
    assert set(first) >= set(GIVEN_VARIABLES)
    assert first[DRIVER_VARIABLE] == "driver-1"
    assert first[MARK_VARIABLE].startswith("outer.")
    assert first[MARK_VARIABLE] != second[MARK_VARIABLE]


async def test_it_runs_in_the_declared_folder(tmp_path: Path) -> None:
    """And in no other."""
    (tmp_path / "here").touch()

    assert (await run(CommandSpec(argv=["ls"], cwd=tmp_path)))["text"] == "here\n"


async def test_inputs_come_on_standard_input_only_where_declared() -> None:
    """Else standard input is empty; a program that does not read it does no harm."""
    inputs: dict[str, Any] = {"up": {"text": "x" * 300_000}}
    reads = CommandSpec(argv=["cat"], stdin="inputs", output="json")
    ignores = CommandSpec(argv=["true"], stdin="inputs")

    assert await one(reads).execute(a_request("c", inputs=inputs)) == inputs
    assert await one(ignores).execute(a_request("c", inputs=inputs)) == {"text": "", "exit_code": 0}
    assert await run(CommandSpec(argv=["cat"])) == {"text": "", "exit_code": 0}
    assert one(reads).takes_inputs("c")
    assert one(reads).takes_inputs(None)
    assert not one(CommandSpec(argv=["cat"])).takes_inputs("c")


async def test_a_non_zero_exit_is_a_failure_that_ends_with_the_last_lines_of_stderr() -> None:
    """Of many lines the last ones; the code is told."""
    error = await error_of(sh("seq 1 500 >&2; echo the reason >&2; exit 3"))

    assert error.startswith("command_failed True: Command 'c' ended with exit code 3:\n")
    assert error.endswith("499\n500\nthe reason")
    assert "\n100\n" not in error


async def test_a_failure_without_stderr_tells_what_was_written_to_stdout() -> None:
    """Some programs explain themselves there; some not at all."""
    assert (await error_of(sh("echo sorry; exit 1"))).endswith("ended with exit code 1:\nsorry")
    assert (await error_of(sh("exit 1"))).endswith("ended with exit code 1.")


async def test_a_program_ended_by_a_signal_says_which() -> None:
    """Not by a negative number."""
    assert "ended with signal SIGKILL" in await error_of(sh("kill -9 $$"))


async def test_json_output_is_the_value_and_anything_else_a_failure() -> None:
    """NaN is no JSON, and neither is an empty output."""
    assert await run(CommandSpec(argv=["echo", '{"a": [1, null]}'], output="json")) == {"a": [1, None]}
    for text in ("{oops", "", "NaN"):
        error = await error_of(CommandSpec(argv=["echo", text], output="json"))
        assert error.startswith(
            "invalid_output False: Command 'c' declares `output: json`, but wrote no JSON ("
        )


async def test_output_that_is_no_utf8_is_still_text() -> None:
    """Bytes that mean nothing are replaced, not fatal."""
    assert (await run(sh(r"printf '\377ok'")))["text"] == "\N{REPLACEMENT CHARACTER}ok"


async def test_too_much_output_ends_the_command_and_is_a_failure() -> None:
    """Nothing is cut silently, and an endless writer does not fill the memory."""
    error = await error_of(CommandSpec(argv=["yes"], max_output_bytes=10_000))

    assert error == (
        "output_too_large False: Command 'c' wrote more than 10000 bytes and was ended. Fix: write less, or raise "
        "max_output_bytes in its declaration."
    )
    assert len((await run(sh("head -c 10000 /dev/zero", max_output_bytes=10_000)))["text"]) == 10_000


async def test_much_stderr_is_no_problem() -> None:
    """Only its end is kept."""
    assert (await run(sh("yes | head -c 3000000 >&2; echo fine")))["text"] == "fine\n"


async def test_the_declared_time_limit_ends_the_command() -> None:
    """With the code of every timeout."""
    system = one(CommandSpec(argv=["sleep", "60"], timeout_seconds=0.1))

    with pytest.raises(
        AttemptTimeoutError, match=r"Command 'c' was ended after its time limit of 0.1 s."
    ) as caught:
        await system.execute(a_request("c"))
    assert caught.value.retryable


async def test_a_missing_program_folder_or_permission_is_clear_and_not_retried(tmp_path: Path) -> None:
    """Each with what to do about it."""
    file = tmp_path / "file"
    file.write_text("x")

    assert await error_of(CommandSpec(argv=["no-such-program"])) == (
        "program_not_found False: Command 'c' can't start: there is no program 'no-such-program' on the PATH. "
        "Fix: install it, or give its full path."
    )
    assert await error_of(CommandSpec(argv=["ls"], cwd=tmp_path / "no")) == (
        f"folder_not_found False: Command 'c' can't start: there is no folder '{tmp_path / 'no'}'. "
        "Fix: make it, or change `cwd`."
    )
    assert await error_of(CommandSpec(argv=[str(file)])) == (
        f"program_not_executable False: Command 'c' can't start: '{file}' may not be executed. Fix: make it executable."
    )


async def test_check_names_each_missing_program_and_folder(tmp_path: Path) -> None:
    """And says how many commands there are when all is well."""
    bad = CommandSystem(
        {
            "a": CommandSpec(argv=["no-such-program"]),
            "b": CommandSpec(argv=["ls"], cwd=tmp_path / "no"),
            "c": CommandSpec(argv=["ls"]),
        }
    )

    health = await bad.check()

    assert not health.ok
    assert health.detail == (
        f"missing: program 'no-such-program' (command 'a'), folder '{tmp_path / 'no'}' (command 'b')"
    )
    assert (await one(CommandSpec(argv=["ls"])).check()).detail == "1 commands"


async def test_check_finds_a_program_relative_to_its_folder(tmp_path: Path) -> None:
    """As the system itself would."""
    program = tmp_path / "mine"
    program.write_text("#!/bin/sh\necho me\n")
    program.chmod(0o755)
    spec = CommandSpec(argv=["./mine"], cwd=tmp_path)

    assert (await one(spec).check()).ok
    assert (await run(spec))["text"] == "me\n"


async def test_cancelling_ends_a_program_that_ignores_sigterm_and_its_children(tmp_path: Path) -> None:
    """After the grace everything in the group is killed."""
    pids = tmp_path / "pids"
    script = (
        'trap "" TERM; sleep 300 & (echo $!; echo $$) > "$1.new"; mv "$1.new" "$1"; while :; do sleep 1; done'
    )
    system = one(sh(script, str(pids)), kill_grace_seconds=0.2)

    async with anyio.create_task_group() as attempts:
        attempts.start_soon(system.execute, a_request("c"))
        await until(pids.exists)
        attempts.cancel_scope.cancel()

    assert [pid for pid in pids_in(pids) if is_alive(pid)] == []


async def test_cancelling_lets_a_program_clean_up(tmp_path: Path) -> None:
    """SIGTERM comes first, and the grace is long enough for a trap."""
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    script = 'trap "echo done > $2; exit" TERM; touch "$1"; while :; do sleep 0.05; done'

    async with anyio.create_task_group() as attempts:
        attempts.start_soon(one(sh(script, str(ready), str(cleaned))).execute, a_request("c"))
        await until(ready.exists)
        attempts.cancel_scope.cancel()

    assert cleaned.read_text() == "done\n"


async def test_a_command_ends_with_its_program(tmp_path: Path) -> None:
    """What it left in the background does not hold the attempt up, and does not stay."""
    pids = tmp_path / "pids"

    with anyio.fail_after(5):
        output = await run(sh('sleep 300 & echo $! > "$1"; echo hi', str(pids)))

    assert output["text"] == "hi\n"
    await until(lambda: not is_alive(pids_in(pids)[0]))


DAEMON = """setsid sh -c 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 300' sh "$1" %s &
while [ ! -f "$1" ]; do :; done; """
"""Starts something in a session of its own, and goes on when it has written its process id to $1."""

QUIET = "</dev/null >/dev/null 2>&1"


@pytest.mark.parametrize(
    ("script", "ends_well"),
    [
        (DAEMON % "" + "echo hi", True),
        (DAEMON % QUIET + "sleep 300 & echo hi", True),
        (DAEMON % QUIET + "exit 3", False),
        (DAEMON % QUIET + "kill -9 $$", False),
    ],
    ids=["holds the output open", "left more in the group", "exit code", "signal"],
)
async def test_a_program_that_does_not_end_tidily_leaves_no_daemon(
    tmp_path: Path, script: str, ends_well: bool
) -> None:
    """Another session is no hiding place, and nobody waits for its open pipes."""
    pids = tmp_path / "pids"
    system = one(sh(script, str(pids)))

    try:
        with anyio.fail_after(5):
            if ends_well:
                assert await system.execute(a_request("c")) == {"text": "hi\n", "exit_code": 0}
            else:
                await failure_of(system, a_request("c"))
        assert not is_alive(pids_in(pids)[0])
    finally:
        end_group_of(pids)


async def test_a_daemon_put_up_by_the_rules_of_daemons_stays(tmp_path: Path) -> None:
    """A session of its own, no open pipe, and the program ended well: as a shell would, we let it live."""
    pids = tmp_path / "pids"

    try:
        with anyio.fail_after(5):
            await run(sh(DAEMON % QUIET + "exit 0", str(pids)))
        assert is_alive(pids_in(pids)[0])
    finally:
        end_group_of(pids)


def end_group_of(pids: Path) -> None:
    """End the daemons whose process ids a file lists."""
    for pid in pids_in(pids):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


async def test_every_output_is_a_sign_of_life() -> None:
    """On standard output and on standard error, while the command runs."""
    beats: list[int] = []
    script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three"

    await one(sh(script)).execute(a_request("c", heartbeat=lambda: beats.append(1)))

    assert len(beats) == 3


@pytest.mark.parametrize(
    ("spec", "code", "effect_open"),
    [
        (sh("exit 3"), "command_failed", False),
        (sh("exit 129"), "command_failed", False),
        (sh("kill -9 $$"), "command_failed", True),
        (sh("kill -TERM $$"), "command_failed", True),
        (sh("sh -c 'kill -9 $$'; exit $?"), "command_failed", True),
        (sh("sleep 60", timeout_seconds=0.1), "timeout", True),
        (CommandSpec(argv=["yes"], max_output_bytes=1000), "output_too_large", True),
        (CommandSpec(argv=["echo", "x"], output="json"), "invalid_output", True),
        (CommandSpec(argv=["no-such-program"]), "program_not_found", False),
        (CommandSpec(argv=["ls"], cwd=Path("/no/such")), "folder_not_found", False),
        (CommandSpec(argv=["echo", "{x}"]), "invalid_arguments", False),
    ],
)
async def test_a_failure_says_whether_it_leaves_the_effect_open(
    spec: CommandSpec, code: str, effect_open: bool
) -> None:
    """An exit code is an answer; a signal, a limit or an unreadable result is none."""
    error = await failure_of(one(spec), a_request("c"))

    assert (error.code, error.effect_open) == (code, effect_open)


def test_the_fingerprint_follows_what_a_command_does() -> None:
    """Not its limits, its descriptions, or the other commands; and nothing of it can be read back."""
    base = CommandSpec(argv=["deploy", "{to}"], env={"TOKEN": "hush"})
    same = base.model_copy(update={"description": "Deploys", "timeout_seconds": 5.0, "max_output_bytes": 10})
    others = [
        base.model_copy(update={"argv": ["deploy", "--now", "{to}"]}),
        base.model_copy(update={"env": {"TOKEN": "other"}}),
        base.model_copy(update={"env": {"SECRET": "hush"}}),
        base.model_copy(update={"cwd": Path("/a")}),
        base.model_copy(update={"stdin": "inputs"}),
        base.model_copy(update={"output": "json"}),
        base.model_copy(update={"parameters": {"to": CommandParameter(default="here")}}),
    ]

    found = {one(spec).fingerprint("c") for spec in (base, same)}

    assert len(found) == 1
    assert len(found | {one(spec).fingerprint("c") for spec in others}) == 8
    assert CommandSystem({"c": base, "d": others[0]}).fingerprint("c") in found
    assert CommandSystem({"c": base, "d": others[0]}).fingerprint(None) not in found
    assert one(base).fingerprint("d") == ""


async def test_an_unknown_command_names_the_declared_ones() -> None:
    """Never anything else is run."""
    error = await failure_of(one(CommandSpec(argv=["ls"])), a_request("rm"))

    assert (error.code, error.retryable) == ("unknown_tool", False)
    assert (
        str(error)
        == "tool is 'rm'; expected a tool of system 'local': c. Fix: name one of these, or another system."
    )
