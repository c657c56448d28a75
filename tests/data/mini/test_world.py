from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest

from lightning_r1v3.data.mini import DOMAINS, SCIENCES, generate, split_of
from lightning_r1v3.data.mini.scenes import Figure
from lightning_r1v3.types import Sample


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample.images[0].tobytes() + f"{sample.question}{sample.choices}".encode()).hexdigest()


def test_the_same_arguments_give_the_same_samples() -> None:
    first, second = (list(generate("train", 12, 7)) for _ in range(2))
    assert [digest(sample) for sample in first] == [digest(sample) for sample in second]
    assert [sample.response for sample in first] == [sample.response for sample in second]


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    short, long = list(generate("train", 5, 7)), list(generate("train", 9, 7))
    assert [sample.response for sample in short] == [sample.response for sample in long[:5]]


def test_another_seed_gives_other_samples() -> None:
    one, other = ({digest(sample) for sample in generate("train", 20, seed)} for seed in (1, 2))
    assert not one & other


def test_domains_take_turns() -> None:
    samples = generate("train", 40, 0, domains=tuple(DOMAINS))
    assert [sample.domain for sample in samples] == list(DOMAINS) * 2


def test_splits_share_neither_pictures_nor_transcriptions() -> None:
    found = []
    for split in ("train", "val", "test"):
        captions = [s for seed in (1, 2) for s in generate(split, 60, seed, style="caption")]
        found.append(
            {s.answer for s in captions} | {hashlib.sha256(s.images[0].tobytes()).hexdigest() for s in captions}
        )
    assert not any(one & other for one, other in [*pairwise(found), (found[0], found[2])])


def test_the_split_depends_on_what_the_picture_shows_alone() -> None:
    assert split_of(Figure("rectangle", "red", 3, 4)) == split_of(Figure("rectangle", "red", 3, 4))


def test_no_sample_repeats() -> None:
    samples = list(generate("test", 200, 3, style="caption"))
    assert len({digest(sample) for sample in samples}) == len({sample.id for sample in samples}) == 200


def test_a_caption_answers_a_request_to_describe() -> None:
    sample = next(generate("train", 1, 0, style="caption"))
    assert sample.source == "mini/caption"
    assert sample.choices is None
    assert sample.response == sample.answer


def test_a_short_answer_is_boxed_only() -> None:
    for sample in generate("train", 10, 0, style="answer"):
        assert sample.response == f"\\boxed{{{sample.answer}}}"


def test_a_problem_has_no_response() -> None:
    assert next(generate("train", 1, 0, style="problem")).response is None


def test_the_answer_to_a_choice_is_a_letter_of_five() -> None:
    chosen = [sample for sample in generate("train", 60, 0) if sample.choices]
    assert chosen
    assert all(len(sample.choices or ()) == 5 and sample.answer in "ABCDE" for sample in chosen)


def test_about_two_fifths_are_multiple_choice() -> None:
    samples = list(generate("train", 600, 1, style="problem"))
    assert 0.33 <= sum(sample.choices is not None for sample in samples) / 600 <= 0.47


def test_pictures_are_48_pixels_rgb_with_one_placeholder() -> None:
    for sample in generate("train", 20, 0, domains=tuple(DOMAINS)):
        assert (sample.images[0].mode, sample.images[0].size) == ("RGB", (48, 48))
        assert sample.question.count("<image>") == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [("split", "dev"), ("difficulty", "easy"), ("style", "poem"), ("domains", ("alchemy",)), ("domains", ())],
)
def test_unknown_names_are_refused_at_once(argument: str, value: object) -> None:
    arguments = {"split": "train", "count": 1, "seed": 0, "domains": SCIENCES, argument: value}
    with pytest.raises(ValueError, match=f"{argument}: expected"):
        generate(**arguments)  # type: ignore[arg-type]


def test_a_solution_calculates_without_thinking() -> None:
    for sample in generate("train", 20, 0, style="solution"):
        assert sample.response is not None
        assert sample.response.endswith(rf"\boxed{{{sample.answer}}}")
        assert "Wait" not in sample.response
        assert "</think>" not in sample.response
