"""Where the durable state lives: implementations of the `Storage` port.

May import: orchestration.{models, ports, errors, engine.events}.
"""

from storage.sqlite import SqliteStorage

__all__ = ["SqliteStorage"]
