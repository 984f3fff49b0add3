"""The time that a platform gives, against the time that a drain may take."""

from __future__ import annotations

import pytest

import synk
from support.supervising import make_client, supervised, wait_until
from synk.runtime.supervisor.platform_grace import doubt

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
UNIT = {"SYSTEMD_EXEC_PID": "77"}
TOLD = {"SYNK_TERMINATION_GRACE": "120"}


def test_q2_the_default_is_over_before_kubernetes_kills() -> None:
    with make_client("postgresql://nobody@127.0.0.1:9/none") as client:
        assert client.engine.drain_timeout_s == 25
        assert doubt(client.engine.drain_timeout_s, POD, 77) is None


@pytest.mark.parametrize(
    ("drain_s", "environment", "shown"),
    [
        (31, POD, "but Kubernetes kills this process after 30 s: raise terminationGracePeriodSec"),
        (29, POD, "set drain_timeout to 25 s at most"),
        (90, UNIT, "but systemd kills this process after 90 s: raise TimeoutStopSec to 95"),
        (116, {**POD, **TOLD}, "SYNK_TERMINATION_GRACE=121, or set drain_timeout to 115 s"),
    ],
)
def test_q2_a_drain_that_the_platform_cuts_short_is_told_in_one_line(
    drain_s: float, environment: dict[str, str], shown: str
) -> None:
    line = str(doubt(drain_s, environment, 77))

    assert line.startswith(f"drain_timeout is {drain_s} s, ")
    assert shown in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("drain_s", "environment"),
    [(600, {}), (25, POD), (85, UNIT), (600, {"SYSTEMD_EXEC_PID": "78"}), (115, {**POD, **TOLD})],
)
def test_q2_where_nothing_is_known_or_there_is_time_nothing_is_told(
    drain_s: float, environment: dict[str, str]
) -> None:
    assert doubt(drain_s, environment, 77) is None


def test_q2_a_supervisor_tells_it_when_it_starts(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SYNK_TERMINATION_GRACE", "10")
    with supervised(dsn):
        wait_until(lambda: "drain_timeout is 25 s, but the platform kills" in caplog.text)


def test_q2_a_time_that_is_no_number_is_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNK_TERMINATION_GRACE", "30s")
    with (
        make_client(dsn) as client,
        pytest.raises(synk.ConfigurationError, match="SYNK_TERMINATION_GRACE"),
    ):
        client.start()
