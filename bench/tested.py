"""What the benches have in common with the tests lies in `tests/`; from here they can import it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support import checking, proxy

__all__ = ["checking", "proxy"]
