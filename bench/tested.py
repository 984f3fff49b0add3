"""What the benches have in common with the tests lies in `tests/`; from here they can import it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import checking
import proxy

__all__ = ["checking", "proxy"]
