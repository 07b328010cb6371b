"""The library in five short examples. Run them: `python examples/library.py` (or `make` a `.venv` and use its python).

The collaborators are plain objects: what counts is which methods they have. Everything works without them, too.
"""

from __future__ import annotations

import asyncio
from typing import Any

from orchestration import (
    FunctionSystem,
    OrchestrationMode,
    TaskDAG,
    TaskEdge,
    TaskNode,
    TaskPriority,
    create_advanced_task_orchestrator,
)


class Controller:
    """Stands for whatever runs your tasks: an agent, a service, a queue."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def execute_task(self, context: Any) -> dict[str, Any]:
        """Run one task; `context` has its id, description, inputs and more."""
        await asyncio.sleep(0.01)
        self.done.append(context.task_id)
        return {"success": True, "result": {"database_connection_string": f"made by {context.task_id}"}}


class Thinking:
    """Stands for a language model that plans: it answers with tasks and what depends on what."""

    async def analyze_task_decomposition(self, *, goal: str, **_: Any) -> dict[str, Any]:
        """Break a goal into tasks."""
        return {
            "thoughts": [f"To {goal.lower()}, look around first."],
            "tasks": [
                {"task_id": "survey", "description": "Survey what there is"},
                {"task_id": "decide", "description": "Decide on an approach", "depends_on": ["survey"]},
                {"task_id": "write", "description": "Write it down", "depends_on": ["decide"]},
            ],
        }


async def orchestrate_a_goal() -> dict[str, Any]:
    """Give a goal; get a plan carried out."""
    orchestrator = create_advanced_task_orchestrator(unified_controller=Controller(), max_concurrent_tasks=5)

    result = await orchestrator.orchestrate_task(
        goal="Build a web application with user authentication",
        mode=OrchestrationMode.HIERARCHICAL,
        context={
            "technology_stack": "React, Node.js, MongoDB",
            "requirements": ["responsive design", "secure authentication"],
        },
    )

    print(f"Success: {result['success']}, {result['total_tasks']} tasks")
    print(f"Took {result['performance_metrics']['total_orchestration_time']:.2f} s")
    status = orchestrator.get_orchestration_status(result["orchestration_id"])
    print(f"Progress: {status['progress_percentage']} %, running: {status['current_running_tasks']}")
    metrics = orchestrator.get_performance_metrics()
    print(f"Success rate: {metrics['success_rate']} %")
    print(f"Parallel efficiency: {metrics['average_parallel_efficiency']:.0f} %")
    return result


async def let_an_object_of_yours_plan() -> dict[str, Any]:
    """A collaborator makes the plan, and alternatives of what fails in ADAPTIVE mode."""
    orchestrator = create_advanced_task_orchestrator(
        unified_controller=Controller(), sequential_thinking=Thinking()
    )
    return await orchestrator.orchestrate_task(goal="Describe the system", mode=OrchestrationMode.ADAPTIVE)


async def execute_your_own_dag() -> dict[str, Any]:
    """Build the graph yourself; data flows along its edges."""
    dag = TaskDAG(dag_id="custom_workflow")
    dag.add_task(
        TaskNode(
            task_id="setup_database",
            description="Set up MongoDB database",
            system_preference="kgot",
            priority=TaskPriority.HIGH,
            estimated_time_seconds=300,
        )
    )
    dag.add_task(
        TaskNode(
            task_id="create_api",
            description="Create REST API endpoints",
            system_preference="alita",
            priority=TaskPriority.MEDIUM,
            estimated_time_seconds=600,
        )
    )
    dag.add_dependency(
        TaskEdge(
            source_task_id="setup_database",
            target_task_id="create_api",
            data_requirements=["database_connection_string"],
        )
    )
    orchestrator = create_advanced_task_orchestrator(unified_controller=Controller())
    return await orchestrator.execute_dag(dag)


async def run_your_own_functions() -> dict[str, Any]:
    """Tasks may simply be functions; `${…}` hands a value on."""

    def add(a: float, b: float) -> float:
        return a + b

    dag = TaskDAG("sums")
    dag.add_task(TaskNode("first", tool="add", arguments={"a": 1, "b": 2}))
    dag.add_task(TaskNode("second", tool="add", arguments={"a": "${first}", "b": 10}))
    dag.add_dependency(TaskEdge("first", "second"))
    async with create_advanced_task_orchestrator(
        systems={"python": FunctionSystem({"add": add})}
    ) as orchestrator:
        return await orchestrator.execute_dag(dag)


class UnifiedSystemController(Controller):
    """A controller that orchestrates through itself: each task of the plan comes back to its `execute_task`."""

    def __init__(self) -> None:
        super().__init__()
        self.advanced_orchestrator = create_advanced_task_orchestrator(
            unified_controller=self, sequential_thinking=Thinking()
        )

    async def execute_complex_task(self, goal: str, **kwargs: Any) -> dict[str, Any]:
        """Orchestrate what is too much for one task."""
        return await self.advanced_orchestrator.orchestrate_task(
            goal=goal, mode=OrchestrationMode.ADAPTIVE, **kwargs
        )


async def orchestrate_inside_a_controller() -> dict[str, Any]:
    """The controller is both: who asks, and who runs the tasks."""
    controller = UnifiedSystemController()
    result = await controller.execute_complex_task("Move the archive", context={"urgent": False})
    print(f"Ran in order: {', '.join(controller.done)}")
    return result


EXAMPLES = (
    orchestrate_a_goal,
    let_an_object_of_yours_plan,
    execute_your_own_dag,
    run_your_own_functions,
    orchestrate_inside_a_controller,
)


async def main() -> None:
    """Run every example."""
    for example in EXAMPLES:
        print(f"\n{example.__name__.replace('_', ' ')}:")
        result = await example()
        outputs = {task_id: result["results"][task_id] for task_id in list(result["results"])[-2:]}
        print(f"{result['orchestration_id']} {result['state']}; last outputs: {outputs}")


if __name__ == "__main__":
    asyncio.run(main())
