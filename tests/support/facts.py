"""What a client told while a test ran."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from support.supervising import wait_until
from synk.telemetry import Fact, Telemetry

if TYPE_CHECKING:
    import synk

F = TypeVar("F", bound=Fact)


class Facts:
    """Takes note of all facts of a client, or of a part of one."""

    def __init__(self, source: synk.Client | Telemetry) -> None:
        self._lock = threading.Lock()
        self._told: list[Fact] = []
        telemetry = source if isinstance(source, Telemetry) else source.telemetry
        telemetry.subscribe(self._note)

    def _note(self, fact: Fact) -> None:
        with self._lock:
            self._told.append(fact)

    def of(self, kind: type[F], **fields: object) -> list[F]:
        """Returns those of one kind whose fields have these values, in their order."""
        with self._lock:
            told = [fact for fact in self._told if isinstance(fact, kind)]
        return [
            fact
            for fact in told
            if all(getattr(fact, name) == value for name, value in fields.items())
        ]

    def wait_for(self, kind: type[F], **fields: object) -> F:
        """Waits for the first such fact."""
        return wait_until(lambda: self.of(kind, **fields), what=f"{kind.__name__} {fields}")[0]

    def text(self) -> str:
        """All of them as a log has them."""
        with self._lock:
            return "\n".join(map(str, self._told))
