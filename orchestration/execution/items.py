"""Lists that a `foreach` goes through, kept at hand while its children need their items.

May import: orchestration.models, stdlib.

Each child of a thousand needs one item; parsing the whole list for each of them would cost the square of its length.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from orchestration.models import Json

_MAX_CHARS = 64 * 1024 * 1024


class ItemLists:
    """Recent lists as JSON texts, item by item, up to a number of characters.

    Args:
        max_chars: Most text to keep at hand; the latest list is kept whatever its length.
    """

    def __init__(self, max_chars: int = _MAX_CHARS) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._lists: OrderedDict[Hashable, tuple[str, ...]] = OrderedDict()

    def put(self, key: Hashable, items: Sequence[Json]) -> None:
        """Keep a list, and let the oldest go where there are too many."""
        self._drop(key)
        texts = tuple(json.dumps(item, ensure_ascii=False) for item in items)
        self._lists[key] = texts
        self._chars += sum(map(len, texts))
        while self._chars > self._max_chars and len(self._lists) > 1:
            self._drop(next(iter(self._lists)))

    def _drop(self, key: Hashable) -> None:
        self._chars -= sum(map(len, self._lists.pop(key, ())))

    def count(self, key: Hashable) -> int | None:
        """Return how many items a list has; None where it is not at hand."""
        texts = self._lists.get(key)
        return None if texts is None else len(texts)

    def item(self, key: Hashable, index: int) -> Json:
        """Return a fresh copy of an item of a list that is at hand."""
        self._lists.move_to_end(key)
        found: Json = json.loads(self._lists[key][index])
        return found
