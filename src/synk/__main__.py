"""``python -m synk``: the command line."""

from synk.cli import main

if __name__ == "__main__":
    main()
