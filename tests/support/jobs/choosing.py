"""Jobs whose handler decides what becomes of them, each attempt in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import synk
from support.jobs.handlers import note, wait_for_the_gate

FOR_A_MOMENT = timedelta(milliseconds=20)
TOO_LONG = timedelta(days=4000)


def in_two_days(attempted_at: datetime | None) -> datetime:
    """From when a claim was made: the job and who looks at its row know that."""
    assert attempted_at is not None
    return attempted_at.replace(microsecond=0) + timedelta(days=2)


@dataclass
class Choose(synk.JobArgs, kind="choose"):
    """Each attempt takes the step of its number, and those after the last step the last one."""

    steps: list[str]
    path: str = ""
    text: str = ""


ChooseJob = synk.Job[Choose]


class Unmade(synk.Snooze):
    def __init__(self) -> None:
        pass


def swallowing(job: ChooseJob) -> object:
    try:
        raise synk.Snooze(FOR_A_MOMENT)
    except Exception:
        return "swallowed"


def returning_what_was_swallowed(job: ChooseJob) -> object:
    try:
        raise synk.Snooze(FOR_A_MOMENT)
    except BaseException as error:
        return error


async def awaited_snooze() -> None:
    await asyncio.sleep(0)
    raise synk.Snooze(FOR_A_MOMENT)


def snoozing_when_told(job: ChooseJob) -> object:
    """Waits for the gate, and snoozes when it opens, or when it is told to end."""
    try:
        wait_for_the_gate(job.args.path)
    except (synk.JobCancelled, synk.SoftTimeout) as error:
        raise synk.Snooze(timedelta(hours=1)) from error
    return synk.Snooze(timedelta(hours=1))


def cancelling_when_told(job: ChooseJob) -> object:
    try:
        wait_for_the_gate(job.args.path)
    except synk.JobCancelled as error:
        raise synk.Cancel("as I was told") from error


def noting(job: ChooseJob) -> object:
    job.progress(1, 2)
    job.checkpoint({"page": 3})
    print("written before", flush=True)
    raise synk.Snooze(timedelta(hours=1))


def chained(job: ChooseJob) -> object:
    try:
        raise ConnectionError("the other side is down")
    except ConnectionError as error:
        raise synk.RetryAt(in_two_days(job.attempted_at)) from error


def after_its_own_end(job: ChooseJob) -> object:
    import psycopg

    with psycopg.connect(job.args.text) as connection:
        job.complete_tx(connection, "by itself")
    raise synk.Snooze(FOR_A_MOMENT)


def fail(job: ChooseJob) -> object:
    raise ValueError(f"attempt {job.attempt}")


STEPS: dict[str, Callable[[ChooseJob], object]] = {
    "ok": lambda job: [job.attempt, job.snoozes, job.last_checkpoint],
    "fail": fail,
    "no time": lambda job: synk.Snooze(timedelta(0)),
    "a moment": lambda job: synk.Snooze(FOR_A_MOMENT),
    "an hour": lambda job: synk.Snooze(timedelta(hours=1)),
    "swallowing": swallowing,
    "returning what was swallowed": returning_what_was_swallowed,
    "awaited": lambda job: asyncio.run(awaited_snooze()),
    "when told": snoozing_when_told,
    "cancel when told": cancelling_when_told,
    "noting": noting,
    "negative": lambda job: synk.Snooze(timedelta(seconds=-1)),
    "absurd": lambda job: synk.Snooze(TOO_LONG),
    "no timedelta": lambda job: synk.Snooze(5),  # type: ignore[arg-type]
    "naive": lambda job: synk.RetryAt(datetime(2030, 1, 1)),  # noqa: DTZ001 - on purpose
    "no datetime": lambda job: synk.RetryAt("tomorrow"),  # type: ignore[arg-type]
    "far": lambda job: synk.RetryAt(job.attempted_at + TOO_LONG),
    "unmade": lambda job: Unmade(),
    "class": lambda job: synk.Snooze,
    "in two days": lambda job: synk.RetryAt(in_two_days(job.attempted_at)),
    "chained": chained,
    "at once": lambda job: synk.RetryAt(job.attempted_at - timedelta(hours=1)),
    "cancel": lambda job: synk.Cancel(job.args.text),
    "after its own end": after_its_own_end,
}


def raised(choice: object) -> None:
    assert isinstance(choice, BaseException)
    raise choice


@synk.worker(timeout=timedelta(seconds=60), soft_timeout=timedelta(seconds=50))
def choose(job: ChooseJob) -> object:
    step = job.args.steps[min(job.attempt, len(job.args.steps)) - 1]
    if job.args.path and job.args.text == "noted":
        note(job.args.path, f"{step} {job.attempt}")
    how, _, name = step.partition(": ")
    if how == "raise":
        return raised(STEPS[name](job))
    return STEPS[step](job)


@dataclass
class Hurried(synk.JobArgs, kind="hurried"):
    """Snoozes when its time is nearly over."""

    path: str


@synk.worker(timeout=timedelta(seconds=30), soft_timeout=timedelta(milliseconds=200))
def hurried(job: synk.Job[Hurried]) -> Any:
    return snoozing_when_told(job)  # type: ignore[arg-type]


def in_two_days_for(job: synk.Job[Any], error: BaseException) -> datetime | None:
    print(f"asked for {type(error).__name__}: {error}", flush=True)
    return in_two_days(job.attempted_at) if isinstance(error, ValueError) else None


@dataclass
class Asked(synk.JobArgs, kind="asked"):
    how: str


@synk.worker(next_retry=in_two_days_for)
def asked(job: synk.Job[Asked]) -> None:
    raise {"value": ValueError, "key": KeyError, "exit": SystemExit}[job.args.how]("of its own")


WORKERS = [choose, hurried, asked]
