from __future__ import annotations

from collections.abc import Callable

import pytest

from r1v3_callbacks.token_offsets import TokenOffsets


def decoder_of(pieces: list[bytes]) -> Callable[[list[int]], str]:
    return lambda ids: b"".join(pieces[index] for index in ids).decode(errors="replace")


def holders(pieces: list[bytes], text: str, positions: list[int]) -> list[int]:
    decode = decoder_of(pieces)
    ids = list(range(len(pieces)))
    assert decode(ids) == text
    return TokenOffsets(decode).holders(ids, text, positions)


@pytest.mark.parametrize(
    ("pieces", "token"),
    [
        ([b"So", b" Wait", b","], 1),
        ([b"So ", b"W", b"ait", b","], 1),
        ([b"So", b"", b" ", b"Wait,"], 3),
        ([b"So Wai", b"t,"], 0),
    ],
)
def test_any_split_of_a_word_leads_to_the_token_of_its_first_letter(pieces: list[bytes], token: int) -> None:
    assert holders(pieces, "So Wait,", [3]) == [token]


def test_a_character_of_several_tokens_belongs_to_the_first() -> None:
    wait = "等等".encode()
    assert holders([b"a", wait[:1], wait[1:3], wait[3:4], wait[4:6], b"b"], "a等等b", [1, 2, 3]) == [1, 3, 5]


def test_a_text_cut_within_a_character_is_aligned() -> None:
    assert holders([b"a", b"Wait", "等".encode()[:2]], "aWait\ufffd", [1]) == [1]


def test_spaces_that_a_decoder_puts_between_words_are_skipped() -> None:
    words = ["So", "Wait", "no"]
    offsets = TokenOffsets(lambda ids: " ".join(words[index] for index in ids))
    assert offsets.holders([0, 1, 2], "So Wait no", [3, 8]) == [1, 2]


def test_a_decoder_that_rewrites_the_text_is_asked_for_prefixes() -> None:
    words = ["so", " .", " wait", " ,"]
    offsets = TokenOffsets(lambda ids: "".join(words[i] for i in ids).replace(" .", ".").replace(" ,", ",").upper()
                           if len(ids) > 1 else words[ids[0]])  # fmt: skip
    assert offsets.holders([0, 1, 2, 3], "SO. WAIT,", [4]) == [2]
