"""The tiny model's own tokenizer: a byte-level BPE of 768 tokens trained on the world's own text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lightning_r1v3.data.mini.domains import DOMAINS, SCIENCES
from lightning_r1v3.data.mini.posing import LETTERS
from lightning_r1v3.data.mini.world import Difficulty, Style, generate

VOCABULARY_SIZE = 768
"""Tokens in all: 9 added ones, 256 bytes, the rest learned; enough for every word of the cold start to be one token."""
PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
"""What transformers' InternVL processor asks of its tokenizer, by attribute."""
THINK_TOKENS = ("<think>", "</think>")
"""Added but not special, so that decoding keeps them when it skips special tokens."""

# A digit stands alone, so that numbers are read and added by place; a space belongs to the word or digit after it.
_WORDS = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
_PROMPT_TEXT = (
    "system\nYou are a helpful assistant.\nuser\nassistant\n"
    "Think first, then give the final answer in \\boxed{}. Answer with the letter of the right option."
)
_SAMPLES_PER_STYLE = 1000
_SEED = 0


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer, trained on the spot (a few seconds) and always the same; any text can be encoded."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    specials = [PAD, TURN_START, TURN_END, *IMAGE_TOKENS.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(THINK_TOKENS),
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(), trainer)
    bpe.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINK_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=TURN_END,
        extra_special_tokens={"turn_start_token": TURN_START, **IMAGE_TOKENS},
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> Iterator[str]:
    """Everything the model will read or write, in about the proportions in which it will."""
    plans: tuple[tuple[Style, Difficulty, tuple[str, ...]], ...] = (
        ("chain", "normal", SCIENCES),
        ("chain", "hard", SCIENCES),
        ("chain", "normal", tuple(DOMAINS)),
        ("caption", "normal", tuple(DOMAINS)),
        ("answer", "hard", tuple(DOMAINS)),
    )
    for style, difficulty, domains in plans:
        for sample in generate("train", _SAMPLES_PER_STYLE, _SEED, domains=domains, difficulty=difficulty, style=style):
            options = (f"\n{letter}. {text}" for letter, text in zip(LETTERS, sample.choices or (), strict=False))
            yield "".join(chain((_PROMPT_TEXT, sample.question.removeprefix("<image>")), options))
            yield (sample.response or "").replace(THINK_TOKENS[1], "\n")
