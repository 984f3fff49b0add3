"""The client that ``synk start MODULE:CLIENT`` names, or what is wrong with the name."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
import zipfile
from typing import TYPE_CHECKING, Any

from synk.client import Client
from synk.errors import ConfigurationError, SynkError
from synk.runtime.worker import handler_modules

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def client_at(target: str, folder: Path) -> Client:
    """Returns the client that *target*, ``module:name``, names; *folder* is searched too.

    Raises:
        ConfigurationError: there is no such module or name, or it is no client.
    """
    module_name, separator, name = target.partition(":")
    if not separator or not module_name or not name:
        raise ConfigurationError("client", target, "must be MODULE:NAME, as in myapp.jobs:client")
    _look_in(folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _not_imported(module_name, error) from error
        where = f"there is no module {error.name} in {folder}, nor where Python looks for modules"
        way_out = "--app-dir names the folder that it is in"
        raise ConfigurationError("client", target, f"{where}: {way_out}") from None
    except SynkError:
        raise
    except (Exception, SystemExit) as error:
        raise _not_imported(module_name, error) from error
    module = found
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Client):
        raise ConfigurationError("client", target, _no_client(module, name, found))
    return found


def _look_in(folder: Path) -> None:
    """Has the app's folder searched for modules, but after the standard library.

    So a file of the user's that is called signal.py hides nothing that synk needs.
    """
    if not folder.is_dir() and not zipfile.is_zipfile(folder):
        raise ConfigurationError("--app-dir", str(folder), "is no folder")
    here = str(folder.resolve())
    sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    standard = handler_modules.standard_library()
    last = max((at for at, entry in enumerate(sys.path) if entry in standard), default=-1)
    sys.path.insert(last + 1, here)


def _no_client(module: ModuleType, name: str, found: object) -> str:
    """Returns what is wrong with the name, and which one is meant perhaps."""
    where = f"{module.__name__} ({getattr(module, '__file__', None) or 'built in'})"
    rival = handler_modules.rival_of(module.__name__)
    if rival is not None:
        return f"is no synk.Client: {where} is another module than your {rival}: rename that"
    if found is not None:
        return f"is no synk.Client but of type {type(found).__name__}: {found!r:.200}"
    names = vars(module)
    clients = [each for each, value in names.items() if isinstance(value, Client)]
    meant = difflib.get_close_matches(name, clients, 1) or clients[:1]
    hint = f"; did you mean {module.__name__}:{meant[0]}?" if meant else ""
    return f"is no synk.Client: {where} has no {name}{hint}"


def _not_imported(module_name: str, error: BaseException) -> SynkError:
    """Returns the problem in one line, with the place where it was raised."""
    text = " ".join(traceback.format_exception_only(error)[-1].split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    hints = "".join(f"; {hint}" for hint in handler_modules.shadow_hints(error))
    return SynkError(
        f"cannot import {module_name}: {text} ({place.filename}:{place.lineno}){hints}"
    )
