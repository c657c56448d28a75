"""The rule-based accuracy reward: takes the final answer out of a completion and compares it with the gold one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_r1v3.rewards.boxed import boxed_contents
from lightning_r1v3.rewards.choices import gold_choice, has_letter, named_choices, same_choice
from lightning_r1v3.rewards.conclusion import concluding_choices, concluding_statement, without_rejections
from lightning_r1v3.rewards.declared import declared_answers
from lightning_r1v3.rewards.equivalence import equivalent
from lightning_r1v3.rewards.folding import fold
from lightning_r1v3.rewards.reading import readings
from lightning_r1v3.rewards.tags import ANSWER_LIMIT, answer_part

_NEXT_QUESTION = re.compile(r"\n\W{0,4}(?:Question|Problem|Human|User|Hint)\W{0,2}:", re.IGNORECASE)


@dataclass(frozen=True)
class RuleVerdict:
    """What the rule says of one completion."""

    correct: bool
    """True when the completion states the gold answer and no other."""
    final_answer: str | None
    """The final answer as stated, or None when there is none or there are several that differ."""


def rule_accuracy(
    completion: str, answer: str, choices: Sequence[str] | None = None, *, think_opened: bool = False
) -> bool:
    r"""Returns whether a completion's final answer is the gold one (`R_rule` of the paper's eq. 2).

    The final answer is what the text after `</think>` boxes or declares, else its concluding statement. All that it
    boxes or declares must be the gold answer: two different final answers do not count, and an answer in the
    reasoning does not either.

    Not bounded in time; completions from a policy go through `worker_pool.VerifierPool`.

    Args:
        completion: Text generated after the prompt.
        answer: Gold answer; with `choices`, the letter of the right one (`A` is the first) or its text.
        choices: Texts of the choices in order, or None for a fill-in question.
        think_opened: True when the prompt ends in `<think>`.

    Raises:
        ValueError: When `answer` is empty or not among the choices.
    """
    part = answer_part(completion, think_opened=think_opened)
    return part is not None and rule_verdict(part, answer, choices).correct


def rule_verdict(part: str, answer: str, choices: Sequence[str] | None = None) -> RuleVerdict:
    """Judges an answer part (`tags.answer_part`).

    Raises:
        ValueError: When `answer` is empty or not among the choices.
    """
    if not answer.strip():
        raise ValueError("expected a gold answer, got an empty one; correct the sample")
    folded = tuple(fold(choice) for choice in choices or ())
    finals = final_answers(fold(part)[-ANSWER_LIMIT:], folded)
    gold = fold(answer)
    correct = _chooses(finals, gold_choice(gold, folded), folded) if folded else _states(finals, gold)
    return RuleVerdict(correct, finals[0] if finals and _agree(finals, folded) else None)


def final_answers(text: str, choices: Sequence[str] = ()) -> list[str]:
    """Returns the distinct final answers that a folded answer part states, boxed ones first.

    What follows a new `Question:` is not read when the text before it states an answer: the model has gone on to
    another problem.
    """
    own = _NEXT_QUESTION.split(text, maxsplit=1)[0]
    stated = _stated(own) or _stated(text)
    if not stated:
        text = without_rejections(text)
        stated = concluding_choices(text, choices) if choices else [concluding_statement(text)]
    return [answer for answer in dict.fromkeys(stated) if answer]


def _stated(text: str) -> list[str]:
    return boxed_contents(text) + declared_answers(text)


def _chooses(finals: Sequence[str], gold: int, choices: Sequence[str]) -> bool:
    # The letter is the answer to such a question; values beside it are workings, and one letter cannot hedge.
    competing = [final for final in finals if has_letter(final)]
    if not competing:
        competing = [final for final in finals if named_choices(final, choices) or _has_value(final)]
    named = [named_choices(final, choices) for final in competing]
    return bool(named) and all(
        indices and all(same_choice(index, gold, choices) for index in indices) for indices in named
    )


def _states(finals: Sequence[str], gold: str) -> bool:
    if any(map(_has_value, finals)) and _has_value(gold):  # "the answer is the sum of both" states no other value
        finals = [final for final in finals if _has_value(final)]
    if not finals:
        return False
    each = all(any(equivalent(reading, gold) for reading in readings(final)) for final in finals)
    return each or (len(finals) > 1 and equivalent(", ".join(finals), gold))


def _agree(finals: Sequence[str], choices: Sequence[str]) -> bool:
    first, *others = finals
    return all(
        (choices and named_choices(first, choices) == named_choices(other, choices) != frozenset())
        or any(equivalent(reading, first) for reading in readings(other))
        for other in others
    )


def _has_value(text: str) -> bool:
    return any(char.isdigit() or char == "\\" for char in text)
