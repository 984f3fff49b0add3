"""What a worker may say of what its jobs take, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import synk
from synk import memory
from synk.registry import Registry
from synk.weight import Weight, bytes_of, checked_weight, shown_bytes

MIB = 1024**2
GIB = 1024**3


@dataclass
class Args(synk.JobArgs, kind="weighs"):
    pass


class Heavy(synk.Worker[Args]):
    cores = 4
    memory = "3GiB"

    def work(self, job: synk.Job[Args]) -> None: ...


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3GiB", 3 * GIB),
        ("500MiB", 500 * MIB),
        ("2048 KiB", 2 * MIB),
        ("3GB", 3_000_000_000),
        ("500 MB", 500_000_000),
        ("1.5GiB", 3 * GIB // 2),
        ("2000KB", 2_000_000),
        (" 1 tib ", 1024 * GIB),
        (MIB, MIB),
    ],
)
def test_memory_is_a_number_of_bytes_or_text_with_a_unit(text: object, expected: int) -> None:
    assert bytes_of("memory", text) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "3",
        "3G",
        "3Gi",
        "GiB",
        "-1GiB",
        "1e3MiB",
        "3 GiB RAM",
        "\u0661GiB",
        3.5,
        True,
        None,
        [],
        0,
        -1,
    ],
)
def test_other_amounts_of_memory_are_refused(value: object) -> None:
    with pytest.raises(synk.ConfigurationError, match="memory"):
        bytes_of("memory", value)


@pytest.mark.parametrize("text", ["1KiB", "0GiB", "0.1MiB", "99999999999TiB"])
def test_less_than_a_mebibyte_and_more_than_any_machine_has_is_refused(text: str) -> None:
    with pytest.raises(synk.ConfigurationError, match="memory"):
        bytes_of("memory", text)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4", 65536])
def test_cores_are_whole_ones(value: object) -> None:
    with pytest.raises(synk.ConfigurationError, match="cores"):
        checked_weight(value, None)
    with pytest.raises(synk.ConfigurationError, match="cores"):

        @synk.worker(cores=value)  # type: ignore[arg-type]
        def _refused(_job: synk.Job[Args]) -> None: ...


def test_a_class_and_a_function_say_the_same() -> None:
    @synk.worker(cores=4, memory="3GiB")
    def heavy(_job: synk.Job[Args]) -> None: ...

    expected = {"weighs": Weight(cores=4, memory=3 * GIB)}
    assert Registry([Heavy()]).weights == Registry([heavy]).weights == expected


def test_who_says_nothing_weighs_nothing() -> None:
    @synk.worker
    def plain(_job: synk.Job[Args]) -> None: ...

    assert Registry([plain]).weights == {}


def test_a_wrong_attribute_is_refused_when_the_client_is_made() -> None:
    class Wrong(Heavy):
        memory = "3G"

    with pytest.raises(synk.ConfigurationError, match="memory='3G'"):
        Registry([Wrong()])


def test_a_limit_below_what_jobs_are_to_have_is_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match=r"max_rss.*less than the memory.*2GiB"):

        @synk.worker(memory="2GiB", max_rss=GIB)
        def _refused(_job: synk.Job[Args]) -> None: ...


@pytest.mark.parametrize("settings", [{"cores": 0}, {"cores": 2.0}, {"memory": "much"}])
def test_a_clients_own_settings_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(synk.ConfigurationError, match=next(iter(settings))):
        synk.Client(storage=synk.PostgresStorage("postgresql://nobody"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(3 * GIB, "3GiB"), (GIB * 3 // 2, "1.5GiB"), (100 * MIB, "100MiB"), (12, "12 bytes")],
)
def test_an_amount_is_shown_as_people_write_it(count: int, expected: str) -> None:
    assert shown_bytes(count) == expected


def machine(tmp_path: Path) -> Path:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       8388608 kB\nMemFree:          1024 kB\n")
    return meminfo


def test_there_is_what_the_machine_has(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert memory.available(tmp_path, own, meminfo=machine(tmp_path)) == 8 * GIB
    assert memory.available(tmp_path, own, meminfo=own) is None


@pytest.mark.parametrize("text", ["max", "", "nonsense", "0"])
def test_what_is_no_limit_of_a_group_limits_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert memory.available(tmp_path, tmp_path / "own", meminfo=machine(tmp_path)) == 8 * GIB


def test_the_tightest_limit_above_the_own_group_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/slice/unit\n")
    (tmp_path / "slice" / "unit").mkdir(parents=True)
    (tmp_path / "slice" / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "slice" / "unit" / "memory.max").write_text("max\n")

    assert memory.available(tmp_path, own, meminfo=machine(tmp_path)) == 2 * GIB


def test_a_limit_of_the_first_cgroup_version_is_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:memory:/docker/a\n4:cpu,cpuacct:/x\n")
    folder = tmp_path / "memory" / "docker" / "a"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")

    assert memory.available(tmp_path, own, meminfo=machine(tmp_path)) == 3 * GIB
