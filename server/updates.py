"""Telling subscribers that a resource changed, in both eras of the protocol.

May import: orchestration.{engine.events, models, orchestrator}, server.uris, mcp, anyio, stdlib.

Events of an orchestration come by the thousand; a subscriber wants a cue to look again. So changes are gathered and
each resource is announced at most once per `ANNOUNCE_SECONDS`. Clients of 2026 listen on the subscription bus; older
ones call `resources/subscribe`, and their connections are remembered here until they close.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from mcp import MCPError
from mcp.server.connection import Connection
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, SubscriptionBus
from mcp_types import INVALID_PARAMS

from orchestration.engine.events import (
    AttemptSucceeded,
    OrchestrationFinished,
    OrchestrationSubmitted,
    PlanCompleted,
    PlanEdited,
    PlanRevised,
    Recorded,
)
from orchestration.models import OrchestrationId, OrchestrationStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.uris import LIST_URI, graph_uri, is_ours, orchestration_uri, output_uri, plan_uri

ANNOUNCE_SECONDS = 0.2
"""Between two rounds of announcements."""
MAX_SUBSCRIPTIONS = 10_000
"""Of connections to resources, over all older clients."""
FOLLOW_SECONDS = 30.0
"""Between two looks at an orchestration in which nothing happens."""
SEND_SECONDS = 1.0
"""How long one client may hold up the others; one that does not read is left out of this round."""


class Updates:
    """Gathers changes and announces them.

    Args:
        bus: Where clients of 2026 listen.
    """

    def __init__(self, bus: SubscriptionBus | None = None) -> None:
        self.bus = InMemorySubscriptionBus() if bus is None else bus
        self._changed: dict[str, None] = {}
        self._something_changed = anyio.Event()
        self._subscribers: dict[str, dict[int, Connection]] = {}

    def on_event(self, recorded: Recorded) -> None:
        """Note what an event changed; a listener of the orchestrator."""
        orchestration_id = recorded.orchestration_id
        changed = [orchestration_uri(orchestration_id), graph_uri(orchestration_id)]
        match recorded.event:
            case AttemptSucceeded(task_id=task_id):
                changed.append(output_uri(orchestration_id, task_id))
            case OrchestrationSubmitted() | OrchestrationFinished():
                changed.append(LIST_URI)
            case PlanRevised() | PlanEdited() | PlanCompleted():
                changed.append(plan_uri(orchestration_id))
        self._note(*changed)

    async def follow(self, orchestrator: AdvancedTaskOrchestrator, orchestration_id: OrchestrationId) -> None:
        """Note what an orchestration changes that was taken over, and so has no listener, until it rests."""
        status = await orchestrator.load_status(orchestration_id)
        seq = status["last_seq"]
        if OrchestrationStatus(status["state"]).is_terminal:
            # It was quicker than whoever follows it, and its last events will not come again.
            self._note(orchestration_uri(orchestration_id), graph_uri(orchestration_id), LIST_URI)
            return
        while True:
            for recorded in await orchestrator.load_events(orchestration_id, after_seq=seq):
                self.on_event(recorded)
                seq = recorded.seq
            status = await orchestrator.load_status(orchestration_id)
            if status["last_seq"] == seq and (
                status["orphaned"] or OrchestrationStatus(status["state"]).is_terminal
            ):
                return
            await orchestrator.wait_for_change(
                orchestration_id, after_seq=seq, timeout_seconds=FOLLOW_SECONDS
            )
            await anyio.sleep(ANNOUNCE_SECONDS)

    def _note(self, *uris: str) -> None:
        self._changed.update(dict.fromkeys(uris))
        self._something_changed.set()

    async def announce_forever(self) -> None:
        """Announce what changed, until cancelled."""
        while True:
            await self._something_changed.wait()
            self._something_changed = anyio.Event()
            uris, self._changed = list(self._changed), {}
            for uri in uris:
                await self._announce(uri)
            await anyio.sleep(ANNOUNCE_SECONDS)

    def subscribe(self, uri: str, connection: Connection) -> None:
        """Remember that an older client wants to know of a resource; forgotten when its connection closes.

        Raises:
            MCPError: The resource is none of this server's, or there are too many subscriptions.
        """
        if not is_ours(uri):
            raise MCPError(INVALID_PARAMS, f"Unknown resource: {uri}", {"uri": uri})
        if sum(self.subscriptions.values()) >= MAX_SUBSCRIPTIONS:
            raise MCPError(
                INVALID_PARAMS, f"There are {MAX_SUBSCRIPTIONS} subscriptions already; give one up first."
            )
        subscribers = self._subscribers.setdefault(uri, {})
        if id(connection) not in subscribers:
            subscribers[id(connection)] = connection
            connection.exit_stack.callback(self.unsubscribe, uri, connection)

    def unsubscribe(self, uri: str, connection: Connection) -> None:
        """Forget a client's wish; nothing happens when there was none."""
        subscribers = self._subscribers.get(uri, {})
        subscribers.pop(id(connection), None)
        if not subscribers:
            self._subscribers.pop(uri, None)

    @property
    def subscriptions(self) -> Mapping[str, int]:
        """How many older clients wait for each resource."""
        return {uri: len(subscribers) for uri, subscribers in self._subscribers.items()}

    async def _announce(self, uri: str) -> None:
        await self.bus.publish(ResourceUpdated(uri=uri))
        for connection in list(self._subscribers.get(uri, {}).values()):
            with anyio.move_on_after(SEND_SECONDS):
                await connection.send_resource_updated(uri)
