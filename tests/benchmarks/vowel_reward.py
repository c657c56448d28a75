"""A reward that tells the completions of a random model apart. Imports nothing: the peers score with it too."""

from __future__ import annotations


def vowels(completion: str) -> float:
    """Returns the number of vowels: far above the epsilons that either side adds to a group's standard deviation."""
    return float(sum(letter in "aeiou" for letter in completion.lower()))
