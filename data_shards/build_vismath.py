"""Builds shards of real problems with pictures: `python data_shards/build_vismath.py SOURCE_DIR OUT_DIR`.

SOURCE_DIR holds `unified.jsonl` and the pictures of 2,021 problems from MATH-Vision, a K12 set and PuzzleVQA; its
PROVENANCE.md says where they come from. Made are `vismath_train`, `vismath_eval`, and `vismath_sft`: the training
problems with a written solution. Exit status 0 when every problem was converted, 1 when one was named instead, 2
without a source.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning_r1v3.data.placeholders import count_placeholders
from lightning_r1v3.data.writer import ShardWriter

SPLITS = ("train", "eval")

_LOST_BACKSLASHES = str.maketrans({"\a": r"\a", "\b": r"\b", "\f": r"\f", "\v": r"\v"})
r"""JSON made `\frac` a form feed and `rac`."""
_WRAPPINGS = (re.compile(r"(\${1,2})(?P<inside>[^$]+)\1\.?"), re.compile(r"\\boxed\{(?P<inside>.+)\}"))
_LINKED_PICTURE = re.compile(r"[ \t]*!\[[^\]]*\]\([^)]*\)")


def repair_answer(answer: str) -> str:
    r"""Restores `\f` and its kin from control characters, and takes off `$…$`, `$$…$$` and `\boxed{…}`."""
    answer = answer.translate(_LOST_BACKSLASHES).strip()
    for wrapping in _WRAPPINGS:
        if (match := wrapping.fullmatch(answer)) and _balanced(match["inside"]):
            answer = match["inside"].strip()
    return answer


def _balanced(text: str) -> bool:
    r"""Returns whether each brace closes after it opens; of `\boxed{a}+\boxed{b}` the inside is `a}+\boxed{b`."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def repair_solution(solution: str | None) -> str | None:
    """Takes out linked pictures, which cannot be seen in text; returns None when nothing written is left."""
    return _LINKED_PICTURE.sub("", solution or "").strip() or None


def repair_choices(choices: Mapping[str, str] | None) -> list[str] | None:
    """Returns the options in order; an option that is a picture of the one file becomes its letter."""
    if choices is None:
        return None
    return [letter if count_placeholders(text) else text for letter, text in sorted(choices.items())]


def item_record(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the shard record of one line of `unified.jsonl`."""
    answer, solution = repair_answer(item["answer"]), repair_solution(item["solution"])
    record = {
        "id": item["id"],
        "question": item["question"],
        "answer": answer,
        "choices": repair_choices(item["choices"]),
        "response": solution and f"{solution}</think>\nThe answer is \\boxed{{{answer}}}.",
        "domain": item["subject"],
        "difficulty": item["level"] and str(item["level"]),
        "source": item["dataset"],
    }
    return {name: value for name, value in record.items() if value is not None}


def build(source: Path, items: Iterable[Mapping[str, Any]], writers: Mapping[str, ShardWriter]) -> int:
    """Writes the problems; returns how many could not be converted, each of them named."""
    num_bad = 0
    for item in items:
        try:
            record = item_record(item)
            images = [(source / path).read_bytes() for path in item["images"]]
            writers[item["split"]].write(record, images)
        except (ValueError, OSError) as error:
            num_bad += 1
            sys.stdout.write(f"{item['id']}: not converted: {error}\n")
            continue
        if item["split"] == "train" and "response" in record:
            writers["sft"].write(record, images)
        if item["solution"] and "response" not in record:
            sys.stdout.write(f"{item['id']}: converted without its solution, which is a linked picture only\n")
    return num_bad


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Builds shards of real problems with pictures.")
    parser.add_argument(
        "source", type=Path, nargs="?", default=Path("../shared/data/vismath"), help="default %(default)s"
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/vismath"), help="default %(default)s")
    options = parser.parse_args(arguments)
    unified = options.source / "unified.jsonl"
    if not unified.is_file():
        sys.stderr.write(f"{unified} is not there: these problems do not ship, name the folder that holds them\n")
        return 2
    items = [json.loads(line) for line in unified.read_text(encoding="utf-8").splitlines()]
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(ShardWriter(options.out, f"vismath_{name}", max_samples=512))
            for name in (*SPLITS, "sft")
        }
        num_bad = build(options.source, items, writers)
    for name, writer in writers.items():
        sys.stdout.write(f"vismath_{name}: {dict(writer.counts)}\n")
    sys.stdout.write(f"{len(items) - num_bad} of {len(items)} problems converted into {options.out}\n")
    return 1 if num_bad else 0


if __name__ == "__main__":
    sys.exit(main())
