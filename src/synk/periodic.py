"""Periodic jobs: what is said of one in code, how it is stored, and what is seen of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from synk.arguments import encode_args
from synk.errors import ConfigurationError, InvalidJob
from synk.insertion import InsertOptions, new_job
from synk.limit import NO_LIMITS
from synk.plain import json_text
from synk.row import check_label
from synk.ticks import Cron, Every, Rules, Ticking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synk.insertion import JobOptions
    from synk.limit import Limits

Missed: TypeAlias = Literal["one", "all", "none"]
Overlap: TypeAlias = Literal["skip", "allow"]

_SHORTEST: Final = dt.timedelta(seconds=1)
_LONGEST: Final = dt.timedelta(days=3660)
_JITTER_MAX: Final = dt.timedelta(days=1)

_STORED: Final = ("queue", "priority", "max_retries", "tags", "meta", "start_before", "keep")
"""Of the options, those that a schedule has for all its jobs."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """A job that comes again and again, for ``Client(periodic=[...])``.

    Each tick becomes one job, whichever supervisor is there; or it is skipped, and the log says so.
    The handler finds the time of the tick as `Job.tick`, also when it is tried again.

    Attributes:
        name: what names it in the database, and its jobs; 1 to 127 characters.
        when: a cron expression of five fields (minute, hour, day of month, month, day of week), or
            a nickname such as ``@daily``; or a timedelta from 1 s on, counted from when it was
            first declared.
        args: the arguments of its jobs.
        tz: the time zone whose wall clock the cron expression means; ``UTC`` by default.
        missed: what becomes of ticks for which no supervisor was there: ``one``, the default: the
            newest of them is made up for; ``all``: up to 100 of them are; ``none``: a tick that is
            a minute late is skipped.
        max_late: a tick that is later than this is skipped; None, the default: none is too late,
            but where *missed* is ``none``.
        jitter: a job may begin up to so much after its tick, by chance; zero by default, at most a
            day.
        overlap: ``skip``, the default: a tick is skipped while the job of the tick before is not
            over, be it that it waits to be tried again; ``allow``: it is not.
        options: queue, priority, max_retries, tags, meta, keep, and as a timedelta start_before, of
            its jobs; what they do not say, and None, the default: as inserts of their kind.

    Raises:
        ConfigurationError: a value that cannot be, named with its field; so is an expression that
            never comes.
    """

    name: str
    when: str | dt.timedelta
    args: Any
    tz: str = field(default="UTC", kw_only=True)
    missed: Missed = field(default="one", kw_only=True)
    max_late: dt.timedelta | None = field(default=None, kw_only=True)
    jitter: dt.timedelta = field(default=dt.timedelta(0), kw_only=True)
    overlap: Overlap = field(default="skip", kw_only=True)
    options: InsertOptions | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        try:
            check_label("name", self.name)
        except InvalidJob as error:
            raise ConfigurationError("name", self.name, str(error)) from None
        Cron("@daily" if isinstance(self.when, dt.timedelta) else self.when, self.tz)
        if isinstance(self.when, dt.timedelta):
            _check_between("when", self.when, _SHORTEST, _LONGEST)
        if self.missed not in ("one", "all", "none"):
            raise ConfigurationError("missed", self.missed, "must be 'one', 'all' or 'none'")
        if self.overlap not in ("skip", "allow"):
            raise ConfigurationError("overlap", self.overlap, "must be 'skip' or 'allow'")
        if self.missed == "all" and self.overlap == "skip":
            problem = "makes jobs that overlap: say overlap='allow' too"
            raise ConfigurationError("missed", self.missed, problem)
        if self.max_late is not None:
            _check_between("max_late", self.max_late, _SHORTEST, _LONGEST)
        _check_between("jitter", self.jitter, dt.timedelta(0), _JITTER_MAX)
        _check_options(self.options)

    def definition(
        self, defaults: Mapping[str, JobOptions], limits: Limits = NO_LIMITS
    ) -> Definition:
        """Returns it as it is stored.

        Args:
            defaults: kind -> what inserts of that kind default to.
            limits: those that jobs have by their kinds and queues.

        Raises:
            ConfigurationError: the arguments are not those of a job.
        """
        try:
            job = new_job(self.name, self.args, self.options, defaults, limits)
            # In one order: else each start would find another definition.
            kind, args = encode_args(self.args, in_order=True)
        except InvalidJob as error:
            raise ConfigurationError("periodic", self.name, str(error)) from None
        options, limit = job.options, job.limit
        is_every = isinstance(self.when, dt.timedelta)
        return Definition(
            name=self.name,
            cron=None if isinstance(self.when, dt.timedelta) else self.when,
            every=self.when if isinstance(self.when, dt.timedelta) else None,
            tz="UTC" if is_every else self.tz,
            kind=kind,
            args=args,
            queue=options.queue,
            priority=int(options.priority),
            max_attempts=options.max_retries + 1,
            tags=tuple(options.tags or ()),
            meta=None if options.meta is None else json_text(options.meta),
            start_within=_start_within(options.start_before),
            keep=options.keep,
            limit_name=limit and limit.name,
            limit_path=tuple(limit.path) if limit else (),
            missed=self.missed,
            max_late=self.max_late,
            jitter=self.jitter,
            overlap=self.overlap,
        )


def check_periodic(
    periodic: Sequence[Periodic],
    defaults: Mapping[str, JobOptions],
    limits: Limits = NO_LIMITS,
) -> tuple[Definition, ...]:
    """Returns what a client declares; *defaults* and *limits* are those of the kinds it knows.

    Raises:
        ConfigurationError: something else than a `Periodic`, or two of one name.
    """
    found: dict[str, Definition] = {}
    for each in periodic:
        if not isinstance(each, Periodic):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("periodic", each, "must be a synk.Periodic")
        if each.name in found:
            raise ConfigurationError("periodic", each.name, "names two of them")
        found[each.name] = each.definition(defaults, limits)
    return tuple(found.values())


def _check_between(name: str, value: object, least: dt.timedelta, most: dt.timedelta) -> None:
    if not isinstance(value, dt.timedelta) or not least <= value <= most:
        raise ConfigurationError(name, value, f"must be a timedelta from {least} to {most}")


def _check_options(options: object) -> None:
    if options is None:
        return
    if not isinstance(options, InsertOptions):
        raise ConfigurationError("options", options, "must be InsertOptions")
    default = InsertOptions()
    for each in dataclasses.fields(options):
        value = getattr(options, each.name)
        if each.name not in _STORED and value != getattr(default, each.name):
            problem = f"is not for each job of a schedule: {', '.join(_STORED)} are"
            raise ConfigurationError(f"options.{each.name}", value, problem)
    _start_within(options.start_before)


def _start_within(start_before: dt.datetime | dt.timedelta | None) -> dt.timedelta | None:
    if isinstance(start_before, dt.datetime):
        problem = "is the same time for all jobs of a schedule: give a timedelta"
        raise ConfigurationError("options.start_before", start_before, problem)
    if start_before is not None:
        _check_between("options.start_before", start_before, _SHORTEST, _LONGEST)
    return start_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A schedule as it is stored: what it says, and nothing of what became of it.

    Attributes:
        name: its key.
        cron: the expression; None: it has an interval.
        every: the interval; None: it has an expression.
        tz: the name of the time zone.
        kind: that of its jobs.
        args: JSON text.
        queue: that of its jobs, as the next two.
        priority: 1 (runs first) to 4.
        max_attempts: tries in all.
        tags: of its jobs.
        meta: of its jobs, JSON text; None: nothing.
        start_within: a job that has not begun so long after it was due is cancelled; None: none is.
        keep: for how long its jobs are kept when they are over; None: as others.
        limit_name: the limit that its jobs have; None: none.
        limit_path: where in their arguments that has its key; empty: nowhere.
        missed: ``one``, ``all`` or ``none``.
        max_late: None: no tick is too late.
        jitter: by how much its jobs come later at the most.
        overlap: ``skip`` or ``allow``.
    """

    name: str
    cron: str | None
    every: dt.timedelta | None
    tz: str
    kind: str
    args: str
    queue: str
    priority: int
    max_attempts: int
    tags: tuple[str, ...]
    meta: str | None
    start_within: dt.timedelta | None
    keep: dt.timedelta | None
    limit_name: str | None = None
    limit_path: tuple[str, ...] = ()
    missed: str
    max_late: dt.timedelta | None
    jitter: dt.timedelta
    overlap: str

    @property
    def hash(self) -> str:
        """Of all that it says: another one is another definition."""
        said = {each.name: getattr(self, each.name) for each in dataclasses.fields(Definition)}
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def ticking(self, since: dt.datetime) -> Ticking:
        """Returns when it ticks; an interval is counted from *since* on.

        Raises:
            ConfigurationError: it was stored by other means, and cannot be read.
        """
        if self.every is not None:
            if self.every < _SHORTEST:
                raise ConfigurationError("every", self.every, "must be from 1 s on")
            return Every(self.every, since)
        return Cron(self.cron or "", self.tz)

    @property
    def rules(self) -> Rules:
        """What becomes of ticks that were missed."""
        return Rules(missed=self.missed, max_late=self.max_late)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Definition):
    """A periodic job as it is in the database; its times are in UTC, by the database's clock.

    Attributes:
        version: changes with what it says, and when it is paused or resumed.
        since: from when on its ticks count: when its expression was last changed, or it was
            resumed.
        next_at: its next tick; None: a supervisor has yet to compute it.
        last_at: the last tick that became a job; None: none has.
        last_job_id: that job, or that of a later `run_now`; it may be gone by now.
        runs: how many jobs it has made.
        skipped: how many ticks became no job.
        paused_at: since when it is paused; None: it is not.
        undeclared: whether it came from code, and no supervisor that runs now declares it; it
            ticks all the same, until it is removed.
    """

    version: int
    since: dt.datetime
    next_at: dt.datetime | None
    last_at: dt.datetime | None
    last_job_id: int | None
    runs: int
    skipped: int
    paused_at: dt.datetime | None
    undeclared: bool = False

    def first_tick(self) -> dt.datetime:
        """Returns the first tick that nothing was done about yet.

        Raises:
            ConfigurationError: as `ticking`.
        """
        return self.next_at or self.ticking(self.since).after(self.since)
