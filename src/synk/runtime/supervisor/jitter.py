"""Pauses that are never quite the same, so that a fleet does not act in one instant."""

from __future__ import annotations

import random


def spread(seconds: float, share: float) -> float:
    """Returns *seconds*, give or take up to *share* of it, by chance."""
    return seconds * random.uniform(1 - share, 1 + share)  # noqa: S311 - no secret


def jittered(seconds: float, share: float) -> float:
    """Returns *seconds*, or up to *share* of it less, by chance."""
    return seconds * random.uniform(1 - share, 1)  # noqa: S311 - no secret
