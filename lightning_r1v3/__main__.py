"""`python -m lightning_r1v3`: the same command line as the console script."""

from __future__ import annotations

from lightning_r1v3.cli import main

if __name__ == "__main__":
    main()
