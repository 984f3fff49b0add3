"""Imports the handlers' modules, in the fork server or a fresh worker; says what goes wrong."""

from __future__ import annotations

import functools
import os
import re
import runpy
import site
import sys
import sysconfig
import traceback
import types
from multiprocessing import process, spawn
from typing import TYPE_CHECKING, Any, Final

from synk import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_PACKAGE: Final = os.path.dirname(errors.__file__)  # noqa: PTH120 - as below
"""Where synk itself is."""

_RELATED_MAX: Final = 20
"""Exceptions behind exceptions that are looked at."""


def prepare_paths(data: dict[str, Any]) -> None:
    """Sets what makes this interpreter like the supervisor's, but for the main script."""
    spawn.prepare({key: value for key, value in data.items() if not key.startswith("main_")})


def import_main(data: dict[str, Any]) -> None:
    """Imports the user's program, if handlers live in it, as multiprocessing's children do.

    Unlike there, also ``python -m package``, ``python folder`` and ``python app.pyz``: their
    `__main__.py` must have the guard that every script needs.
    """
    name, path = data.get("main_name"), data.get("main_path")
    if name is None and path is None:
        return
    module = types.ModuleType("__mp_main__")
    if name is not None:
        content = runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
    else:
        content = runpy.run_path(str(path), run_name="__mp_main__")
    vars(module).update(content)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def program() -> dict[str, str]:
    """Returns what `import_main` needs to import this process's program; empty: it has no file."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    if name is not None and name != "__main__":
        return {"main_name": name}
    if file is None:
        return {}
    ours: Any = process
    path = os.path.join(ours.ORIGINAL_DIR or "", file)  # noqa: PTH118 - links must stay
    if name == "__main__":
        # A folder or a zip file, whose __main__.py it is.
        path = os.path.dirname(path)  # noqa: PTH120 - as above
    return {"main_path": path} if os.path.exists(path) else {}  # noqa: PTH110 - as above


def own_first(path: list[str]) -> list[str]:
    """Returns *path* with the standard library and the installed packages first.

    So a file of the user's that is called queue.py, or synk.py, is not taken for what synk's own
    processes need. What the handlers import is looked for in the order of *path*.
    """
    own = {*library_path(), os.path.dirname(_PACKAGE)}  # noqa: PTH120 - as above
    return sorted(path, key=lambda entry: entry not in own)


@functools.cache
def library_path() -> frozenset[str]:
    """The entries of `sys.path` of the standard library, and of installed packages."""
    paths = sysconfig.get_paths()
    packages = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return standard_library() | packages


@functools.cache
def standard_library() -> frozenset[str]:
    """The entries of `sys.path` of the standard library."""
    paths = sysconfig.get_paths()
    standard = {paths["stdlib"], paths["platstdlib"]}
    version = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    near = {os.path.join(os.path.dirname(each), version) for each in standard}  # noqa: PTH118, PTH120 - as above
    dynamic = {os.path.join(each, "lib-dynload") for each in standard}  # noqa: PTH118 - as above
    return frozenset({*standard, *near, *dynamic})


# -- what goes wrong ------------------------------------------------------------------------------


def problem_of(load: Callable[[], object], withheld: Iterable[str]) -> str | None:
    """Returns how *load* fails, with its traceback and what is known of the cause, or None.

    Args:
        load: what is tried.
        withheld: names of the environment variables that workers do not get.
    """
    try:
        load()
    except BaseException as error:  # noqa: BLE001 - also SystemExit of a script: the supervisor is told
        return told(error, withheld)
    return None


def told(error: BaseException, withheld: Iterable[str]) -> str:
    """Returns the traceback, and what is known of the cause."""
    text = "".join(traceback.format_exception(error, limit=-8))
    hints = [*_withheld_hints(error, withheld), *shadow_hints(error)]
    return text + "".join(f"{hint}\n" for hint in hints)


def hint_of_key(error: BaseException, withheld: Collection[str]) -> str | None:
    """Returns what is known of the cause where a job misses a variable that workers do not get."""
    for each in _related(error):
        args: tuple[object, ...] = BaseException.__getattribute__(each, "args")
        if issubclass(type(each), KeyError) and args and args[0] in withheld:
            return _kept_out(str(args[0]))
    return None


def _kept_out(name: str) -> str:
    return (
        f"worker_env keeps {name} out of the worker processes: name it there, or leave "
        "worker_env out, and they get the whole environment"
    )


def _withheld_hints(error: BaseException, withheld: Iterable[str]) -> Iterator[str]:
    said = " ".join(f"{each}" for each in _related(error))
    words = set(re.findall(r"\w+", said))
    words_upper = {word.upper() for word in words}
    for name in sorted(withheld):
        # As settings classes name them, in small letters: too common a word without the underscore.
        if name in words or ("_" in name.strip("_") and name.upper() in words_upper):
            yield _kept_out(name)


def _related(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_RELATED_MAX):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def shadow_hints(error: BaseException) -> Iterator[str]:
    """Yields which file of the user's has the name of a module that something else needs, if so."""
    if not isinstance(error, ImportError | AttributeError):
        return
    name = error.name if isinstance(error, ImportError) else getattr(error.obj, "__name__", None)
    if isinstance(name, str) and (path := rival_of(name)) is not None:
        yield (
            f"{path} has the name of Python's own module {name}, and one of them hides the other: "
            "rename it"
        )


def rival_of(name: str) -> str | None:
    """Returns the user's file that has the name of a module of the standard library, or synk's."""
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names and top != "synk":
        return None
    for folder in sys.path:
        if folder in library_path():
            continue
        for file in (f"{top}.py", os.path.join(top, "__init__.py")):  # noqa: PTH118 - as above
            path = os.path.join(folder or os.getcwd(), file)  # noqa: PTH109, PTH118 - as above
            if os.path.exists(path) and os.path.dirname(path) != _PACKAGE:  # noqa: PTH110, PTH120 - as above
                return path
    return None
