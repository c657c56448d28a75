from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_r1v3.modules import validation as validation_module
from lightning_r1v3.modules.completions import Completion, complete
from lightning_r1v3.modules.evaluation import Evaluation
from lightning_r1v3.modules.predictions import prediction
from lightning_r1v3.modules.validation import Validation
from lightning_r1v3.rewards.mixed import MixedReward
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, Sampling, TokenStats

SHORT = Sampling(max_new_tokens=6)


@pytest.fixture
def validation(stage: Callable[..., Any]) -> Callable[..., Validation]:
    def make(**settings: Any) -> Validation:
        module = stage()
        settings = {"sampling": SHORT, "num_shown": 0} | settings
        engine = LocalEngine(module.model)
        return Validation(Evaluation(**settings), engine, module.reward, module.tokenizer, module.trainer)

    return make


@pytest.fixture
def graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Completions without a model: right where the answer has one character."""

    def stand_in(engine: Any, reward: Any, tokenizer: Any, prompts: Any, sampling: Any) -> Any:
        for prompt in prompts:
            right = float(len(prompt.sample.answer) == 1)
            yield Completion(prompt.sample, "text", 4, accuracy=right, format=1.0)

    monkeypatch.setattr(validation_module, "complete", stand_in)


def problem(example: Example, domain: str, answer: str) -> Example:
    return replace(example, sample=replace(example.sample, domain=domain, answer=answer))


@pytest.mark.usefixtures("graded")
def test_metrics_are_means_by_domain(validation: Callable[..., Validation], examples: list[Example]) -> None:
    counted = validation(num_problems=10)
    counted.add_completions([problem(examples[0], "physics", "1"), problem(examples[1], "physics", "12")])
    counted.add_completions([problem(examples[2], "biology", "2"), problem(examples[3], "biology", "3")])
    assert counted.metrics() == {
        "val/accuracy": 0.75,
        "val/accuracy/biology": 1.0,
        "val/accuracy/physics": 0.5,
        "val/format_reward": 1.0,
        "val/response_length": 4.0,
    }


@pytest.mark.usefixtures("graded")
@pytest.mark.parametrize(("rank", "share"), [(0, 2), (1, 1)])
def test_ranks_share_the_first_problems(
    stage: Callable[..., Any], examples: list[Example], rank: int, share: int
) -> None:
    module = stage()
    trainer, engine = module.trainer, LocalEngine(module.model)
    trainer.global_rank, trainer.world_size = rank, 2
    settings = Evaluation(num_problems=3, num_shown=0)
    counted = Validation(settings, engine, module.reward, module.tokenizer, trainer)
    trainer.world_size = 1
    counted.add_completions(examples[:2])
    counted.add_completions(examples[2:])
    assert int(counted._sums["val/accuracy"][1].compute()) == share


def answered(example: Example, domain: str, num_tokens: int) -> Example:
    return replace(problem(example, domain, "1"), completion_ids=torch.zeros(num_tokens, dtype=torch.int64))


def test_loss_weighs_tokens_by_domain(validation: Callable[..., Validation], examples: list[Example]) -> None:
    counted = validation(num_problems=0)
    row = [answered(examples[0], "physics", 1), answered(examples[1], "biology", 2)]
    counted.add_loss(row, TokenStats(torch.tensor([-1.0, -3.0, -3.0]), torch.zeros(3)))
    counted.add_loss([], TokenStats(torch.zeros(0), torch.zeros(0)))
    counted.add_loss([answered(examples[2], "physics", 1)], TokenStats(torch.tensor([-3.0]), torch.zeros(1)))
    assert counted.metrics() == {"val/loss": 2.5, "val/loss/biology": 3.0, "val/loss/physics": 2.0}


def test_a_diverged_loss_is_seen(validation: Callable[..., Validation], examples: list[Example]) -> None:
    counted = validation(num_problems=0)
    counted.add_loss([answered(examples[0], "law", 1)], TokenStats(torch.tensor([float("nan")]), torch.zeros(1)))
    assert torch.isnan(torch.tensor(counted.metrics()["val/loss"]))


def test_completions_are_shown_as_often_as_asked(
    validation: Callable[..., Validation], examples: list[Example], caplog: pytest.LogCaptureFixture
) -> None:
    counted = validation(num_shown=2)
    with caplog.at_level("INFO"):
        counted.add_completions(examples)
    assert len(caplog.records) == 2
    assert examples[0].sample.id in caplog.text


def test_completions_depend_on_the_seed_and_not_on_their_neighbours(
    stage: Callable[..., Any], examples: list[Example]
) -> None:
    backbone = stage().model

    def texts(prompts: list[Example], seed: int = 0) -> list[str]:
        sampling = replace(SHORT, seed=seed)
        made = complete(LocalEngine(backbone), MixedReward(), backbone.processor.tokenizer, prompts, sampling)
        return [completion.text for completion in made]

    assert texts(examples) == texts(examples[:2]) + texts(examples[2:])
    assert texts(examples) != texts(examples, seed=1)


def test_a_group_is_completed_prompt_by_prompt(stage: Callable[..., Any], examples: list[Example]) -> None:
    backbone = stage().model
    sampling = replace(SHORT, group_size=2)
    made = list(complete(LocalEngine(backbone), MixedReward(), backbone.processor.tokenizer, examples[:2], sampling))
    assert [completion.sample.id for completion in made] == [e.sample.id for e in examples[:2] for _ in range(2)]


def test_a_prediction_says_what_was_asked_answered_and_whether_it_is_right(examples: list[Example]) -> None:
    line = prediction(Completion(examples[0].sample, "<think>1</think>2", 5, accuracy=1.0, format=1.0))
    assert line["completion"] == "<think>1</think>2"
    assert line["correct"] is True
    assert line["answer"] == examples[0].sample.answer


@pytest.mark.parametrize("settings", [{"num_problems": -1}, {"num_shown": -1}])
def test_negative_numbers_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Evaluation(**settings)
