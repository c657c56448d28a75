from __future__ import annotations

import importlib.util
import io
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from lightning_r1v3.data.census import Census, take_census
from lightning_r1v3.data.shard_paths import expand_paths
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.types import Sample

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY.parent / "shared" / "data" / "vismath"
needs_source = pytest.mark.skipif(
    not (SOURCE / "unified.jsonl").is_file(), reason=f"the real problems are not at {SOURCE}"
)


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_vismath", REPOSITORY / "data_shards" / "build_vismath.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vismath = load_builder()


@pytest.mark.parametrize(
    ("answer", "repaired"),
    [
        ("6", "6"),
        ("$4 \\pi$", "4 \\pi"),
        ("$$250$$", "250"),
        ("$\\frac{2}{5}$.", "\\frac{2}{5}"),
        ("$\\boxed{\\frac{16}{7}}$", "\\frac{16}{7}"),
        ("\x0crac{36}{13}", "\\frac{36}{13}"),
        ("$$1$$ $$-1$$", "$$1$$ $$-1$$"),
        ("4$\\sqrt{3}$", "4$\\sqrt{3}$"),
        ("\\boxed{1}+\\boxed{2}", "\\boxed{1}+\\boxed{2}"),
    ],
)
def test_answers_are_repaired(answer: str, repaired: str) -> None:
    assert vismath.repair_answer(answer) == repaired


@pytest.mark.parametrize(
    ("solution", "repaired"),
    [(None, None), (" ", None), ("![](https://a/b.jpg?c=1)", None), ("So 3. ![](a.jpg) Then 4.", "So 3. Then 4.")],
)
def test_solutions_lose_their_linked_pictures(solution: str | None, repaired: str | None) -> None:
    assert vismath.repair_solution(solution) == repaired


def test_options_that_are_pictures_become_their_letters() -> None:
    assert vismath.repair_choices({"A": "<image2>", "B": "4"}) == ["A", "4"]


def test_without_the_source_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vismath.main([str(tmp_path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "do not ship" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_problem_without_its_picture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = {"question": "Q", "choices": None, "answer": "3", "solution": None, "subject": "s", "level": 2}
    good, bad = ({**item, "id": key, "dataset": "d", "split": "train", "images": [f"{key}.png"]} for key in ("g", "b"))
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    (tmp_path / "g.png").write_bytes(buffer.getvalue())
    (tmp_path / "unified.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(bad))
    assert vismath.main([str(tmp_path), str(tmp_path / "out")]) == 1
    out = capsys.readouterr().out
    assert "b: not converted: " in out
    assert "1 of 2 problems converted" in out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vismath")
    assert vismath.main([str(SOURCE), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def census(built: Path) -> Census:
    return take_census(expand_paths(f"{built}/vismath_{{train,eval}}-*.tar"))


def read(built: Path, name: str) -> list[Sample]:
    shards = ShardSet(f"{built}/vismath_{name}-*.tar", on_bad_sample="raise")
    return [sample for sample in map(shards.__getitem__, range(len(shards))) if sample]


@needs_source
def test_the_census_agrees_with_the_provenance(census: Census) -> None:
    assert (census.num_samples, census.faults) == (2021, [])
    assert census.counts["source"] == {"mathv": 1481, "k12": 400, "puzzlevqa": 140}
    assert census.counts["answer_type"] == {"fill-in": 1187, "multiple choice": 834}
    # 546 have a written solution; that of mathv-1572 is nothing but a linked picture.
    assert census.counts["response"] == {"with": 545, "without": 1476}
    puzzles = {domain: count for domain, count in census.counts["domain"].items() if domain.startswith("puzzle: ")}
    assert Counter(puzzles.values()) == {7: 20}


@needs_source
def test_the_census_agrees_with_the_manifest(census: Census) -> None:
    manifest = json.loads((SOURCE / "manifest.json").read_text())
    assert census.counts["image_mode"] == Counter(picture["mode"] for picture in manifest)
    assert sorted(census.sizes) == sorted((picture["width"], picture["height"]) for picture in manifest)
    assert {(13, 3), (7, 28), (5, 5)} <= set(census.sizes)


@needs_source
def test_no_problem_stands_twice_in_train_and_eval(census: Census) -> None:
    assert census.duplicates() == {"same id": [], "same question and pictures": []}


@needs_source
def test_the_faults_of_the_data_are_repaired(built: Path) -> None:
    samples = {sample.id: sample for sample in read(built, "train") + read(built, "eval")}
    assert samples["mathv-2830"].answer == "\\frac{36}{13}"
    assert samples["mathv-2828"].answer == "\\frac{16}{7}"
    assert samples["mathv-2659"].choices == ("A", "B", "C", "D", "E")
    assert samples["mathv-549"].question.count("<image>") == 1
    assert all(sample.question.count("<image>") == len(sample.images) == 1 for sample in samples.values())
    assert {image.mode for sample in samples.values() for image in sample.images} == {"RGB"}


@needs_source
def test_the_sft_set_is_the_training_problems_with_a_solution(built: Path) -> None:
    sft = read(built, "sft")
    assert [sample.id for sample in sft] == [sample.id for sample in read(built, "train") if sample.response]
    for sample in sft:
        assert sample.response is not None
        assert sample.response.endswith(f"</think>\nThe answer is \\boxed{{{sample.answer}}}.")
        assert "![" not in sample.response
