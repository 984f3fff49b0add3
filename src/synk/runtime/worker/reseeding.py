"""Random numbers: what a fork, or a pickle, would repeat in every worker draws its own instead.

Every generator that can be found is given new entropy in each worker, also a `random.Random` or a
`numpy.random.RandomState` that was made with a seed, which cannot be told from others, and which
no job can rely on: how often it was drawn from before depends on the jobs that ran in its process.
A numpy `Generator` tells its seed: one that was named is left as it is, and said. A job that wants
a fixed sequence makes its generator itself.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_DRAWN_FROM: Final = 2**64
"""numpy draws 128 bits where no seed is named; people name smaller numbers."""

_NAMED_MAX: Final = 5
"""Generators that were given a seed, which are told one by one."""


def reseed() -> None:
    """Gives this process random numbers of its own, where a fork would repeat its siblings'."""
    modules = (sys.modules.get(name) for name in ("random", "numpy.random", "torch"))
    renew(filter(None, (getattr(module, "seed", None) for module in modules)))


def renew(generators: Iterable[Callable[[], object]]) -> None:
    """Gives each of what `generators` found new entropy."""
    for seed in generators:
        with contextlib.suppress(Exception):
            seed()


def generators() -> list[Callable[[], object]]:
    """Returns what seeds each generator among the objects that the collector knows, anew.

    It looks at all that is not frozen: some ten milliseconds after large imports, and nothing to
    speak of in a process that was forked after that.
    """
    return [seed for each in _objects() if (seed := _seeding(each)) is not None]


def given_seeds() -> list[str]:
    """Returns a line for each numpy generator that was made with a seed, and so is left alone."""
    kinds = _numpy_kinds()
    if kinds is None:
        return []
    seeded = [each for each in _objects() if isinstance(each, kinds[0]) and not _is_drawn(each)]
    return [
        f"{_name_of(each, kinds[1])} was made at import with a seed, and draws the same numbers in "
        "every worker: make it in on_worker_start, or in the job"
        for each in seeded[:_NAMED_MAX]
    ]


def _objects() -> Iterator[object]:
    objects = gc.get_objects()
    if "torch" not in sys.modules:
        return iter(objects)
    # Its generators are known to the collector by what holds them only.
    holders = [each for each in objects if type(each) in {dict, list, tuple}]
    return chain(objects, gc.get_referents(*holders))


def _seeding(found: object) -> Callable[[], object] | None:
    kinds = _numpy_kinds()
    each: Any = found
    if isinstance(each, random.Random):
        return each.seed
    if kinds is not None and isinstance(each, kinds[2]):
        return each.seed
    if kinds is not None and isinstance(each, kinds[0]):
        # As new, with a seed sequence of its own; what draws from it keeps it.
        return each.__init__ if _is_drawn(each) else None
    if type(each).__module__ == "torch._C" and type(each).__name__ == "Generator":
        return each.seed
    return None


def _numpy_kinds() -> tuple[Any, Any, Any] | None:
    numpy: Any = sys.modules.get("numpy.random")
    try:
        return numpy.BitGenerator, numpy.Generator, numpy.RandomState
    except AttributeError:
        return None


def _is_drawn(generator: Any) -> bool:
    """Whether nobody named a seed, by all that can be told."""
    entropy = getattr(getattr(generator, "seed_seq", None), "entropy", None)
    return entropy is None or (isinstance(entropy, int) and entropy >= _DRAWN_FROM)


def _name_of(bits: object, kind: Any) -> str:
    """Returns by what name a module has it, or what draws from it."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is bits or (isinstance(value, kind) and value.bit_generator is bits):
                return f"{module.__name__}.{name}"
    return f"a numpy generator ({type(bits).__name__})"
