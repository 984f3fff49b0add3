"""The conformance suite of the Storage contract, for those who write a storage of their own.

    from synk.testing import StorageConformance

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self):
            yield MyStorage(...)   # empty

`UniquenessConformance` is the same for a storage that knows unique jobs
(`synk.storage.uniqueness`). Every test gets an empty `storage` and asks only what
`synk.storage.base` promises. It needs no settable clock and does not sleep: jobs are made due by
giving them times in the past.

pytest is not imported here. Its assertion rewriting covers these modules after
``pytest.register_assert_rewrite("synk.testing")``.
"""

from __future__ import annotations

from synk.testing.acknowledging import AcknowledgingConformance
from synk.testing.claiming import ClaimingConformance
from synk.testing.rules import RulesConformance
from synk.testing.supervisors import SupervisorConformance
from synk.testing.uniqueness import UniquenessConformance

__all__ = ["StorageConformance", "UniquenessConformance"]


class StorageConformance(
    ClaimingConformance, AcknowledgingConformance, RulesConformance, SupervisorConformance
):
    """What every `Storage` must do. Subclasses give a pytest fixture ``storage``."""
