"""What a limit may say, and what it is refused for before a job is stored."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic
import pytest

import synk
from synk.limit import Cap, Limit, cap_of, check_path, limits_by_name

MINUTE = dt.timedelta(minutes=1)


@dataclass
class Customer:
    id: int
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Report(synk.JobArgs, kind="report"):
    tenant: str
    customer: Customer | None = None
    anything: Any = None


class Renamed(msgspec.Struct, rename="camel"):
    kind = "renamed"
    tenant_id: str


class Model(pydantic.BaseModel):
    tenant: str = pydantic.Field(alias="tenantName")


def test_a_limit_has_a_name_and_says_what_it_limits() -> None:
    limit = synk.Limit("tenant", key="args.customer.id", running=4, rate=(100, MINUTE))

    assert limit.path == ("customer", "id")
    assert limit.cap == Cap(4, (100, MINUTE))


def test_keys_may_take_turns_without_a_cap() -> None:
    assert Limit("tenant", key="args.tenant").cap == Cap(None, None)


@pytest.mark.parametrize(
    ("given", "field_name"),
    [
        ({"name": "", "running": 1}, "limit.name"),
        ({"name": "a:b", "running": 1}, "limit.name"),
        ({"name": "x" * 64, "running": 1}, "limit.name"),
        ({"name": 7, "running": 1}, "limit.name"),
        ({"name": "a"}, "limit"),
        ({"name": "a", "running": 0}, "limit.running"),
        ({"name": "a", "running": -1}, "limit.running"),
        ({"name": "a", "running": True}, "limit.running"),
        ({"name": "a", "running": 1.5}, "limit.running"),
        ({"name": "a", "running": 1_000_001}, "limit.running"),
        ({"name": "a", "rate": 100}, "limit.rate"),
        ({"name": "a", "rate": (100,)}, "limit.rate"),
        ({"name": "a", "rate": (0, MINUTE)}, "limit.rate"),
        ({"name": "a", "rate": (100, 60)}, "limit.rate"),
        ({"name": "a", "rate": (100, dt.timedelta(0))}, "limit.rate"),
        ({"name": "a", "rate": (100, dt.timedelta(days=400))}, "limit.rate"),
        ({"name": "a", "key": "tenant"}, "limit.key"),
        ({"name": "a", "key": "args"}, "limit.key"),
        ({"name": "a", "key": "args..tenant"}, "limit.key"),
        ({"name": "a", "key": ""}, "limit.key"),
        ({"name": "a", "key": 5}, "limit.key"),
    ],
)
def test_what_limits_nothing_or_cannot_be_is_refused_with_its_field(
    given: dict[str, Any], field_name: str
) -> None:
    with pytest.raises(synk.ConfigurationError) as refused:
        Limit(**given)

    assert refused.value.field == field_name


def test_a_key_leads_to_a_field_of_the_arguments() -> None:
    for key in ("args.tenant", "args.customer.id", "args.customer.tags.x", "args.anything.a.b"):
        check_path("limit.key", key, Report)
    check_path("limit.key", "args.tenantId", Renamed)
    check_path("limit.key", "args.tenant", Model)


@pytest.mark.parametrize(
    ("key", "args_type", "there"),
    [
        ("args.tenent", Report, "args has anything, customer, tenant"),
        ("args.customer.name", Report, "args.customer has id, tags"),
        ("args.tenant.id", Report, "args.tenant has no fields"),
        ("args.tenant_id", Renamed, "args has tenantId"),
        ("args.tenantName", Model, "args has tenant"),
    ],
)
def test_a_key_that_leads_nowhere_is_told_what_there_is(
    key: str, args_type: type, there: str
) -> None:
    with pytest.raises(synk.ConfigurationError, match=there) as refused:
        check_path("limit.key", key, args_type)

    assert (refused.value.field, refused.value.value) == ("limit.key", key)


def test_limits_of_one_name_say_the_same() -> None:
    a = Limit("tenant", key="args.tenant", running=2)
    b = Limit("tenant", key="args.customer", running=2)

    assert limits_by_name([a, b]) == {"tenant": a}
    with pytest.raises(synk.ConfigurationError, match="says something else"):
        limits_by_name([a, Limit("tenant", key="args.tenant", running=3)])


def test_what_is_said_of_a_key_comes_before_what_is_said_of_all() -> None:
    caps = {"tenant": Cap(4), "tenant:acme": Cap(2)}

    assert [cap_of(key, caps).running for key in ("tenant:acme", "tenant:b:c", "tenant", "x")] == [
        2, 4, 4, None,
    ]  # fmt: skip
