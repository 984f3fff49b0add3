from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import synk
from support.model import ModelStorage
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
def test_p9_a_wrong_queue_setting_names_its_field(field: str, value: Any) -> None:
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


@pytest.mark.parametrize("value", [0, -1, (16 << 20) - 1, 2**63, 3e7, True, None, "64MB"])
def test_what_is_no_number_of_bytes_to_hold_is_refused(value: Any) -> None:
    with pytest.raises(synk.ConfigurationError, match=r"max_held_bytes=.*from 16 MiB on"):
        synk.Client(storage=ModelStorage(), max_held_bytes=value)
    assert synk.Client(storage=ModelStorage()).engine.max_held_bytes == 64 << 20


def affinity() -> int:
    return len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("10000 100000", 1),
        ("max 100000", None),
        ("", None),
        ("0 100000", None),
        ("nonsense", None),
        ("a b", None),
    ],
)
def test_s14_a_cgroups_quota_limits_the_cpus(
    tmp_path: Path, cpu_max: str, expected: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)

    assert cpus.available(tmp_path) == (expected or affinity())


def test_s14_the_tightest_quota_above_the_own_group_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/slice/unit\n")
    (tmp_path / "slice" / "unit").mkdir(parents=True)
    (tmp_path / "slice" / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "slice" / "unit" / "cpu.max").write_text("max 100000\n")

    assert cpus.available(tmp_path, own) == 1


def test_s14_a_quota_of_the_first_cgroup_version_is_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:memory:/x\n4:cpu,cpuacct:/docker/a\n")
    folder = tmp_path / "cpu" / "docker" / "a"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("100000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")

    assert cpus.available(tmp_path, own) == 1


def test_s14_the_affinity_limits_the_cpus(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})

        assert cpus.available(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
