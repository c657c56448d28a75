"""The tiny model's processor: tokenizer, image settings and ChatML template in transformers' own InternVL class."""

from __future__ import annotations

from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor, PreTrainedTokenizerFast

from lightning_r1v3.data.mini.drawing import CANVAS
from lightning_r1v3.data.mini.tokenizer import build_tokenizer

IMAGE_TOKENS_PER_PICTURE = 9
"""One token per 16 x 16 pixels: 8-pixel patches, pixel shuffle 0.5."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML; a picture is one placeholder and a line break; the processor expands the placeholder to 11 tokens."""


def build_processor(tokenizer: PreTrainedTokenizerFast | None = None) -> InternVLProcessor:
    """Returns the processor, with `tokenizer` or a newly trained one; it loads offline from where it is saved."""
    size = {"height": CANVAS, "width": CANVAS}
    mean = std = [0.5, 0.5, 0.5]
    settings = {"size": size, "image_mean": mean, "image_std": std, "do_rescale": True, "do_normalize": True}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(crop_to_patches=False, **settings),
        tokenizer=tokenizer or build_tokenizer(),
        video_processor=InternVLVideoProcessor(**settings),
        image_seq_length=IMAGE_TOKENS_PER_PICTURE,
        chat_template=CHAT_TEMPLATE,
    )
