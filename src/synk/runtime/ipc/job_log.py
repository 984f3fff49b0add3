"""What jobs log: shown at the supervisor's level, with the job's id and kind.

Where the jobs' modules configure logging themselves, theirs holds: then only records carry what
they are about, as `job_id` and `kind`, for a format of one's own.

On their way to the supervisor such lines are marked, so that they are told from what is printed.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.claim import ClaimedJob

_FORMAT: Final = "%(asctime)s %(levelname)s job %(job_id)s (%(kind)s) %(name)s: %(message)s"
_NAMES: Final = ("job_id", "kind")

MARK: Final = b"\x1e\0"
"""Begins a line that comes from `logging`; nobody else writes this, and nobody sees it."""


def level_of_program() -> int | None:
    """Returns the level at which this program shows what is logged; None: it does not."""
    root = logging.getLogger()
    return root.level if root.handlers else None


def install(
    level: int | None,
    current: Callable[[], ClaimedJob | None],
    is_output: Callable[[int], bool],
) -> None:
    """Has records carry the job that runs, and shows them if nobody else does.

    Args:
        level: what is shown at least; None: what Python itself shows.
        current: says which job runs.
        is_output: says whether a descriptor leads to what the supervisor reads.
    """
    _mark_lines(is_output)
    make = logging.getLogRecordFactory()

    def make_of_job(*args: Any, **fields: Any) -> logging.LogRecord:
        record = make(*args, **fields)
        job = current()
        record.__dict__ = _Fields(
            {
                "job_id": None if job is None else job.id,
                "kind": None if job is None else job.kind,
                **record.__dict__,
            }
        )
        return record

    logging.setLogRecordFactory(make_of_job)
    root = logging.getLogger()
    if level is None or any(not isinstance(each, logging.NullHandler) for each in root.handlers):
        return
    if root.level == logging.WARNING:
        # As Python has it: nobody has said anything else.
        root.setLevel(level)
    root.addHandler(_Shown(is_output))


def _mark_lines(is_output: Callable[[int], bool]) -> None:
    """Has whatever handler writes to our output mark its lines."""
    plain = logging.StreamHandler[Any].format

    def marked(self: logging.StreamHandler[Any], record: logging.LogRecord) -> str:
        return _marked(plain(self, record), self.stream, is_output)

    logging.StreamHandler.format = marked


def _marked(text: str, stream: Any, is_output: Callable[[int], bool]) -> str:
    """Returns *text* with its lines marked, if *stream* leads to our output."""
    try:
        is_ours = is_output(stream.fileno())
    except Exception:  # noqa: BLE001 - a stream can be anything
        return text
    mark = MARK.decode()
    return mark + text.replace("\n", f"\n{mark}") if is_ours else text


class _Fields(dict[str, Any]):
    """A record's fields, two of which a job may still name in ``extra=`` itself."""

    def __contains__(self, name: object) -> bool:
        return name not in _NAMES and super().__contains__(name)


class _Shown(logging.Handler):
    """Writes to what is the standard error at that moment, unless others have a handler for it."""

    def __init__(self, is_output: Callable[[int], bool]) -> None:
        super().__init__()
        self._is_output = is_output
        self.setFormatter(logging.Formatter(_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        if _is_handled(record):
            return
        try:
            text = _marked(self.format(record), sys.stderr, self._is_output)
            sys.stderr.write(f"{text}\n")
        except (AttributeError, ValueError, OSError):
            # There is no standard error any more: a job has closed it.
            return
        except Exception:  # noqa: BLE001 - as every handler does: the format does not fit the values
            self.handleError(record)


def _is_handled(record: logging.LogRecord) -> bool:
    """Whether a logger below the root, or somebody at the root since, writes it already."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            is_other = not isinstance(handler, (_Shown, logging.NullHandler))
            if is_other and record.levelno >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False
