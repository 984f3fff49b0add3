"""Inserts of unique jobs: what is asked one after the other, whoever sends it.

The first statement stores those whose scope is free, and is all
there is where each of them is. Else the next one asks who is in the scopes of all, and by the third
those that wait are replaced. What has left its scope between two statements is asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from synk.errors import NotUnique, StorageConflict
from synk.storage import reading, sending
from synk.storage.statement import Statement, StatementsOfSchema
from synk.unique import Inserted

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from synk.insertion import NewJob

_TRIES: Final = 50
"""How often jobs may leave a scope just when they are looked for."""


class UniqueStatements(StatementsOfSchema):
    """The statements of unique inserts."""

    def insert_unique(self, jobs: Sequence[NewJob]) -> Statement[list[int]]:
        """Stores those of *jobs* whose scope is free; answers their ids."""
        parameters = sending.insert_many_parameters(jobs)
        parameters |= sending.extra_parameters(jobs) | _scopes_of(jobs)
        return Statement(self._text("insert_unique"), parameters, reading.first_column, binary=True)

    def unique_holders(self, jobs: Sequence[NewJob], *, held: bool) -> Statement[list[int | None]]:
        """Answers who is in the scope of each of *jobs*, and is to be *held* there."""
        times = [job.options.scheduled_at for job in jobs]
        parameters = {"held": held, "scheduled_at": None, "each_scheduled_at": times}
        return Statement(
            self._text("unique_holders"), parameters | _scopes_of(jobs), reading.first_column
        )

    def unique_replace(self, jobs: Sequence[NewJob]) -> Statement[list[int | None]]:
        """Puts each of *jobs* into the one that waits in its scope; answers the ids of those."""
        parameters = sending.insert_many_parameters(jobs)
        parameters |= sending.extra_parameters(jobs) | _scopes_of(jobs)
        return Statement(self._text("unique_replace"), parameters, reading.first_column)


def _scopes_of(jobs: Sequence[NewJob]) -> dict[str, object]:
    scopes = {id(job.options.unique): job.options.unique for job in jobs}
    texts = {key: unique.scope() for key, unique in scopes.items() if unique is not None}
    is_same = len(texts) == 1
    return {
        "unique_scope": next(iter(texts.values())) if is_same else None,
        "each_unique_scope": [] if is_same else [texts[id(job.options.unique)] for job in jobs],
        "chosen": f"[{','.join([job.chosen for job in jobs])}]",
    }


def asked(
    statements: UniqueStatements, jobs: Sequence[NewJob], ids: list[int], *, held: bool
) -> Generator[list[Statement[Any]], list[Any], list[Inserted]]:
    """Gives statements that find out about *jobs*; is sent their answers; returns all ids.

    Args:
        statements: what it gives.
        jobs: all unique.
        ids: what insert_unique has stored of them.
        held: whether those that they meet are to be held in their scopes.

    Raises:
        NotUnique: see `Uniqueness.insert_unique`.
        StorageConflict: again and again a scope was taken, and nobody was in it.
    """
    found: dict[int, Inserted] = {}
    left = list(range(len(jobs)))
    for _ in range(_TRIES):
        trying = [jobs[place] for place in left]
        if len(ids) == len(left):
            found.update(zip(left, map(Inserted, ids), strict=True))
            return [found[place] for place in range(len(jobs))]
        (holders,) = yield [statements.unique_holders(trying, held=held)]
        met = _met(dict(zip(left, holders, strict=True)), set(ids), found)
        _check_allowed({place: jobs[place] for place in met}, met)
        replacing = [place for place in met if _on_conflict(jobs[place]) == "replace"]
        if replacing:
            (replaced,) = yield [statements.unique_replace([jobs[place] for place in replacing])]
            met.update(zip(replacing, replaced, strict=True))
        for place, holder in met.items():
            if holder is not None:
                found[place] = Inserted.of(holder, existed=True)
        left = [place for place in left if place not in found]
        if not left:
            return [found[place] for place in range(len(jobs))]
        (ids,) = yield [statements.insert_unique([jobs[place] for place in left])]
    raise StorageConflict(
        f"scopes of unique jobs were taken {_TRIES} times, and nobody was seen in them: is there "
        "row-level security on the table of jobs that hides them?"
    )


def _met(
    holders: dict[int, int | None], stored: set[int], found: dict[int, Inserted]
) -> dict[int, int | None]:
    """Notes in *found* what was stored; returns who is in the scopes of the others, by place."""
    met: dict[int, int | None] = {}
    for place, holder in holders.items():
        if holder in stored:
            # The first of a scope; those after it meet it.
            stored.remove(holder)
            found[place] = Inserted(holder)
        elif holder is not None:
            met[place] = holder
    return met


def _check_allowed(jobs: dict[int, NewJob], met: dict[int, int | None]) -> None:
    for place, job in jobs.items():
        holder = met[place]
        if holder is not None and _on_conflict(job) == "raise":
            raise NotUnique(holder, job.options.unique)


def _on_conflict(job: NewJob) -> str:
    unique = job.options.unique
    return "skip" if unique is None else unique.on_conflict
