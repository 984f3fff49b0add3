"""The statements of limits: see `synk.storage.limiting`. No I/O here."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from synk.claim import ClaimedJob
from synk.limit import KeyedClaim, Permit
from synk.limit_status import LimitedKey, LimitedKeys
from synk.row import Priority
from synk.status import client_id_of
from synk.storage import reading, sending
from synk.storage.statement import Statement, StatementsOfSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from synk.claim import Fence
    from synk.limit import Cap, KeyedCursor, Limit

_ANY_NUMBER: Final = 2**62
_KEYS_SHOWN: Final = 500
_JOBS_COUNTED: Final = 1_000
_PER_PERMIT_MAX: Final = 1_000
"""With the largest limit, what is multiplied fits into the server's integers."""


class LimitingStatements(StatementsOfSchema):
    """One for each method of `Limiting`."""

    def claim_keyed(  # noqa: PLR0913 - as in `Limiting`
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        caps: Mapping[str, Cap],
        held: Mapping[str, int] | None = None,
        per_permit: int = 1,
        after: KeyedCursor | None = None,
        bytes_max: int | None = None,
    ) -> Statement[KeyedClaim]:
        """See `Limiting.claim_keyed`."""
        after = after or {}
        parameters: dict[str, object] = {
            "queue": queue,
            "limit": limit,
            "kinds": list(kinds),
            "owner": owner,
            "claim_seq": claim_seq,
            "client_id": client_id_of(owner),
            "caps": json.dumps({name: _cap(cap) for name, cap in caps.items()}),
            "held": json.dumps(dict(held or {})),
            "per_permit": max(1, min(per_permit, _PER_PERMIT_MAX)),
            "cursors": [after.get(priority, "") for priority in Priority],
            "bytes_max": _ANY_NUMBER if bytes_max is None else bytes_max,
        }
        read = _keyed_claim(queue, claim_seq, after)
        return Statement(self._text("claim_keyed"), parameters, read, binary=True)

    def release_permits(self, owner: UUID, permits: Sequence[Permit]) -> Statement[int]:
        """See `Limiting.release_permits`."""
        return self._changing(
            "release_permits",
            owner=owner,
            keys=[permit.key for permit in permits],
            slots=[permit.slot for permit in permits],
            claim_seqs=[permit.claim_seq for permit in permits],
        )

    def permits(self, owner: UUID) -> Statement[list[Permit]]:
        """See `Limiting.permits`."""
        return self._asking("permits", reading.records(Permit), owner=owner)

    def limited_keys(self) -> Statement[LimitedKeys]:
        """See `LimitInspection.limited_keys`."""
        return self._asking("limited_keys", _limited_keys, keys=_KEYS_SHOWN, jobs=_JOBS_COUNTED)

    def key_jobs(
        self, owner: UUID, fences: Sequence[Fence], limits: Sequence[Limit]
    ) -> Statement[list[int]]:
        """See `Limiting.key_jobs`."""
        parameters: dict[str, object] = {
            **sending.fence_parameters(fences),
            "owner": owner,
            "names": [limit.name for limit in limits],
            "paths": [sending.text_array(limit.path) for limit in limits],
        }
        return Statement(self._text("key_jobs"), parameters, reading.first_column)


def _cap(cap: Cap) -> list[float | None]:
    if cap.rate is None:
        return [cap.running, None, None]
    count, period = cap.rate
    return [cap.running, count, period.total_seconds()]


def _keyed_claim(
    queue: str, claim_seq: int, after: KeyedCursor
) -> Callable[[reading.Rows, int], KeyedClaim]:
    """Returns what makes a claim of the rows of claim_keyed.sql."""
    mine: tuple[Any, ...] = (queue, claim_seq)

    def read(rows: reading.Rows, _: int) -> KeyedClaim:
        rest: dict[str, Any] = {}
        found: list[tuple[ClaimedJob, str]] = []
        for *columns, key, told in rows:
            if told is None:
                found.append((ClaimedJob(*columns, *mine), key))
            else:
                rest = json.loads(told)
        found.sort(key=_urgency)
        return KeyedClaim(
            jobs=[job for job, _ in found],
            keys=[key for _, key in found],
            permits=[Permit(key, slot, claim_seq) for key, slot in rest["permits"] or ()],
            next={**after, **dict(rest["ends"] or ())},
            is_cut=bool(rest["is_cut"]),
            token_in_s=rest["token_in_s"],
        )

    return read


def _limited_keys(rows: reading.Records, _: int) -> LimitedKeys:
    """Returns what limited_keys.sql tells."""
    is_cut = False
    for row in rows:
        is_cut = row.pop("is_cut") or is_cut
        begun = json.loads(row["begun"] or "[]")
        row["begun"] = [(dt.timedelta(seconds=ago_s), number) for ago_s, number in begun]
        row["owners"] = [client_id_of(UUID(owner)) for owner in row["owners"]]
    return LimitedKeys(keys=[LimitedKey(**row) for row in rows], is_cut=is_cut)


def _urgency(found: tuple[ClaimedJob, str]) -> tuple[int, float, int]:
    job = found[0]
    return job.priority, job.scheduled_at, job.id
