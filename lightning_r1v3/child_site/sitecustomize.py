"""Runs at the start of every Python process with this folder on its path; the import repairs torchvision."""

import lightning_r1v3  # noqa: F401
