"""Behaves as the program KGoT does, with all its oddities, and without a model.

    python tests/standins/kgot_standin.py --db_choice networkX --controller_choice directRetrieve -i 7 single -p "…"

How it behaves is told by the environment variable `KGOT_STANDIN` (which the system has to declare in its `env`):
`answer` (the default), `forced`, `lines` (a solution of several), `two-solutions`, `empty`, `none`, `rate-limit`,
`unreachable`, `type-error`, `authentication`, `unknown`, `silent`, `docker`, `neo4j`, `terminated`, `killed`, `flood`,
`wait` (with a child; both ids go to the file `KGOT_STANDIN_PIDS`), `tell` (its arguments and surroundings), `leak`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

MODEL = "gpt-4o-mini"
RED, END = "\033[1;31m\033[4m", "\033[0m"
VALUED = {
    *("--db_choice", "--controller_choice", "-i", "--iterations", "--num_next_steps_decision"),
    *("--max_final_solution_parsing", "--max_retrieve_query_retry", "--max_cypher_fixing_retry"),
    *("--max_tool_retries", "--max_llm_retries", "--tool_choice", "--llm-plan", "--llm-exec"),
}


def usage_error(reason: str) -> NoReturn:
    """End as argparse does."""
    print(f"usage: kgot [-h] [-i ] {{single}} ...\nkgot: error: {reason}", file=sys.stderr)
    sys.exit(2)


def read_arguments(argv: list[str]) -> tuple[dict[str, str], str, list[str]]:
    """Return the options, the question and the files; options come before `single`."""
    options: dict[str, str] = {}
    rest = list(argv)
    while rest and rest[0] != "single":
        name = rest.pop(0)
        if name not in VALUED or not rest:
            usage_error(f"unrecognized arguments: {name}")
        options[name] = rest.pop(0)
    if not rest:
        usage_error("the following arguments are required: command")
    rest.pop(0)
    if not rest or rest.pop(0) not in ("-p", "--problem") or not rest:
        usage_error("the following arguments are required: -p/--problem")
    question = rest.pop(0)
    if question.startswith("-"):
        usage_error("argument -p/--problem: expected one argument")
    files: list[str] = []
    if rest:
        if rest.pop(0) != "--files":
            usage_error("unrecognized arguments")
        files = rest
    return options, question, files


def crash(kind: str, message: str) -> NoReturn:
    """End as an exception that nobody handles does."""
    print("Traceback (most recent call last):\n  …", file=sys.stderr)
    print(
        f"2026-01-01 00:00:00 - CRITICAL: Exiting due to uncaught exception {kind}: {message}",
        file=sys.stderr,
    )
    sys.exit(1)


def start_up(options: dict[str, str], files: list[str]) -> dict[str, Any]:
    """Look at what is needed at the start."""
    if options.get("--db_choice", "neo4j") == "neo4j":
        print(f"{RED}Failed to connect to Neo4j instance!{END}")
        sys.exit(1)
    for file in files:
        if not Path(file).is_file():
            print(f"{RED}File '{file}' does not exist{END}")
            sys.exit(1)
    for name in ("kgot/config_llms.json", "kgot/config_tools.json"):
        if not Path(name).exists():
            crash("FileNotFoundError", f"[Errno 2] No such file or directory: '{name}'")
    models: dict[str, Any] = json.loads(Path("kgot/config_llms.json").read_text())
    if MODEL not in models:
        crash("KeyError", f"'{MODEL}'")
    if len({Path(file).parent for file in files}) > 1:
        crash("FileNotFoundError", "only the first file's folder is looked into")
    return models


def log_call(name: str, cost: float) -> None:
    """Add a call to the log of costs."""
    line = {"FunctionName": name, "StartTime": 1.0, "EndTime": 2.0, "Model": MODEL}
    with Path("llm_cost.json").open("a") as file:
        file.write(json.dumps({**line, "PromptTokens": 100, "CompletionTokens": 20, "Cost": cost}) + "\n")


def trace(iterations: int, *, ends: bool) -> None:
    """Write the trace of a run."""
    for iteration in range(1, iterations + 1):
        print(f"Current iteration: {iteration}")
        log_call("define_next_step", 0.001)
        kind = "RETRIEVE" if ends and iteration == iterations else "INSERT"
        print(f"\033[1;32mLLM returned next step {kind}, because the graph lacks facts\033[0m", flush=True)
    if not ends:
        print("Maximum iterations reached without solution, forcing one", flush=True)
    log_call("parse_solution", 0.0005)


def read_task(task: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the tool a question asks for, its arguments and its inputs."""
    named = re.search(r"^Use the tool: (.+)$", task, re.MULTILINE)
    arguments = re.search(r"<arguments>\n(.*?)\n</arguments>", task, re.DOTALL)
    inputs = re.findall(r'<input task="(.*?)" shortened="no">\n(.*?)\n</input>', task, re.DOTALL)
    tool = named[1] if named else ""
    return (
        tool,
        json.loads(arguments[1]) if arguments else {},
        {name: json.loads(text) for name, text in inputs},
    )


def solve(task: str) -> str:
    """Return the solution of a question."""
    tool, arguments, inputs = read_task(task)
    if tool == "add":
        return str(arguments["a"] + arguments.get("b", 2))
    if tool == "fail":
        crash("RuntimeError", arguments["message"])
    if tool == "show":
        return json.dumps(inputs)
    if tool == "key":
        return os.environ.get("ADVANCED_ORCHESTRATION_IDEMPOTENCY_KEY", "")
    if tool == "wait":
        wait()
    return f"I was asked: {task}"


def wait() -> None:
    """Wait for ever, with a child."""
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "300"])
    path = Path(os.environ["KGOT_STANDIN_PIDS"])
    new = path.with_suffix(".new")
    new.write_text(f"{child.pid}\n{os.getpid()}\n")
    new.rename(path)
    time.sleep(300)


def surroundings(options: dict[str, str], question: str, files: list[str]) -> str:
    """Return what it was started with and sees."""
    folder = {
        "workdir": str(Path.cwd()),
        "workdir_mode": oct(Path().stat().st_mode & 0o777),
        "config_mode": oct(Path("kgot/config_llms.json").stat().st_mode & 0o777),
    }
    told = {"options": options, "question": question, "files": files, "env": dict(os.environ), **folder}
    return json.dumps(told)


CRASHES = {
    "rate-limit": ("RateLimitError", "Error code: 429 - {'error': {'message': 'Rate limit reached'}}"),
    "unreachable": ("TypeError", "'int' object is not callable"),
    "type-error": ("TypeError", "unsupported operand type(s)"),
    "authentication": ("AuthenticationError", "Error code: 401 - Incorrect API key provided: {key}"),
    "unknown": ("SomethingOdd", "it broke"),
}


def main() -> None:
    """Run as the environment says."""
    if len(sys.argv) == 1:
        print(f"{RED}No arguments provided. At least one command is required.{END}\n")
        sys.exit(0)
    options, question, files = read_arguments(sys.argv[1:])
    mode = os.environ.get("KGOT_STANDIN", "answer")
    if mode == "docker":
        print(f"{RED}Failed to connect to Docker instance!{END}")
        sys.exit(1)
    models = start_up(options, files)
    key = models[MODEL].get("api_key", "")
    if mode in CRASHES:
        kind, message = CRASHES[mode]
        log_call("define_next_step", 0.001)
        crash(kind, message.replace("{key}", key))
    run(mode, options, question, files, key)


def run(mode: str, options: dict[str, str], question: str, files: list[str], key: str) -> None:
    """Run a question whose start went well."""
    if mode == "silent":
        sys.exit(1)
    if mode in ("terminated", "killed"):
        if mode == "terminated":
            sys.exit(143)
        os.kill(os.getpid(), 9)
    if mode == "flood":
        while True:
            print("x" * 10_000)
    if mode == "wait":
        wait()
    iterations = int(options.get("-i", 7))
    solution = {
        "lines": "first line\n\nsecond: Solution: no\n  third line",
        "two-solutions": "right\nSolution: really right",
        "empty": "",
        "leak": f"the key is {key}",
    }.get(mode)
    if mode == "tell":
        solution = surroundings(options, question, files)
    if solution is None:
        solution = solve(question)
    trace(iterations if mode == "forced" else min(2, iterations), ends=mode != "forced")
    if mode == "leak":
        print(f"LLM returned next step INSERT, {key}", flush=True)
    with Path("llm_cost.json").open("a") as file:
        file.write('{"FunctionName": "half a li')
    if mode != "none":
        print(f"Solution: {solution}")


if __name__ == "__main__":
    main()
