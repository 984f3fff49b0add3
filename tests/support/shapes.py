"""Connections of every shape that psycopg has: what users make of theirs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.rows import args_row, class_row, dict_row, namedtuple_row, scalar_row
from psycopg.types.json import JsonbDumper

SETTINGS = {
    "search_path": "elsewhere",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Kiritimati",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "transform_null_equals": "on",
}


class Shouted(Dumper):
    def dump(self, obj: Any) -> bytes:
        return str(obj).upper().encode()


class AsBytes(Loader):
    def load(self, data: Any) -> bytes:
        return bytes(data)


class AsDecimal(Loader):
    def load(self, data: Any) -> Decimal:
        return Decimal(bytes(data).decode())


def adapt_otherwise(adapters: Any) -> None:
    """As a user's program might, and worse."""
    adapters.register_dumper(list, JsonbDumper)
    adapters.register_dumper(dict, JsonbDumper)
    adapters.register_dumper(str, Shouted)
    for name in ("text", "bool", "timestamptz", "uuid", "jsonb", "json", "interval"):
        adapters.register_loader(name, AsBytes)
    for name in ("int2", "int4", "int8", "float8", "numeric"):
        adapters.register_loader(name, AsDecimal)


class Subclass(psycopg.Connection[Any]):
    """A class of the user's own."""

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("not synk's")


def plainly(_: Any) -> None:
    """Nothing is changed."""


def otherwise(connection: Any) -> None:
    adapt_otherwise(connection.adapters)


def strangely_set(connection: Any) -> None:
    for name, value in SETTINGS.items():
        connection.execute(f"SELECT set_config('{name}', '{value}', false)")
    connection.commit()


Shape = tuple[dict[str, Any], Callable[[Any], None]]

SHAPES: dict[str, Shape] = {
    "rows_as_dicts": ({"row_factory": dict_row}, plainly),
    "rows_as_named_tuples": ({"row_factory": namedtuple_row}, plainly),
    "rows_as_objects": ({"row_factory": class_row(SimpleNamespace)}, plainly),
    "rows_as_single_values": ({"row_factory": scalar_row}, plainly),
    "rows_as_a_functions_results": ({"row_factory": args_row(lambda *_: None)}, plainly),
    "client_cursors": ({"cursor_factory": psycopg.ClientCursor}, plainly),
    "raw_cursors": ({"cursor_factory": psycopg.RawCursor}, plainly),
    "always_prepared": ({"prepare_threshold": 0}, plainly),
    "never_prepared": ({"prepare_threshold": None}, plainly),
    "adapters_of_its_own": ({}, otherwise),
    "strange_settings": ({}, strangely_set),
    "latin1": ({"client_encoding": "latin1"}, plainly),
    "sql_ascii": ({"client_encoding": "sql_ascii"}, plainly),
    "euc_jp": ({"client_encoding": "euc_jp"}, plainly),
}
"""What `connect` is told, and what is done to the connection then."""


def everything(connection: Any) -> None:
    strangely_set(connection)
    otherwise(connection)


EVERYTHING: Shape = (
    {"row_factory": dict_row, "cursor_factory": psycopg.RawCursor, "client_encoding": "sql_ascii"},
    everything,
)
