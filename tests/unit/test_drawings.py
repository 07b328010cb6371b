"""Drawings of tasks with parts, and of what replaced what: folded by default, unfolded into frames, nothing lost."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from orchestration.dag import TaskDAG
from orchestration.dag_file import load_dag
from orchestration.drawings import Replaced, part_of
from orchestration.exports import export, to_dot, to_mermaid, without_items
from orchestration.folding import parts_of
from orchestration.models import TaskEdge, TaskNode, TaskStatus
from tests.engine_kit import graph

DONE, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED


def nested() -> TaskDAG:
    """`get`, then `work` with two parts, the second with two of its own, then `end`."""
    return graph(
        [
            TaskNode("get", status=DONE),
            TaskNode("work", description="Do it", status=TaskStatus.EXPANDED),
            TaskNode("first", parent="work", status=DONE),
            TaskNode("second", parent="work", status=TaskStatus.EXPANDED),
            TaskNode("inner-1", parent="second", status=FAILED),
            TaskNode("inner-2", parent="second"),
            TaskNode("end"),
        ],
        *("get work", "work end", "first second", "inner-1 inner-2"),
    )


def test_a_task_with_parts_is_one_box_that_says_how_far_they_came() -> None:
    """Folded is the default: parts and the edges among them are left out."""
    assert to_mermaid(nested()) == (
        "flowchart TD\n"
        '    t0["get"]:::completed\n'
        '    t1[["work<br/>Do it<br/>1 of 2 parts done"]]:::expanded\n'
        '    t6["end"]:::pending\n'
        "    t0 --> t1\n"
        "    t1 --> t6\n"
        "    classDef pending fill:#f1f3f5,stroke:#868e96,color:#212529\n"
        "    classDef expanded fill:#e3fafc,stroke:#0c8599,color:#212529\n"
        "    classDef completed fill:#b2f2bb,stroke:#2b8a3e,color:#212529\n"
    )
    assert [line for line in to_dot(nested()).splitlines() if "peripheries=2" in line] == [
        '    t1 [label="work\\nDo it\\n1 of 2 parts done", fillcolor="#e3fafc", color="#0c8599", peripheries=2];'
    ]


def test_unfolded_every_task_with_parts_is_a_frame_around_them() -> None:
    """Frames inside frames, and an edge to a task with parts leads to its frame."""
    lines = to_mermaid(nested(), unfold=True).splitlines()

    assert lines[1:14] == [
        '    t0["get"]:::completed',
        '    subgraph t1["work<br/>Do it<br/>1 of 2 parts done"]',
        '        t2["first"]:::completed',
        '        subgraph t3["second<br/>0 of 2 parts done, 1 failed"]',
        '            t4["inner-1"]:::failed',
        '            t5["inner-2"]:::pending',
        "        end",
        "        class t3 expanded",
        "    end",
        "    class t1 expanded",
        '    t6["end"]:::pending',
        "    t0 --> t1",
        "    t1 --> t6",
    ]


def test_dot_cuts_edges_at_the_frames() -> None:
    """Graphviz has no edges to clusters: one to a task inside is cut where the frame begins."""
    dot = to_dot(nested(), unfold=True)

    assert "    compound=true;\n" in dot
    assert "subgraph cluster_t1 {" in dot
    assert "        subgraph cluster_t3 {" in dot
    assert "    t0 -> t2 [lhead=cluster_t1];\n" in dot
    assert "    t2 -> t6 [ltail=cluster_t1];\n" in dot
    assert dot.count("{") == dot.count("}")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_frames_and_replacements() -> None:
    """The real program accepts the drawing."""
    text = to_dot(
        nested(), unfold=True, replaced=[Replaced("get", 2, "planner", 'why "so"', ("end",), "end")]
    )
    subprocess.run(["dot", "-Tsvg"], input=text, text=True, capture_output=True, check=True, timeout=30)


def test_a_list_that_is_not_known_yet_says_what_it_goes_through() -> None:
    """Before it begins there are no parts to count."""
    dag = graph([TaskNode("list"), TaskNode("each", foreach="${list.rows}"), TaskNode("two", foreach=[1, 2])])

    drawn = to_mermaid(dag)

    assert '    t1[["each<br/>for each of ${list.rows}"]]:::pending\n' in drawn
    assert '    t2[["two<br/>for each of 2 items"]]:::pending\n' in drawn


def test_what_parents_hand_to_their_parts_is_drawn_once() -> None:
    """An edge into a part from outside says nothing that the one to its parent does not."""
    dag = nested()
    dag.add_dependency(TaskEdge("get", "first"))

    assert to_mermaid(dag, unfold=True) == to_mermaid(nested(), unfold=True)


def replaced() -> tuple[TaskDAG, list[Replaced]]:
    """`load` failed and was replaced by two tasks; `old` was removed."""
    dag = graph(
        [
            TaskNode("load", status=TaskStatus.SUPERSEDED),
            TaskNode("use"),
            TaskNode("old", status=TaskStatus.SUPERSEDED),
            TaskNode("fetch~1", status=DONE),
            TaskNode("load~1"),
        ],
        *("fetch~1 load~1", "load~1 use"),
    )
    return dag, [
        Replaced("load", 2, "planner", "the {disk} was\nfull", ("fetch~1", "load~1"), "load~1"),
        Replaced("old", 3, "person", ""),
    ]


def test_mermaid_shows_what_replaced_what_and_why() -> None:
    """Dashed, with an arrow to where the new tasks begin; who and why stand in a comment without braces."""
    dag, log = replaced()

    drawn = to_mermaid(dag, replaced=log)

    assert (
        "    %% revision 2 by planner: load was replaced by fetch~1, load~1: the (disk) was full\n"
        '    t0 -.->|"replaced by"| t3\n'
        "    %% revision 3 by person: old was removed\n"
    ) in drawn
    assert "    classDef superseded fill:#f3d9fa,stroke:#862e9c,color:#212529,stroke-dasharray:5 5\n" in drawn
    assert '|"replaced by"| t4' not in drawn


def test_dot_shows_what_replaced_what_and_why() -> None:
    """The reason is the tooltip of the arrow."""
    dag, log = replaced()

    drawn = to_dot(dag, replaced=log)

    assert (
        '    t0 -> t3 [style=dashed, label="replaced by", '
        'tooltip="revision 2 by planner: load was replaced by fetch~1, load~1: the {disk} was full"];\n'
    ) in drawn
    assert (
        '    t0 [label="load", fillcolor="#f3d9fa", color="#862e9c", style="rounded,filled,dashed"];\n'
        in drawn
    )


def test_what_was_replaced_inside_a_folded_task_is_folded_too() -> None:
    """Only its own frame shows it."""
    dag = graph(
        [
            TaskNode("work"),
            TaskNode("a", parent="work", status=TaskStatus.SUPERSEDED),
            TaskNode("a~1", parent="work", status=DONE),
        ]
    )
    log = [Replaced("a", 2, "planner", "", ("a~1",), "a~1")]

    assert "replaced by" not in to_mermaid(dag, replaced=log)
    assert '    t1 -.->|"replaced by"| t2\n' in to_mermaid(dag, unfold=True, replaced=log)
    assert "1 of 1 part done" in to_mermaid(dag, replaced=log)


def test_the_parts_of_one_task_can_be_drawn_alone() -> None:
    """At any depth; of a task without parts there is nothing."""
    part = part_of(nested(), "work")

    assert list(part.nodes) == ["first", "second", "inner-1", "inner-2"]
    assert [(edge.source_task_id, edge.target_task_id) for edge in part.edges] == [
        ("first", "second"),
        ("inner-1", "inner-2"),
    ]
    assert '    t1[["second<br/>0 of 2 parts done, 1 failed"]]:::expanded\n' in to_mermaid(part)
    assert part_of(nested(), "get").nodes == {}


def test_every_status_has_a_colour() -> None:
    """A new one without would break every drawing it is in."""
    dag = graph([TaskNode(f"t{number}", status=status) for number, status in enumerate(TaskStatus)])

    assert len(re.findall("classDef", to_mermaid(dag))) == len(TaskStatus)
    assert len(re.findall("fillcolor", to_dot(dag))) == len(TaskStatus)


def test_a_file_leaves_out_the_items_that_are_made_anew() -> None:
    """YAML and JSON of what ran can be run again: a list's items come with the run."""
    dag = graph(
        [
            TaskNode("each", foreach=[1, 2], tool="work"),
            TaskNode("each[0]", parent="each", tool="work"),
            TaskNode("each[1]", parent="each", tool="work"),
            TaskNode("end"),
        ],
        "each end",
    )

    assert list(without_items(dag).nodes) == ["each", "end"]
    for format in ("json", "yaml"):  # noqa: A001
        assert list(load_dag(export(dag, format)).nodes) == ["each", "end"]
    assert without_items(nested()) == nested()


def test_parts_are_counted_without_those_that_were_replaced() -> None:
    """What somebody has to look at is told first."""
    parts = parts_of(
        [
            (None, DONE),
            *[("t", DONE)] * 7,
            ("t", TaskStatus.SUPERSEDED),
            ("t", TaskStatus.RUNNING),
            ("t", FAILED),
            ("t", TaskStatus.AWAITING_APPROVAL),
        ]
    )

    assert {name: str(counted) for name, counted in parts.items()} == {
        "t": "7 of 10 parts done, 1 failed, 1 awaiting approval, 1 running"
    }
