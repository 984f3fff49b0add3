"""Workers: the user's code for a kind of job, and the types of its arguments.

A kind is a key into a registry that is built from code. Nothing is ever imported because a row says
so.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, overload

from synk.arguments import decoder_of, kind_of
from synk.config import LONGEST_TIMEOUT, check_bytes, check_duration
from synk.errors import ConfigurationError, InvalidJob
from synk.job import Job
from synk.kinds import (
    INSERT_OPTIONS,
    WorkerOptions,
    check_plain,
    insert_defaults,
    next_retry_of,
)
from synk.limit import check_limit, check_path, limits_by_name
from synk.weight import Weight, checked_weight

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Mapping, Sequence

    from synk.insertion import JobOptions
    from synk.kinds import NextRetry
    from synk.limit import Limit
    from synk.row import Priority
    from synk.unique import Unique

A = TypeVar("A")


class Worker(ABC, Generic[A]):
    """Runs the jobs of one kind: ``class ThumbnailWorker(Worker[ThumbnailArgs])``.

    One instance is sent to each worker process when it starts, so its attributes must be picklable
    (or made in `work`). Its class must be importable there: at the top of a module.

    Attributes:
        queue: the queue that inserts of this kind go to, where their `InsertOptions` name none.
        priority: the priority that they have, as above.
        max_retries: the tries after the first that they have, as above.
        tags: the tags that they have, as above.
        keep: for how long they are kept when they are over, as above.
        unique: which of them are the same, as above.
        cores: how many CPU cores a job of this kind takes while it runs, see `worker`.
        memory: how many bytes it takes, likewise.
        limit: what its jobs may take of the fleet together.

    Raises:
        ConfigurationError: when the class is defined, or a client made: an attribute's value cannot
            be inserted, or is no weight.
    """

    queue: str | None = None
    priority: Priority | None = None
    max_retries: int | None = None
    tags: Collection[str] | None = None
    keep: dt.timedelta | None = None
    unique: Unique | None = None
    cores: int | None = None
    memory: int | str | None = None
    limit: Limit | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        said = {name: vars(cls).get(name) for name in INSERT_OPTIONS}
        # A property has no value before there is an instance.
        insert_defaults({n: v for n, v in said.items() if not hasattr(v, "__get__")}, cls)

    @abstractmethod
    def work(self, job: Job[A]) -> object | None:
        """Does *job*. What it returns is stored as JSON; an exception is a failed attempt.

        It may choose what else becomes of the job: `synk.Snooze`, `synk.RetryAt`, `synk.Cancel`,
        raised or returned.

        `synk.plain` has the rule of what becomes what. A result that has no place in JSON, such as
        a lock or a generator, or has more than 64 KiB, fails the job at once: the work is done, and
        another attempt would only do it again.
        """

    def timeout(self, job: Job[A]) -> dt.timedelta | None:  # noqa: ARG002 - for those who override
        """Returns how long this attempt of *job* may run, up to 30 days.

        None, the default: the queue's `job_timeout`.
        """
        return None

    def soft_timeout(self, job: Job[A]) -> dt.timedelta | None:  # noqa: ARG002 - as above
        """Returns after what time `SoftTimeout` is raised in this attempt of *job*; None: never.

        It gives the handler the time until its `timeout` to tidy up.
        """
        return None

    def max_rss(self, job: Job[A]) -> int | None:  # noqa: ARG002 - as above
        """Returns how many bytes of memory this attempt of *job* may use, from 1 on.

        None, the default: the queue's `max_rss`.
        The processes that it starts count too, mapped files and what was there before the fork do
        not; see `QueueConfig.max_rss`. Above the limit the attempt is killed.
        """
        return None

    def next_retry(self, job: Job[A], error: BaseException) -> dt.datetime | None:  # noqa: ARG002 - as above
        """Returns when to try *job* again after this attempt of it failed with *error*.

        None, the default: after the back-off of 4 s, 16 s, 64 s, ... up to a day.
        It is asked in the worker process, with the very exception that was raised: so not after a
        kill, by its timeout for instance, nor after a crash: then the default holds. Neither is it
        where the handler has chosen itself (`synk.RetryAt`, `synk.Snooze`, `synk.Cancel`), nor
        where another try would only repeat the failure. It may do without its second parameter.
        """
        return None

    def names(self, method: str) -> bool:
        """Whether this worker says something of its own in *method*, so that it must be asked."""
        return getattr(type(self), method) is not getattr(Worker, method)

    @functools.cached_property
    def args_type(self) -> type[A]:
        """The type between the brackets of ``Worker[...]``."""
        for cls in type(self).__mro__:
            for base in getattr(cls, "__orig_bases__", ()):
                arguments = typing.get_args(base)
                if typing.get_origin(base) is Worker and not isinstance(arguments[0], TypeVar):
                    return arguments[0]
        raise ConfigurationError(
            "workers", type(self), "name the arguments' type, as in Worker[ThumbnailArgs]"
        )


class FunctionWorker(Worker[A]):
    """A plain function as a worker; still callable as that function.

    Args:
        function: see `worker`.
        options: see `worker`.

    Attributes:
        args_type: the type of the arguments, by the function's annotation.

    Raises:
        ConfigurationError: as `worker` does.
    """

    def __init__(
        self, function: Callable[[Job[A]], object], **options: Unpack[WorkerOptions]
    ) -> None:
        for name in ("timeout", "soft_timeout"):
            if (value := options.get(name)) is not None:
                check_duration(name, value, most=LONGEST_TIMEOUT)
        if (max_rss := options.get("max_rss")) is not None:
            check_bytes("max_rss", max_rss)
        checked_weight(options.get("cores"), options.get("memory"), max_rss)
        check_plain("worker", function)
        self._function = function
        self._timeout = options.get("timeout")
        self._soft_timeout = options.get("soft_timeout")
        self._max_rss = max_rss
        asked = options.get("next_retry")
        self._next_retry = None if asked is None else next_retry_of(asked, function)
        functools.update_wrapper(self, function)
        # After that, which brings the attributes of the function.
        for name in (*INSERT_OPTIONS, "cores", "memory"):
            setattr(self, name, options.get(name))
        insert_defaults(options, self)
        self.args_type = _args_type_of(function)
        self.limit = check_limit("limit", options.get("limit"), self.args_type)

    def __call__(self, job: Job[A]) -> object:
        """Calls the function."""
        return self._function(job)

    def __repr__(self) -> str:
        return f"<worker {self._function.__module__}.{self._function.__qualname__}>"

    def __reduce__(self) -> str:
        # Sent to the worker processes by its name: the decorated function is found there under it.
        return self._function.__qualname__

    def names(self, method: str) -> bool:
        """Whether the decorator was given *method*."""
        return getattr(self, f"_{method}") is not None

    def work(self, job: Job[A]) -> object | None:
        """Calls the function with *job*."""
        return self._function(job)

    def timeout(self, job: Job[A]) -> dt.timedelta | None:  # noqa: ARG002 - the same for all jobs
        """Returns the decorator's `timeout`, whatever the *job*."""
        return self._timeout

    def soft_timeout(self, job: Job[A]) -> dt.timedelta | None:  # noqa: ARG002 - as above
        """Returns the decorator's `soft_timeout`, whatever the *job*."""
        return self._soft_timeout

    def max_rss(self, job: Job[A]) -> int | None:  # noqa: ARG002 - as above
        """Returns the decorator's `max_rss`, whatever the *job*."""
        return self._max_rss

    def next_retry(self, job: Job[A], error: BaseException) -> dt.datetime | None:
        """Calls the decorator's `next_retry` with *job*, and with *error* if it takes that."""
        return None if self._next_retry is None else self._next_retry(job, error)


@overload
def worker(function: Callable[[Job[A]], object], /) -> FunctionWorker[A]: ...
@overload
def worker(
    **options: Unpack[WorkerOptions],
) -> Callable[[Callable[[Job[A]], object]], FunctionWorker[A]]: ...
def worker(
    function: Callable[[Job[Any]], object] | None = None,
    /,
    **options: Unpack[WorkerOptions],
) -> Any:
    """Makes a worker of a function: ``@synk.worker`` or ``@synk.worker(timeout=...)``.

    The kind comes from the annotation of its parameter, ``job: Job[ThumbnailArgs]``.

    Args:
        function: at the top of a module, so that worker processes find it by its name.
        timeout: how long an attempt may run, at most 30 days; None: the queue's `job_timeout`.
        soft_timeout: after what time `SoftTimeout` is raised in it; None: never.
        max_rss: how many bytes of memory of its own it may have, with all that it starts, see
            `QueueConfig`; None: the queue's.
        next_retry: asked when to try again after an attempt failed, with the job and the exception,
            or with the job alone, see `Worker.next_retry`; None: the default back-off.
        queue: the queue that inserts of this kind go to, where their `InsertOptions` name none.
        priority: the priority that they have, as above.
        max_retries: the tries after the first that they have, as above.
        tags: the tags that they have, as above.
        keep: for how long they are kept when they are over, as above.
        unique: which of them are the same, of which only one may be there at a time, as above.
        cores: how many CPU cores a job takes, of those that its supervisor may use, as CPUs and as
            threads of BLAS and OpenMP (where ``threadpoolctl`` is installed); None: its worker's.
        memory: how many bytes it takes likewise, or ``"3GiB"``; without *max_rss* it is that too.
        limit: what its jobs may take of the fleet together; None: its queue's limit.

    Raises:
        ConfigurationError: the annotation is missing or has no kind, or a value is out of range.
        TypeError: there is no such option.
    """
    unknown = options.keys() - WorkerOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"worker() has no option {', '.join(sorted(unknown))}")
    if function is not None:
        return FunctionWorker(function)
    return functools.partial(FunctionWorker, **options)


@dataclass(frozen=True, slots=True)
class Handler:
    """A worker as a process uses it.

    Attributes:
        kind: what it runs.
        worker: the worker.
        decode: JSON text -> arguments; raises ValueError (msgspec's and pydantic's errors are
            such).
        names_limits: whether it must be asked for limits before each job.
        next_retry: to be asked for the time of the next try; None: it has nothing to say.
        defaults: what inserts of the kind default to; None: what those of others do.
        weight: what its jobs take; None: it does not say.
    """

    kind: str
    worker: Worker[Any]
    decode: Callable[[str], Any]
    names_limits: bool
    next_retry: NextRetry | None
    defaults: JobOptions | None
    weight: Weight | None


class Registry:
    """Kind -> handler, for the workers of a client.

    Args:
        workers: instances of `Worker`, or functions under ``@synk.worker``.

    Raises:
        ConfigurationError: something that is no worker, two for one kind, or limits that disagree.
    """

    def __init__(self, workers: Sequence[object]) -> None:
        self._handlers: dict[str, Handler] = {}
        for item in workers:
            if not isinstance(item, Worker):
                hint = "an instance" if inspect.isclass(item) else "a Worker or a @synk.worker"
                raise ConfigurationError("workers", item, f"must be {hint}")
            worker = typing.cast("Worker[Any]", item)
            handler = _handler(worker)
            if handler.kind in self._handlers:
                raise ConfigurationError("workers", worker, f"a second one for {handler.kind!r}")
            self._handlers[handler.kind] = handler
        limits_by_name(self.limits.values())

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by kind."""
        return self._handlers

    @property
    def kinds(self) -> list[str]:
        """The kinds there is a worker for."""
        return list(self._handlers)

    @functools.cached_property
    def defaults(self) -> Mapping[str, JobOptions]:
        """What inserts default to, of the kinds whose worker says something of that."""
        given = {kind: handler.defaults for kind, handler in self._handlers.items()}
        return {kind: defaults for kind, defaults in given.items() if defaults is not None}

    @functools.cached_property
    def weights(self) -> Mapping[str, Weight]:
        """What jobs take, of the kinds whose worker says that."""
        return {kind: each.weight for kind, each in self._handlers.items() if each.weight}

    @property
    def limits(self) -> Mapping[str, Limit]:
        """What the jobs of kinds may take of the fleet together, of those whose worker says it."""
        handlers = self._handlers.items()
        return {kind: limit for kind, each in handlers if (limit := each.worker.limit)}

    @property
    def limited_kinds(self) -> frozenset[str]:
        """Those whose worker may name limits of its own for a job."""
        return frozenset(kind for kind, each in self._handlers.items() if each.names_limits)

    @property
    def workers(self) -> list[Worker[Any]]:
        """The workers, as they were given."""
        return [handler.worker for handler in self._handlers.values()]

    @property
    def modules(self) -> list[str]:
        """The modules that the workers come from."""
        return sorted({module_of(worker) for worker in self.workers})


def module_of(item: Worker[Any]) -> str:
    """Returns the name of the module that a worker process must import to have *item*."""
    if isinstance(item, FunctionWorker):
        return item.__module__
    return type(item).__module__


def _handler(item: Worker[Any]) -> Handler:
    check_plain("workers", item.work)
    args_type = item.args_type
    try:
        kind, decode = kind_of(args_type), decoder_of(args_type)
    except InvalidJob as error:
        raise ConfigurationError("workers", item, str(error)) from None
    check_limit("limit", item.limit, args_type)
    defaults = insert_defaults({name: getattr(item, name) for name in INSERT_OPTIONS}, item)
    if defaults is not None and defaults.unique is not None:
        for path in defaults.unique.paths:
            check_path("unique.by", path, args_type)
    return Handler(
        kind,
        item,
        decode,
        names_limits=any(map(item.names, ("timeout", "soft_timeout", "max_rss"))),
        next_retry=next_retry_of(item.next_retry, item) if item.names("next_retry") else None,
        defaults=defaults,
        weight=checked_weight(item.cores, item.memory),
    )


def _args_type_of(function: Callable[..., Any]) -> Any:
    name = getattr(function, "__qualname__", repr(function))
    problem = "annotate its parameter, as in `job: synk.Job[ThumbnailArgs]`"
    try:
        parameters = list(inspect.signature(function).parameters)
        # The caller's own names, for types that are defined beside the function.
        hints = typing.get_type_hints(function, localns=vars(sys.modules[function.__module__]))
        hint = hints[parameters[0]]
    except (NameError, TypeError, ValueError, IndexError, KeyError) as error:
        raise ConfigurationError("worker", name, f"{problem} ({error})") from None
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is not Job or not arguments:
        raise ConfigurationError("worker", name, problem)
    return arguments[0]
