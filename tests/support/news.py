"""What a fork server tells, read by hand."""

from __future__ import annotations

import select
from typing import TypeVar

from synk.runtime.supervisor.fork_server_process import ForkServerProcess

T = TypeVar("T")


def next_news(fork_server: ForkServerProcess, kind: type[T]) -> T:
    while True:
        assert select.select([fork_server.control], [], [], 30)[0], "the fork server says nothing"
        for news in fork_server.news():
            assert isinstance(news, kind)
            return news
