"""What is said of queues while they are served: that they are paused, and how many jobs may run.

Each word is a setting. It is about one queue or all of them, on one supervisor or all of them, and
the last one that covers a queue on a supervisor counts: "all are paused" and then "this one is not"
leave that one running, and the other way round it is paused with all others. So a word removes
those that it covers, and "as configured" is no word at all, unless a wider one says otherwise.

A word that somebody has written as a plain value, ``true`` or ``20``, is older than all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from synk.setting import SettingChange, of_supervisor, owner_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from synk.setting import Setting, Settings

PAUSED: Final = "paused"
MAX_WORKERS: Final = "max_workers"
DRAIN: Final = "drain"

ALL: Final = "*"
"""Every queue, also those that are served or have jobs later only."""

WORKERS_MAX: Final = 65535

_ALL_SCOPE: Final = "queues"
_SCOPE: Final = "queue:"

Said: TypeAlias = "bool | int | None"


@dataclass(frozen=True, slots=True)
class QueueWord:
    """What somebody has said of a queue.

    Attributes:
        queue: its name; ``*``: all of them.
        supervisor: the client on which it holds; None: on all.
        value: whether it is paused, or how many of its jobs may run at once on a supervisor; None:
            as many as configured.
        by: who has said it; empty: it is not known.
        at: when, by the storage's clock.
        order: later words have higher numbers.
    """

    queue: str
    supervisor: UUID | None
    value: Said
    by: str
    at: dt.datetime
    order: int = 0

    def covers(self, queue: str, supervisor: UUID | None) -> bool:
        """Whether it is about all that *queue* and *supervisor* stand for."""
        return self.queue in (ALL, queue) and self.supervisor in (None, supervisor)

    def is_covered_by(self, queue: str, supervisor: UUID | None) -> bool:
        """Whether *queue* and *supervisor* stand for all that it is about."""
        return queue in (ALL, self.queue) and supervisor in (None, self.supervisor)

    def overlaps(self, queue: str, supervisor: UUID | None) -> bool:
        """Whether it is about some of what *queue* and *supervisor* stand for."""
        is_of_it = self.queue == queue or ALL in (self.queue, queue)
        return is_of_it and (self.supervisor == supervisor or None in (self.supervisor, supervisor))

    @property
    def scope(self) -> str:
        """The scope of its setting."""
        return _scope(self.queue, self.supervisor)


class QueueWords:
    """What the settings say of queues.

    Args:
        settings: all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._revision = settings.revision
        self._words = {name: list(_words(settings.rows, name)) for name in (PAUSED, MAX_WORKERS)}
        self._drained = {
            owner_of(row.scope): row for row in settings.rows if row.name == DRAIN and row.value
        }

    def of(self, name: str) -> list[QueueWord]:
        """Returns all words that were said by this *name*."""
        return self._words[name]

    def last(self, name: str, queue: str, supervisor: UUID | None) -> QueueWord | None:
        """Returns the word that counts for *queue* on *supervisor*, on all of them if that is None.

        None: nothing was said, or that it is as configured.
        """
        covering = [each for each in self._words[name] if each.covers(queue, supervisor)]
        last = max(covering, key=_rank, default=None)
        return last if last is not None and last.value else None

    def paused(self, queue: str, supervisor: UUID | None) -> QueueWord | None:
        """Returns by what word *queue* is paused; None: it is not."""
        return self.last(PAUSED, queue, supervisor)

    def max_workers(self, queue: str, supervisor: UUID | None) -> int | None:
        """Returns how many jobs may run at once; None: as many as configured."""
        word = self.last(MAX_WORKERS, queue, supervisor)
        return None if word is None else cast("int", word.value)

    def is_drained(self, supervisor: UUID) -> bool:
        """Whether *supervisor* is to stop."""
        return supervisor in self._drained

    def saying(
        self, name: str, value: Said, *, queue: str, supervisor: UUID | None, by: str
    ) -> list[SettingChange]:
        """Returns the changes by which *queue* on *supervisor* is so from now on; none: it is."""
        scope = _scope(queue, supervisor)
        changes: list[SettingChange] = []
        others: list[QueueWord] = []
        former = None
        for each in self._words[name]:
            if each.scope == scope:
                former = each
            elif each.is_covered_by(queue, supervisor):
                changes.append(SettingChange(each.scope, name))
            elif each.overlaps(queue, supervisor):
                others.append(each)
        if not value and not others:
            return changes + ([SettingChange(scope, name)] if former else [])
        if former and former.value == value and all(_rank(former) > _rank(each) for each in others):
            # Said again, it stays with who has said it first.
            return changes
        said = {"value": value, "by": by, "order": self._revision + 1}
        return [*changes, SettingChange(scope, name, said)]


def draining(supervisor: UUID, by: str) -> SettingChange:
    """Returns the change that has *supervisor* stop."""
    return SettingChange(of_supervisor(supervisor, _ALL_SCOPE), DRAIN, {"value": True, "by": by})


def _rank(word: QueueWord) -> tuple[int, bool, bool, bool]:
    """Later words count, and of two at one time the narrower, and a pause before its end."""
    return word.order, word.supervisor is not None, word.queue != ALL, bool(word.value)


def _scope(queue: str, supervisor: UUID | None) -> str:
    scope = _ALL_SCOPE if queue == ALL else _SCOPE + queue
    return scope if supervisor is None else of_supervisor(supervisor, scope)


def _words(rows: Iterable[Setting], name: str) -> Iterator[QueueWord]:
    """Gives what can be understood of what was written."""
    for row in rows:
        owner = owner_of(row.scope)
        scope = row.scope if owner is None else row.scope.split(":", 2)[-1]
        if row.name != name or not (scope == _ALL_SCOPE or scope.startswith(_SCOPE)):
            continue
        is_record = isinstance(row.value, dict)
        record = cast("dict[str, Any]", row.value) if is_record else {"value": row.value}
        value, order = record.get("value"), record.get("order", 0)
        if not _can_be(name, value):
            continue
        yield QueueWord(
            queue=ALL if scope == _ALL_SCOPE else scope.removeprefix(_SCOPE),
            supervisor=owner,
            value=value,
            by=str(record.get("by", "")),
            at=row.changed_at,
            order=order if isinstance(order, int) else 0,
        )


def _can_be(name: str, value: object) -> bool:
    if name == PAUSED or value is None:
        return value is None or isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= WORKERS_MAX
