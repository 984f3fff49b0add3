"""What a script may be told. Each is quick by default, and long with ``--full``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Size:
    """A setting that is one thing in a quick run and another in a full one."""

    quick: Any
    full: Any
    help: str


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring, without its line of usage."""
    summary, _, rest = (doc or "").partition("\n\n")
    paragraphs = [part for part in rest.split("\n\n") if not part.startswith("    ")]
    parser = argparse.ArgumentParser(
        description=summary,
        epilog="\n\n".join(paragraphs),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="the long run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all values there")
    return parser


def parse(parser: argparse.ArgumentParser, sizes: Mapping[str, Size]) -> argparse.Namespace:
    """Adds the *sizes* and parses; those that are not given follow --full."""
    for name, size in sizes.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(size.quick),
            help=f"{size.help} ({size.quick:,}; {size.full:,} with --full)",
        )
    options = parser.parse_args()
    for name, size in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, size.full if options.full else size.quick)
    return options
