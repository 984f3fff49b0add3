"""What is asked of a storage to say something of a queue, in order; nothing here asks or waits.

A client and its asyncio twin ask these questions, and wait, each in its own way.
"""

from __future__ import annotations

import getpass
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ulid import ULID

from synk.config import seconds_of
from synk.errors import ConfigurationError, InvalidJob, PauseNotInForce
from synk.queue_words import ALL, PAUSED, WORKERS_MAX, QueueWords, draining
from synk.row import check_label, is_whole
from synk.status import client_id_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Sequence
    from uuid import UUID

    from synk.queue_words import Said
    from synk.setting import SettingChange, Settings, Standing

T = TypeVar("T")

_LOOK_S: Final = 0.02
"""Between two looks whether a pause is in force."""


@dataclass(frozen=True, slots=True)
class Paused:
    """What a pause has come to.

    Attributes:
        running: how many jobs of the queue run still; they finish.
        is_in_force: whether it was waited for, so that no job of the queue can begin any more,
            anywhere, until it is resumed.
    """

    running: int
    is_in_force: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the storage: the name of its method, and what that is given."""

    name: str
    given: tuple[Any, ...] = ()


Steps: TypeAlias = "Generator[Ask | float, Any, T]"
"""Questions to the storage, and seconds to wait; what is sent back are the answers."""


def saying(
    name: str, value: Said, queue: str, *, supervisor: str | None, by: str | None
) -> Steps[Settings]:
    """Says something of a queue; returns the settings with it."""
    queue, by = _checked_queue(queue), by or _who()
    owner = None if supervisor is None else owner_named(supervisor)
    if owner is not None:
        standings: Sequence[Standing] = yield Ask("standings")
        if owner not in [each.id for each in standings]:
            raise ConfigurationError("supervisor", supervisor, "no such one runs: see `synk top`")
    settings: Settings = yield Ask("settings")
    words = QueueWords(settings)
    changes = words.saying(name, value, queue=queue, supervisor=owner, by=by[:127])
    if changes:
        yield Ask("change_settings", (changes,))
        settings = yield Ask("settings")
    return settings


def pausing(
    queue: str,
    *,
    wait: dt.timedelta | None,
    supervisor: str | None,
    by: str | None,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[Paused]:
    """Pauses a queue, and waits until that is in force."""
    wait_s = None if wait is None else seconds_of("wait", wait)
    settings = yield from saying(PAUSED, True, queue, supervisor=supervisor, by=by)  # noqa: FBT003 - a word
    owner = None if supervisor is None else owner_named(supervisor)
    if wait_s is not None:
        waiting = PauseWait(queue, owner, settings.revision, clock() + wait_s)
        while behind := waiting.behind((yield Ask("standings")), clock()):
            waiting.check(behind, clock())
            yield _LOOK_S
            _check_paused(queue, owner, (yield Ask("settings")))
        # After the last look at them, what all have in force is what holds.
        _check_paused(queue, owner, (yield Ask("settings")))
    running: int = yield Ask("count_running", (None if queue == ALL else queue, owner))
    return Paused(running, is_in_force=wait_s is not None)


def draining_steps(supervisor: str, by: str | None) -> Steps[bool]:
    """Has a supervisor stop; returns whether there is one."""
    owner = owner_named(supervisor)
    standings: Sequence[Standing] = yield Ask("standings")
    if owner not in [each.id for each in standings]:
        return False
    changes: list[SettingChange] = [draining(owner, (by or _who())[:127])]
    yield Ask("change_settings", (changes,))
    return True


class PauseWait:
    """The wait for a pause to be in force.

    It is once each supervisor that serves the queue, and may still own jobs, says so. One whose
    lease is over does not count, but only if no renewal of it was seen here for as long as that
    lasts: the storage's clock may have been set.

    Args:
        queue: what is paused.
        supervisor: on which one; None: on all.
        revision: of the settings by which it is.
        until: when the wait is over, by the monotonic clock.
    """

    def __init__(self, queue: str, supervisor: UUID | None, revision: int, until: float) -> None:
        self._queue = queue
        self._supervisor = supervisor
        self._revision = revision
        self._until = until
        self._seen: dict[UUID, tuple[int, float]] = {}

    def behind(self, standings: Sequence[Standing], now: float) -> list[Standing]:
        """Returns those that may still begin a job of the queue."""
        behind: list[Standing] = []
        for each in standings:
            beat, since = self._seen.get(each.id, (each.beat, now))
            if beat != each.beat:
                since = now
            self._seen[each.id] = each.beat, since
            is_meant = self._queue == ALL or self._queue in each.queues
            is_gone = each.left_s <= 0 and now - since >= each.ttl_s
            if (
                is_meant
                and self._supervisor in (None, each.id)
                and each.revision < self._revision
                and not is_gone
            ):
                behind.append(each)
        return behind

    def check(self, behind: Sequence[Standing], now: float) -> None:
        """Looks whether it is too late.

        Raises:
            PauseNotInForce: it is.
        """
        if now < self._until:
            return
        first = behind[0]
        more = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
        raise PauseNotInForce(
            f"queue {self._queue} is paused, but may still begin jobs on supervisor "
            f"{client_id_of(first.id)} (host {first.host}, pid {first.pid}){more}: it has not "
            f"confirmed it yet. If it is gone, its lease is over in {first.ttl_s:.0f} s at the most"
        )


def _check_paused(queue: str, owner: UUID | None, settings: Settings) -> None:
    if not QueueWords(settings).paused(queue, owner):
        raise PauseNotInForce(f"queue {queue} was resumed by somebody else meanwhile")


def _checked_queue(queue: object) -> str:
    try:
        return check_label("queue", queue)
    except InvalidJob as error:
        raise ConfigurationError("queue", queue, error.problem) from None


def checked_size(max_workers: object) -> int | None:
    """Returns *max_workers*.

    Raises:
        ConfigurationError: it is no number that a queue can have.
    """
    if max_workers is None:
        return None
    if is_whole(max_workers) and 1 <= max_workers <= WORKERS_MAX:
        return max_workers
    problem = f"must be from 1 to {WORKERS_MAX}; to have none run, pause it"
    raise ConfigurationError("max_workers", max_workers, problem)


def owner_named(supervisor: object) -> UUID:
    """Returns the owner whose client has this id.

    Raises:
        ConfigurationError: it is no id.
    """
    try:
        return ULID.from_str(str(supervisor)).to_uuid()
    except ValueError:
        problem = "must be the id of a supervisor, 26 letters and digits: see `synk top`"
        raise ConfigurationError("supervisor", supervisor, problem) from None


def _who() -> str:
    """Returns who calls, as people know them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "?"
    return f"{user}@{socket.gethostname()}"
