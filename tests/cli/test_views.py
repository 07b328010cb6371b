"""What `status`, `export` and `simulate` show of parts, plans and places."""

from __future__ import annotations

from tests.cli.support import CommandLine

NESTED = """
dag_id: nested
tasks:
  - {task_id: each, system_preference: jobs, tool: double, foreach: [1, 2, 3], arguments: {number: "${item}"}}
  - {task_id: work, depends_on: [each]}
  - {task_id: one, parent: work, system_preference: jobs, tool: double, arguments: {number: 1}}
  - {task_id: two, parent: work, system_preference: jobs, tool: fail, max_retries: 0, depends_on: [one],
     arguments: {message: broken},
     fallback: {system_preference: jobs, tool: double, arguments: {number: 2}}}
  - {task_id: end, system_preference: jobs, tool: double, arguments: {number: 1}, depends_on: [work]}
"""


def nested(cli: CommandLine) -> None:
    """Run a DAG with a list and a task with parts, one of which is saved by its fallback."""
    cli.write("nested.yaml", NESTED)
    assert cli.inside("run", "nested.yaml").code == 0


def test_tasks_are_folded_unless_asked_otherwise(cli: CommandLine) -> None:
    """All of them, indented; or the parts of one."""
    nested(cli)

    folded = cli.inside("status", "nested-1", "--tasks").out
    unfolded = cli.inside("status", "nested-1", "--view", "tasks", "--unfold").out
    parts = cli.inside("status", "nested-1", "--tasks", "--task", "work", "--json").document
    none = cli.inside("status", "nested-1", "--tasks", "--task", "end")
    unknown = cli.inside("status", "nested-1", "--tasks", "--task", "works")

    assert [line.split()[0] for line in folded.splitlines()] == ["TASK", "each", "work", "end"]
    assert "3 of 3 parts done" in folded
    assert "2 of 2 parts done" in folded
    assert "\n  one " in unfolded
    assert "\n  each[2] " in unfolded
    assert [(task["task_id"], task["parent"]) for task in parts["tasks"]] == [
        ("one", "work"),
        ("two", "work"),
    ]
    assert none.out == "end has no parts.\n"
    assert (unknown.code, "has no task 'works'" in unknown.err) == (2, True)


def test_progress_counts_what_runs(cli: CommandLine) -> None:
    """Tasks with parts are told, and not counted."""
    cli.write("nested.yaml", NESTED)

    answer = cli.inside("run", "nested.yaml")

    assert "each: one part for each of 3 items" in answer.err
    assert "two: its fallback takes over" in answer.err
    assert "work: completed with its parts" in answer.err
    assert answer.out.startswith("nested-1 completed: 6 completed in ")


def test_drawings_fold_and_unfold(cli: CommandLine) -> None:
    """Of an orchestration and of a file; YAML leaves the items to the next run."""
    nested(cli)

    folded = cli.inside("export", "nested-1", "--format", "mermaid").out
    unfolded = cli.inside("export", "nested-1", "--format", "mermaid", "--unfold").out
    clusters = cli.inside("export", "nested.yaml", "--format", "dot", "--unfold").out
    graph = cli.inside("status", "nested-1", "--view", "graph").out
    yaml = cli.inside("export", "nested-1").out

    assert '[["work<br/>2 of 2 parts done"]]:::completed' in folded
    assert 'subgraph t1["work<br/>2 of 2 parts done"]' in unfolded
    assert '"each[1]"' in unfolded
    assert "subgraph cluster_t1 {" in clusters
    assert graph == folded
    assert "each[0]" not in yaml
    assert "task_id: one" in yaml


def test_why_a_task_is_as_it_is(cli: CommandLine) -> None:
    """Where it went and why, and what happened, in order."""
    nested(cli)

    answer = cli.inside("status", "nested-1", "--view", "why", "--task", "two")
    document = cli.inside("status", "nested-1", "--view", "why", "--task", "two", "--json").document
    nameless = cli.inside("status", "nested-1", "--view", "why")

    lines = answer.out.splitlines()
    assert lines[0] == "Task:   two of nested-1"
    assert lines[1] == "Status: completed"
    assert lines[3] == "System: jobs, tool double: its fallback took over; the task names it"
    assert [event["told"] for event in document["events"]] == [
        "attempt 1 started on jobs",
        "attempt 1 failed: type_error: broken",
        "its fallback takes over",
        "attempt 2 started on jobs",
        "attempt 2 succeeded",
    ]
    assert (nameless.code, "--task is None; expected the task that --view why is about" in nameless.err) == (
        2,
        True,
    )


def test_why_this_plan(cli: CommandLine) -> None:
    """Of a stored plan, and of what was run of it."""
    goal = "Report on the health of this Python codebase"
    plan_id = cli.inside("decompose", goal, "--json").document["plan_id"]

    answer = cli.inside("status", plan_id, "--view", "plan")
    document = cli.inside("status", plan_id, "--view", "plan", "--json").document
    unknown = cli.inside("status", "plan-x-1", "--view", "plan")

    assert answer.out.startswith(f"Plan:     {plan_id}\nGoal:     {goal}\nMade by:  playbook:")
    assert "  1. " in answer.out
    assert document["thoughts"][0]["number"] == 1
    assert (unknown.code, "There is no orchestration 'plan-x-1'" in unknown.err) == (2, True)


def test_simulate_says_where_tasks_would_go_and_who_must_agree(cli: CommandLine) -> None:
    """And why, with where the figures come from; nothing is stored."""
    cli.write(
        "plan.yaml",
        "dag_id: plan\ntasks:\n"
        "  - {task_id: list, tool: double, estimated_time_seconds: 2}\n"
        '  - {task_id: each, tool: say, foreach: "${list}", depends_on: [list], approval: person}\n'
        "  - {task_id: end, tool: sing, depends_on: [each]}\n",
    )

    answer = cli.inside("simulate", "plan.yaml", "--items", "3", "--workers", "1")
    document = cli.inside("simulate", "plan.yaml", "--json").document
    alone = cli.inside("simulate", "plan.yaml", "--no-systems", "--json").document

    assert "Tasks:         5, at most 1 at once\n" in answer.out
    assert "Makespan:      10.0 s\n" in answer.out
    assert "Estimates:     Durations: 1 from the plan, 2 the mean of the others.\n" in answer.out
    assert "assumed: 3 items for each, whose list is known only during the run\n" in answer.out
    assert "needs a yes: each, from a person\n" in answer.out
    assert "missing: tasks[2].tool: nothing can run task 'end'" in answer.out
    assert "it is the first with the tool 'double'" in answer.out
    assert (document["can_run"], document["width"], document["approvals"]) == (False, 1, {"each": "person"})
    assert [task["system"] for task in document["tasks"]] == ["jobs", "local", None]
    assert (alone["can_run"], alone["problems"], alone["makespan_seconds"]) == (None, [], 6.0)
    assert not (cli.folder / "state.db").exists()


def test_a_run_that_may_ask_waits_for_an_answer(cli: CommandLine) -> None:
    """`--ask`: a task without an alternative is told with the commands that say how to go on, and waits."""
    from tests.cli.support import started
    from tests.cli.test_approving import read_until

    cli.write(
        "job.yaml",
        "dag_id: job\ntasks:\n"
        "  - {task_id: load, system_preference: jobs, tool: fail, max_retries: 0, arguments: {message: broken}}\n"
        '  - {task_id: use, system_preference: jobs, tool: double, arguments: {number: "${load}"},'
        " depends_on: [load]}\n",
    )
    with started(cli, "run", "job.yaml", "--mode", "adaptive", "--ask") as process:
        lines = read_until(process, "give it up:")
        status = cli.inside("status", "job-1")
        decided = cli.inside("decide", "job-1", "load", "done", "--output", "21")
        out, _ = process.communicate(timeout=20)

    assert any(line.startswith("load asks how to go on: ") for line in lines)
    assert "  run it again as it is:     advanced-orchestration decide job-1 load retry" in lines
    assert any("advanced-orchestration edit job-1 --op" in line for line in lines)
    assert "running (1 to answer)" in status.out
    assert "load asks how to go on: " in status.out
    assert decided.code == 0
    assert (process.returncode, out.startswith("job-1 completed: 2 completed")) == (0, True)
