from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lightning_r1v3.data.sample import build_sample, parse_record, record_of

GOOD = {"id": "7", "question": "<image> How many?", "answer": "3"}


def test_all_fields_arrive(encode: Callable[..., bytes]) -> None:
    fields = {"response": "one, two</think>\nB", "domain": "counting", "difficulty": "hard", "source": "s"}
    sample = build_sample({**GOOD, "answer": "B", "choices": ["2", "3"], **fields}, [encode()], key="k")
    assert (sample.id, sample.question, sample.answer, sample.choices) == ("7", "<image> How many?", "B", ("2", "3"))
    assert {name: getattr(sample, name) for name in fields} == fields
    assert sample.images[0].mode == "RGB"


def test_a_record_round_trips(encode: Callable[..., bytes]) -> None:
    sample = build_sample({**GOOD, "answer": "B", "choices": ["2", "3"]}, [encode()], key="k")
    again = build_sample(json.loads(json.dumps(record_of(sample))), [encode()], key="other")
    assert (again.id, again.question, again.choices, again.response) == ("7", sample.question, ("2", "3"), None)


def test_the_key_is_the_id_when_there_is_none() -> None:
    assert build_sample({"question": "1 + 2?", "answer": "3"}, [], key="k").id == "k"


def test_options_may_be_their_letters() -> None:
    sample = build_sample({"question": "Which?", "answer": "D", "choices": list("ABCDE")}, [], key="k")
    assert (sample.answer, sample.choices) == ("D", tuple("ABCDE"))


def test_numbered_images_are_put_in_place(encode: Callable[..., bytes]) -> None:
    pictures = [encode((1, 1)), encode((2, 2))]
    sample = build_sample({**GOOD, "question": "<image2> <image1>"}, pictures, key="k")
    assert [image.size for image in sample.images] == [(2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": None}, "question must be text"),
        ({"question": " "}, "question is empty"),
        ({"question": "<image> <image> <image>"}, "extra <image>"),
        ({"question": "one <image>"}, "missing <image>"),
        ({"answer": 3}, "answer must be text, not int"),
        ({"answer": ""}, "answer is empty"),
        ({"answer": "\x0crac{36}{13}"}, "control character"),
        ({"answer": "<image>"}, "placeholders belong in the question"),
        ({"answer": "\ud800"}, "not valid Unicode"),
        ({"choices": ["2", "3"]}, "answer not among the choices: expected A to B, not '3'"),
        ({"choices": ["2", "3"], "answer": "C"}, "not among the choices"),
        ({"choices": ["2", "3"], "answer": "AB"}, "not among the choices"),
        ({"choices": ["2", "3"], "answer": "b"}, "not among the choices"),
        ({"choices": ["2"], "answer": "A"}, "list of 2 to 26"),
        ({"choices": "AB", "answer": "A"}, "list of 2 to 26"),
        ({"choices": ["2", ""], "answer": "A"}, "B is empty"),
        ({"choices": ["2", 3], "answer": "A"}, "B must be text"),
        ({"choices": ["<image1>", "3"], "answer": "A"}, "placeholders belong in the question"),
        ({"response": ""}, "response is empty"),
        ({"response": "see <image>"}, "placeholders belong in the question"),
        ({"domain": 4}, "domain must be text"),
    ],
)
def test_each_fault_is_named(encode: Callable[..., bytes], change: dict[str, object], reason: str) -> None:
    question = {"question": "<image> <image>"}
    with pytest.raises(ValueError, match=reason):
        build_sample({**GOOD, **question, **change}, [encode(), encode()], key="k")


@pytest.mark.parametrize("encoded", [b"{", b"[1]", b"\xff", b"[" * 100_000, b""])
def test_invalid_json_is_a_fault(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="invalid JSON"):
        parse_record(encoded)
