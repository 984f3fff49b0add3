"""Runs `run.py`: ``python bench/chaos``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.run import main

if __name__ == "__main__":
    main()
