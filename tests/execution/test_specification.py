"""The specification's own examples, with duck-typed collaborators, from `from orchestration import …`."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from orchestration import (
    AdvancedTaskOrchestrator,
    NestedOrchestrationError,
    OrchestrationMode,
    TaskDAG,
    TaskEdge,
    TaskNode,
    TaskPriority,
    create_advanced_task_orchestrator,
)

pytestmark = pytest.mark.anyio


class Controller:
    """A unified controller as the earlier orchestrator used it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def execute_task(self, ctx: Any) -> Any:
        self.seen.append(ctx)
        answer = {"summary": ctx.description, "database_connection_string": "mongodb://db"}
        return SimpleNamespace(success=True, result=answer, error=None, systems_used=["alita"])


class Thinking:
    """A sequential-thinking collaborator that plans."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def analyze_task_decomposition(self, **question: Any) -> dict[str, Any]:
        self.asked.append(question)
        return {
            "tasks": [
                {"task_id": "design", "description": "Design it"},
                {"task_id": "build", "description": "Build it", "depends_on": ["design"]},
            ],
            "thoughts": ["First design, then build."],
        }

    async def generate_alternative_plan(self, **question: Any) -> dict[str, Any]:
        self.asked.append(question)
        return {"tasks": [{"task_id": "other", "description": "Another way"}]}


async def test_basic_orchestration() -> None:
    """The first example of the specification runs a web application's plan to its end."""
    controller = Controller()
    orchestrator = create_advanced_task_orchestrator(
        unified_controller=controller,
        sequential_thinking=None,
        state_manager=None,
        monitoring_system=object(),
        load_balancer=object(),
        max_concurrent_tasks=5,
    )

    result = await orchestrator.orchestrate_task(
        goal="Build a web application with user authentication",
        mode=OrchestrationMode.HIERARCHICAL,
        context={
            "technology_stack": "React, Node.js, MongoDB",
            "requirements": ["responsive design", "secure authentication"],
        },
    )
    status = orchestrator.get_orchestration_status(result["orchestration_id"])
    metrics = orchestrator.get_performance_metrics()

    assert result["success"] is True
    assert result["total_tasks"] >= 8
    assert result["performance_metrics"]["total_orchestration_time"] > 0
    assert status["progress_percentage"] == 100.0
    assert status["current_running_tasks"] == []
    assert status["estimated_completion_time"] == 0.0
    assert metrics["success_rate"] == 100.0
    assert metrics["average_execution_time_seconds"] > 0
    assert 0 < metrics["average_parallel_efficiency"] <= 100.0
    assert len(controller.seen) == result["total_tasks"]


async def test_custom_task_decomposition() -> None:
    """A DAG made by hand, with system preferences the controller serves and required data."""
    controller = Controller()
    orchestrator = create_advanced_task_orchestrator(unified_controller=controller)
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

    result = await orchestrator.execute_dag(dag)

    assert result["success"] is True
    assert [ctx.task_id for ctx in controller.seen] == ["setup_database", "create_api"]
    assert [ctx.routing_strategy.value for ctx in controller.seen] == ["kgot_first", "alita_first"]
    assert controller.seen[1].budget_constraints["input_data"] == {
        "setup_database_database_connection_string": "mongodb://db"
    }


class UnifiedSystemController:
    """The specification's integration: it orchestrates through an orchestrator that runs tasks through it."""

    def __init__(self) -> None:
        self.described: list[str] = []
        self.advanced_orchestrator: AdvancedTaskOrchestrator = create_advanced_task_orchestrator(
            unified_controller=self,
            sequential_thinking=None,
            state_manager=None,
            monitoring_system=None,
            load_balancer=None,
        )

    async def execute_complex_task(self, goal: str, **kwargs: Any) -> dict[str, Any]:
        return await self.advanced_orchestrator.orchestrate_task(
            goal=goal, mode=OrchestrationMode.ADAPTIVE, **kwargs
        )

    async def process_task(self, description: str, context: Any = None, timeout_seconds: Any = None) -> Any:
        self.described.append(description)
        return {"success": True, "result": {"response": f"did: {description}"}}


async def test_integration_with_the_unified_controller() -> None:
    """`unified_controller=self` runs every task through the controller, once."""
    controller = UnifiedSystemController()

    result = await controller.execute_complex_task(
        "Build and deploy a web application",
        context={"technology_stack": "React, Node.js", "deployment_target": "AWS"},
    )

    assert result["success"] is True
    assert result["total_tasks"] > 1
    assert result["performance_metrics"]["total_orchestration_time"] > 0
    assert len(result["dag"].nodes) > 1
    assert result["dag"].validate_dependencies() is True
    assert len(controller.described) == result["total_tasks"]


class LoopingController(UnifiedSystemController):
    """Hands every task straight back to the orchestrator."""

    async def process_task(self, description: str, context: Any = None, timeout_seconds: Any = None) -> Any:
        return await self.execute_complex_task(description)


async def test_a_controller_that_orchestrates_its_own_task_again_is_refused_not_looped() -> None:
    """The task fails with what to do instead."""
    controller = LoopingController()

    result = await controller.execute_complex_task("Compare the offers and pick one")

    assert result["success"] is False
    (error,) = result["errors"].values()
    assert "being orchestrated already by the task that asks for it" in error["message"]
    with pytest.raises(NestedOrchestrationError):
        raise NestedOrchestrationError("g", 1, 3)


class NestingController(UnifiedSystemController):
    """Orchestrates a smaller goal inside each task, with a single slot."""

    def __init__(self) -> None:
        super().__init__()
        self.advanced_orchestrator = create_advanced_task_orchestrator(
            unified_controller=self, max_concurrent_tasks=1
        )

    async def process_task(self, description: str, context: Any = None, timeout_seconds: Any = None) -> Any:
        if description == "Clean the house":
            inner = await self.execute_complex_task("Clean the kitchen")
            return {"success": inner["success"], "result": {"response": "clean"}}
        return {"success": True, "result": {"response": f"did: {description}"}}


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_task_that_orchestrates_a_smaller_goal_lends_its_slot(is_open: bool) -> None:
    """One slot is enough, with and without `async with`: the outer attempt only waits."""
    controller = NestingController()

    if is_open:
        async with controller.advanced_orchestrator:
            result = await controller.execute_complex_task("Clean the house")
    else:
        result = await controller.execute_complex_task("Clean the house")

    assert result["success"] is True


async def test_a_sequential_thinking_collaborator_plans() -> None:
    """Its tasks become the DAG; it is asked with the promised arguments."""
    thinking = Thinking()
    orchestrator = create_advanced_task_orchestrator(
        unified_controller=Controller(), sequential_thinking=thinking
    )

    result = await orchestrator.orchestrate_task(goal="Make a thing", context={"a": 1})

    assert list(result["dag"].nodes) == ["design", "build"]
    assert thinking.asked == [{"goal": "Make a thing", "context": {"a": 1}, "complexity_threshold": 5.0}]
    assert result["plan"]["planner"] == "sequential_thinking"


async def test_in_adaptive_mode_a_failed_task_gets_an_alternative_plan() -> None:
    """The failed task is superseded, its dependents use the alternative's output."""

    class Failing(Controller):
        async def execute_task(self, ctx: Any) -> Any:
            if ctx.description == "Design it":
                return SimpleNamespace(success=False, result=None, error="no idea")
            return await super().execute_task(ctx)

    thinking = Thinking()
    orchestrator = create_advanced_task_orchestrator(
        unified_controller=Failing(), sequential_thinking=thinking
    )
    dag = TaskDAG("d")
    dag.add_task(TaskNode(task_id="design", description="Design it", max_retries=0))
    dag.add_task(TaskNode(task_id="build", description="Build it"))
    dag.add_dependency(TaskEdge("design", "build"))

    result = await orchestrator.execute_dag(dag, mode=OrchestrationMode.ADAPTIVE)

    assert result["success"] is True
    assert {task_id: node.status.value for task_id, node in result["dag"].nodes.items()} == {
        "design": "superseded",
        "build": "completed",
        "other~1": "completed",
    }
    assert result["total_tasks"] == 2
    assert thinking.asked[0]["failed_task"].task_id == "design"


async def test_a_goal_nothing_knows_becomes_one_task_that_says_so() -> None:
    """The plan is honestly labelled, runs on the controller, and counts as perfectly efficient."""
    orchestrator = create_advanced_task_orchestrator(unified_controller=Controller())

    result = await orchestrator.orchestrate_task(
        goal="Execute parallel tasks", mode=OrchestrationMode.HIERARCHICAL
    )

    assert result["success"] is True
    assert result["plan"]["planner"] == "sentences"
    assert result["performance_metrics"]["parallel_efficiency"] > 0.5


async def test_debug_mode_logs_through_the_standard_logger(caplog: pytest.LogCaptureFixture) -> None:
    """The logger's name and the operation are the specification's."""
    orchestrator = create_advanced_task_orchestrator(
        unified_controller=Controller(), max_concurrent_tasks=1, enable_detailed_metrics=True
    )
    dag = TaskDAG("d")
    dag.add_task(TaskNode(task_id="a", description="A", priority="HIGH", estimated_time_seconds=2))  # type: ignore[arg-type]

    with caplog.at_level(logging.DEBUG, logger="advanced_task_orchestration"):
        await orchestrator.execute_dag(dag)

    (record,) = [
        record for record in caplog.records if getattr(record, "operation", "") == "TASK_EXECUTION_START"
    ]
    operations = [
        getattr(entry, "operation", "") for entry in caplog.records if entry.levelno == logging.DEBUG
    ]
    assert [name for name in operations if name.startswith("ATTEMPT")] == [
        "ATTEMPT_STARTED",
        "ATTEMPT_SUCCEEDED",
    ]
    assert record.name == "advanced_task_orchestration"
    assert vars(record)["task_id"] == "a"
    assert vars(record)["orchestration_id"] == "d-1"
    assert vars(record)["estimated_time"] == 2
    assert vars(record)["priority"] == 3


async def test_a_state_manager_with_only_set_state_is_sent_summaries_and_may_fail() -> None:
    """Its faults never fail an orchestration."""

    class StateManager:
        def __init__(self) -> None:
            self.states: dict[str, Any] = {}

        async def get_state(self, key: str) -> Any:
            return self.states.get(key)

        async def set_state(self, key: str, value: Any) -> None:
            self.states[key] = value
            raise RuntimeError("redis is down")

    manager = StateManager()
    orchestrator = create_advanced_task_orchestrator(unified_controller=Controller(), state_manager=manager)
    dag = TaskDAG("d")
    dag.add_task(TaskNode(task_id="a", description="A"))
    async with orchestrator:
        result = await orchestrator.execute_dag(dag)

    assert result["success"] is True
    assert manager.states["orchestration:d-1"]["orchestration_id"] == "d-1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
