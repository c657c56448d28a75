from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOT_OURS = {".git", ".venv", ".venv-trl", "runs", "build", "dist"}
TEXT = {"", ".cfg", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}

# Written apart, so that this file does not hold them. Where packages come from is the installer's setting, not ours.
FORBIDDEN = ("pypi" + ".org", "pytorch" + ".org/whl", "trust_remote_code" + "=True")


def text_files() -> list[Path]:
    kept = (path for path in REPOSITORY.iterdir() if path.name not in NOT_OURS and not path.name.endswith("_cache"))
    files = (file for path in kept for file in (path.rglob("*") if path.is_dir() else [path]))
    return [file for file in files if file.is_file() and file.suffix in TEXT and "__pycache__" not in file.parts]


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_file_holds_a_forbidden_word(word: str) -> None:
    assert [file for file in text_files() if word in file.read_text(errors="ignore")] == []
