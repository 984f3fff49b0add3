from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

from synk.config import EngineConfig
from synk.core import slot as slot_module
from synk.core.limits import Limits
from synk.core.slot import TRANSITIONS, IllegalTransition, Slot, SlotInput, SlotState

LIMITS = Limits({}, EngineConfig(processes=1))
PAIRS = list(itertools.product(SlotState, SlotInput))


@pytest.mark.parametrize(("state", "slot_input"), PAIRS)
def test_a_slot_moves_by_the_table_and_only_by_it(state: SlotState, slot_input: SlotInput) -> None:
    slot = Slot(0, LIMITS)
    slot.state = state
    following = TRANSITIONS.get((state, slot_input))

    if following is None:
        with pytest.raises(IllegalTransition, match=f"slot 0 is {state} and cannot take"):
            slot.move(slot_input)
        assert slot.state is state
    else:
        slot.move(slot_input)
        assert slot.state is following


def test_every_state_can_be_left_and_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(SlotState)
    assert set(TRANSITIONS.values()) == set(SlotState)


def test_an_exit_leads_to_vacancy_from_every_state_with_a_process() -> None:
    with_process = set(SlotState) - {SlotState.VACANT}

    assert {s for (s, i), t in TRANSITIONS.items() if i is SlotInput.EXIT} == with_process


def test_nobody_but_a_slot_writes_its_fields() -> None:
    core, fields = Path(slot_module.__file__).parent, vars(Slot(0, LIMITS))
    writes = [
        f"{path.name}:{target.lineno} {target.attr}"
        for path in core.glob("*.py")
        if path.name != "slot.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for assigned in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for target in ast.walk(assigned)
        if isinstance(target, ast.Attribute)
        and target.attr in fields
        and not (isinstance(target.value, ast.Name) and target.value.id == "self")
    ]

    assert writes == []
