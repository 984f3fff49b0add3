"""A job made by hand, to test a handler alone: all of it works, and no database is needed."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import pydantic
import pytest

import synk


@dataclass
class Resize(synk.JobArgs, kind="resize"):
    path: str
    width: int = 256


class OfMsgspec(msgspec.Struct):
    kind: ClassVar[str] = "resize"
    path: str


class OfPydantic(pydantic.BaseModel):
    kind: ClassVar[str] = "resize"
    path: str


class Resizer(synk.Worker[Resize]):
    def work(self, job: synk.Job[Resize]) -> object:
        job.progress(1, 2, "half")
        job.checkpoint({"at": 1})
        job.complete_tx(None, {"width": job.args.width})
        return [job.id, job.args.path, job.cancelled, job.last_checkpoint]


@synk.worker
def resize(job: synk.Job[Resize]) -> str:
    return f"{job!r} {job.args.path}"


def public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def test_a_handler_is_tested_with_a_job_made_by_hand() -> None:
    job = synk.Job(None, Resize("a.jpg"), "me")
    worker = Resizer()

    assert worker.work(job) == [1, "a.jpg", False, None]
    assert resize(job) == "<Job 1 'resize' attempt 1> a.jpg"
    assert worker.timeout(job) is None
    assert worker.next_retry(job, ValueError()) is None


@pytest.mark.parametrize(
    "args", [Resize("a"), OfMsgspec("a"), OfPydantic(path="a"), {"path": "a"}, None]
)
def test_all_that_a_job_has_can_be_asked_of_one_made_by_hand(args: Any) -> None:
    job = synk.Job(None, args, "me")
    asked = {name: getattr(job, name) for name in public(synk.Job)}
    verbs = {name for name, value in asked.items() if callable(value)}

    assert verbs == {"checkpoint", "complete_tx", "complete_tx_async", "progress"}
    assert asked["args"] is args
    assert (asked["id"], asked["attempt"], asked["uncounted"], asked["max_attempts"]) == (
        1,
        1,
        0,
        7,
    )
    assert asked["kind"] == getattr(args, "kind", "")
    assert (asked["queue"], asked["name"], asked["attempted_by"]) == ("default", "test", ["me"])
    assert asked["priority"] is synk.Priority.MEDIUM
    assert asked["state"] is synk.JobState.RUNNING
    assert (asked["depends_on"], asked["errors"], asked["last_checkpoint"]) == ([], [], None)
    assert (asked["deadline"], asked["cancelled"]) == (None, False)
    for name in ("created_at", "scheduled_at", "attempted_at"):
        assert (
            dt.timedelta() <= dt.datetime.now(dt.timezone.utc) - asked[name] < dt.timedelta(hours=1)
        )
    assert (asked["fence"].id, asked["fence"].attempt) == (1, 1)


def test_what_it_is_told_is_checked_as_in_a_worker() -> None:
    job = synk.Job(None, Resize("a"), "me")

    job.progress("much")  # pyright: ignore[reportArgumentType] - that is what is tried
    job.checkpoint(object())
    job.complete_tx(None, {"fine": True})
    asyncio.run(job.complete_tx_async(None))
    with pytest.raises(synk.InvalidValue, match="result="):
        job.complete_tx(None, object())
