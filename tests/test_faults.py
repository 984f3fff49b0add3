"""FAULTS.md names all faults that have tests, none that has none unsaid, and files as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent

NO_TEST = "No test"
"""What the line of a fault says that is only described."""

_SECTION = re.compile(r"^## .*\((?P<letter>[A-Z])\)$", re.MULTILINE)
_LINE = re.compile(
    r"^- \*\*(?P<id>[A-Z]\d+)\*\* (?P<text>.+?)(?=^- |^## |\Z)", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"`((?:\w+/)*test_\w+\.py)`")
_NAME = re.compile(r"test_(?P<ids>(?:[a-z]\d+_)+)")


def sections() -> dict[str, dict[str, str]]:
    """Returns the letter of each section -> the id of each fault -> what is said of it."""
    _, *parts = _SECTION.split((TESTS / "FAULTS.md").read_text())
    found: dict[str, dict[str, str]] = {}
    for letter, body in zip(parts[::2], parts[1::2], strict=True):
        lines = [(match["id"], match["text"]) for match in _LINE.finditer(body)]
        assert len(lines) == len(re.findall("^- ", body, re.MULTILINE)), f"an odd line in {letter}"
        found[letter] = dict(lines)
        assert len(lines) == len(found[letter]), f"a fault twice in {letter}"
    return found


def ids_in_names() -> set[str]:
    """Returns the ids of faults in the names of tests."""
    found: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and (match := _NAME.match(node.name)):
                found.update(match["ids"].upper().split("_")[:-1])
    return found


def test_faults_are_listed_in_their_section_and_in_order() -> None:
    for letter, faults in sections().items():
        numbers = [int(fault.removeprefix(letter)) for fault in faults]
        assert numbers == sorted(numbers), letter


def test_every_fault_that_is_listed_has_a_test_of_its_name_or_says_that_it_has_none() -> None:
    listed = {fault: text for faults in sections().values() for fault, text in faults.items()}

    described = {fault for fault, text in listed.items() if NO_TEST in text}
    assert set(listed) - described == set(listed) & ids_in_names()


def test_every_fault_that_is_tested_is_listed_where_its_section_has_begun() -> None:
    begun = {letter: faults for letter, faults in sections().items() if faults}
    listed = {fault for faults in begun.values() for fault in faults}

    assert {"W", "S", "Q"} <= set(begun)
    assert {fault for fault in ids_in_names() if fault[0] in begun} <= listed


def test_every_file_that_is_named_is_there() -> None:
    named = _FILE.findall((TESTS / "FAULTS.md").read_text())

    assert named
    assert [name for name in named if not (TESTS / name).is_file()] == []
