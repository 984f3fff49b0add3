from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import synk
from synk import cpus
from synk.config import EngineConfig


def test_a_queues_defaults_are_the_originals() -> None:
    queue = synk.QueueConfig()

    assert queue.max_workers == 100
    assert queue.time_fetch == timedelta(milliseconds=200)
    assert queue.job_timeout == timedelta(minutes=1)


def test_the_cleaners_defaults_are_the_originals() -> None:
    cleaner = synk.CleanerConfig()

    assert cleaner.clean_interval == timedelta(hours=24)
    assert dict(cleaner.by_status) == {
        synk.JobState.COMPLETED: timedelta(days=30),
        synk.JobState.CANCELLED: timedelta(days=90),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_workers", 0),
        ("max_workers", 65536),
        ("max_workers", "9"),
        ("time_fetch", timedelta(0)),
        ("time_fetch", 0.2),
        ("job_timeout", timedelta(days=31)),
        ("job_timeout", timedelta(seconds=-1)),
        ("job_timeout", None),
    ],
)
def test_a_wrong_queue_setting_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(synk.ConfigurationError) as caught:
        synk.QueueConfig(**{field: value})

    assert caught.value.field == field


@pytest.mark.parametrize(
    "by_status",
    [{synk.JobState.RUNNING: timedelta(1)}, {synk.JobState.COMPLETED: 30}, {"completed": None}],
)
def test_only_final_states_are_cleaned(by_status: Any) -> None:
    with pytest.raises(synk.ConfigurationError, match="by_status"):
        synk.CleanerConfig(by_status=by_status)


def test_retentions_below_a_day_are_kept_exactly() -> None:
    retention = timedelta(hours=36, seconds=1)

    cleaner = synk.CleanerConfig(by_status={synk.JobState.COMPLETED: retention})

    assert cleaner.by_status[synk.JobState.COMPLETED] == retention


@pytest.mark.parametrize("options", [{"processes": 0}, {"processes": 1, "start_method": "fork"}])
def test_fork_and_no_processes_are_refused(options: Any) -> None:
    with pytest.raises(synk.ConfigurationError):
        EngineConfig(**options)


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000", None),
        ("150000 100000", 1.5),
        ("50000 100000", 0.5),
        ("", None),
        ("0 100000", None),
        ("nonsense", None),
        ("a b", None),
    ],
)
def test_a_cgroups_quota_is_read(tmp_path: Path, cpu_max: str, expected: float | None) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)

    assert cpus._quota(tmp_path) == expected


def test_a_quota_of_the_first_cgroup_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")

    assert cpus._quota(tmp_path) == 2.0


def test_there_is_at_least_one_cpu(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("10000 100000")

    assert cpus.available(tmp_path) == 1
