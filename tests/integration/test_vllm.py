"""A real vLLM serves the tiny model; its servers are shared by the tests of this file."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch
from gate import Gate
from served_policy import NEEDS_VLLM, OPTIONS, PATIENCE, SAMPLING, Policy, backbone

from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.rewards.judge_prompt import JudgeQuestion
from lightning_r1v3.rewards.llm_verifier import LLMVerifier
from lightning_r1v3.rollout.errors import RolloutError
from lightning_r1v3.rollout.server_settings import ServerSettings
from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE
from lightning_r1v3.rollout.vllm_engine import VLLMEngine
from lightning_r1v3.types import Sampling

pytestmark = NEEDS_VLLM

TIED = {"tie_word_embeddings": True, "text_config.tie_word_embeddings": True}
TOLERANCE = 1e-4


def policy_of(tied: bool) -> Iterator[Policy]:
    settings: dict[str, Any] = {"random_weights": True, "overrides": TIED} if tied else {}
    engine = VLLMEngine(servers=ServerSettings(options=OPTIONS), patience=PATIENCE)
    policy = Policy(backbone(**settings), engine)
    try:
        policy.sync()
        yield policy
    finally:
        engine.close()


@pytest.fixture(scope="module")
def untied() -> Iterator[Policy]:
    yield from policy_of(tied=False)


@pytest.fixture(scope="module")
def tied() -> Iterator[Policy]:
    yield from policy_of(tied=True)


@pytest.fixture
def token(untied: Policy, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(TOKEN_VARIABLE, untied.engine.token)
    return untied.engine.token


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_logprobs_are_the_learners_after_every_weight_changed(name: str, request: pytest.FixtureRequest) -> None:
    policy: Policy = request.getfixturevalue(name)
    before = policy.draw()  # the servers have the pictures' embeddings in their caches now
    assert policy.gap(before) <= TOLERANCE
    policy.change()
    assert policy.gap(before) > 100 * TOLERANCE
    policy.sync()
    after = policy.draw()
    assert policy.gap(after) <= TOLERANCE
    assert after.policy_version == policy.version


def test_a_step_fixes_the_draws(untied: Policy) -> None:
    untied.change()  # as shipped, it is too sure of its answers for draws to differ
    untied.sync()
    first, again, other = (untied.draw(step=step) for step in (0, 0, 1))
    assert torch.equal(first.token_ids, again.token_ids)
    assert first.token_ids.shape != other.token_ids.shape or not torch.equal(first.token_ids, other.token_ids)
    members = [row.tolist() for row in first.token_ids[: SAMPLING.group_size]]
    assert members[0] != members[1] != members[2]


def test_bans_temperature_and_lengths_are_kept(untied: Policy) -> None:
    sampling = Sampling(group_size=4, max_new_tokens=24, temperature=1.5, banned_strings=("a", "e"))
    rollouts = untied.draw(sampling)
    assert untied.gap(rollouts, sampling) <= TOLERANCE
    tokenizer = untied.backbone.processor.tokenizer
    ids = set(rollouts.token_ids[rollouts.mask].tolist())
    assert not any(letter in tokenizer.decode([i]) for i in ids for letter in "ae")
    assert ids & set(tokenizer.all_special_ids) <= {tokenizer.eos_token_id}
    assert not rollouts.token_ids[~rollouts.mask].any()
    for row, mask, reason in zip(rollouts.token_ids, rollouts.mask, rollouts.finish_reason, strict=True):
        assert (row[mask][-1] == tokenizer.eos_token_id) == (reason == "stop")
        assert reason == "stop" or mask.sum() == sampling.max_new_tokens


def test_more_prompts_than_are_read_in_one_pass(untied: Policy) -> None:
    untied.change()  # nothing of them is cached
    untied.sync()
    sampling = Sampling(group_size=64, max_new_tokens=2)
    rollouts = untied.draw(sampling)
    assert len(rollouts.token_ids) == len(untied.prompts) * sampling.group_size
    assert untied.gap(rollouts, sampling) <= TOLERANCE


def test_only_what_trains_is_sent_again(untied: Policy, token: str) -> None:
    engine = VLLMEngine(servers=ServerSettings(urls=untied.urls), patience=PATIENCE)
    connector = Policy(backbone(trainable=["connector"]), engine, version=10)
    whole = connector.sync()
    connector.change("connector")
    connector_bytes = sum(p.nbytes for _, p in connector.backbone.named_groups()["connector"])
    assert connector.sync() == connector_bytes < whole / 10
    assert connector.gap(connector.draw()) <= TOLERANCE
    untied.take_back()


def test_adapters_are_merged_on_their_way(untied: Policy, token: str) -> None:
    engine = VLLMEngine(servers=ServerSettings(urls=untied.urls), patience=PATIENCE)
    adapted = Policy(backbone(lora=Lora(rank=4, groups=["vision_tower", "connector", "language_model"])), engine, 30)
    whole = adapted.sync()
    adapted.change()
    assert adapted.sync() < whole
    assert adapted.gap(adapted.draw()) <= TOLERANCE
    untied.take_back()


def test_a_model_that_does_not_fit_is_refused_before_anything_is_sent(untied: Policy, token: str) -> None:
    engine = VLLMEngine(servers=ServerSettings(urls=untied.urls), patience=PATIENCE)
    shallow = backbone(random_weights=True, overrides={"text_config.num_hidden_layers": 3})
    with pytest.raises(ValueError, match=r"vLLM has language_model\.model\.layers\.3\.\S+ .* no weight"):
        engine.sync(shallow)
    wide = backbone(random_weights=True, overrides={"text_config.intermediate_size": 320})
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.gate_up_proj\.weight .* takes 143360 elements"):
        engine.sync(wide)
    assert untied.gap(untied.draw()) <= TOLERANCE


def test_completions_drawn_ahead_are_those_asked_for(untied: Policy) -> None:
    expected = untied.draw(step=7)
    untied.engine.prefetch(untied.prompts, SAMPLING, step=7)
    drawn_at = untied.version
    untied.change()
    untied.sync()  # waits for them
    ahead = untied.draw(step=7)
    assert torch.equal(ahead.token_ids, expected.token_ids)
    assert ahead.policy_version == drawn_at
    assert untied.draw(step=7).policy_version == untied.version


def test_every_route_needs_the_token(untied: Policy, token: str) -> None:
    (url,) = untied.urls
    headers = {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/openapi.json", headers=headers), timeout=60) as response:
        routes = [(method, path) for path, methods in json.load(response)["paths"].items() for method in methods]
    assert {("post", "/update_weights"), ("post", "/pause"), ("get", "/health")} <= set(routes)
    for method, path in [*routes, ("get", "/openapi.json"), ("get", "/docs")]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url + path, method=method.upper()), timeout=60)
        refused.value.close()
        assert refused.value.code == 401, (method, path)


def test_the_verifier_can_ask_a_vllm_server(untied: Policy, token: str) -> None:
    verifier = LLMVerifier(
        f"{untied.urls[0]}/v1",
        "tiny",
        api_key_env=TOKEN_VARIABLE,
        timeout_s=120,
        max_retries=0,
        cache_path=None,
        audit_path=None,
    )
    (opinion,) = verifier.judge([JudgeQuestion(question="1 + 1?", gold="2", final_answer="two")])
    assert opinion.status in {"ok", "garbage"}  # the tiny model was never taught to judge
    verifier.close()


@pytest.fixture
def gate(untied: Policy, token: str) -> Iterator[Gate]:
    server = Gate(untied.urls[0])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    untied.take_back()


@pytest.fixture
def gated(untied: Policy, gate: Gate) -> Policy:
    servers = ServerSettings(urls=(f"http://127.0.0.1:{gate.server_address[1]}",))
    policy = Policy(
        untied.backbone, VLLMEngine(servers=servers, patience=replace(PATIENCE, max_failures=2)), version=20
    )
    policy.sync()
    return policy


def test_prompts_that_got_an_error_are_sent_again(gated: Policy, gate: Gate, untied: Policy) -> None:
    expected = gated.draw()
    gate.num_requests, gate.failures_left = 0, 2  # no more than attempts to spare, however they fall
    rollouts = gated.draw()
    assert torch.equal(rollouts.token_ids, expected.token_ids)
    assert gate.num_requests == len(gated.prompts) + 2


def test_prompts_that_are_never_answered_are_sent_again(gated: Policy, gate: Gate) -> None:
    expected = gated.draw()
    gated.engine.patience = replace(PATIENCE, request_s=20)
    gate.stall_s, gate.stalls_left = 60, 1
    rollouts = gated.draw()
    assert torch.equal(rollouts.token_ids, expected.token_ids)
    assert gate.stalls_left < 0


def test_a_slow_server_is_waited_for(gated: Policy, gate: Gate) -> None:
    expected = gated.draw()
    gated.engine.patience = replace(PATIENCE, probe_s=1)
    gate.num_requests, gate.stall_s, gate.stalls_left = 0, 4, 2
    assert torch.equal(gated.draw().token_ids, expected.token_ids)
    assert gate.num_requests == len(gated.prompts)  # none is sent twice


@pytest.mark.parametrize("ahead", [False, True])
def test_weights_that_a_server_did_not_take_over_are_sent_again(gated: Policy, gate: Gate, ahead: bool) -> None:
    expected = gated.draw()
    gate.path, gate.num_requests, gate.failures_left = "/finish_weight_update", 0, 1
    gated.sync()  # the trainer goes on before this fails
    if ahead:
        gated.engine.prefetch(gated.prompts, SAMPLING, step=0)
    assert torch.equal(gated.draw().token_ids, expected.token_ids)
    assert gate.num_requests == 2


def test_an_engine_that_keeps_failing_says_so(gated: Policy, gate: Gate) -> None:
    gate.failures_left = 1000
    with pytest.raises(RolloutError, match=r"4 of 4 prompts have no completions after 3 attempts.*HTTP 500"):
        gated.draw()


def test_a_killed_server_is_replaced_and_no_completion_lost(tied: Policy) -> None:
    expected = tied.draw(step=3)
    (leader,) = tied.engine.server_pids
    workers = psutil.Process(leader).children(recursive=True)
    killer = threading.Timer(0.05, os.killpg, (leader, signal.SIGKILL))
    killer.start()
    rollouts = tied.draw(step=3)
    killer.join()
    rollouts = tied.draw(step=3)  # whichever of the two met the dead server
    assert tied.engine.server_pids != [leader]
    assert torch.equal(rollouts.token_ids, expected.token_ids)
    assert tied.gap(rollouts) <= TOLERANCE
    assert psutil.wait_procs(workers, timeout=120)[1] == []


def test_a_server_that_hangs_is_replaced(tied: Policy) -> None:
    expected = tied.draw(step=4)
    tied.engine.patience = replace(PATIENCE, request_s=3600, probe_s=5)
    (leader,) = tied.engine.server_pids
    for process in [psutil.Process(leader), *psutil.Process(leader).children(recursive=True)]:
        process.suspend()
    assert torch.equal(tied.draw(step=4).token_ids, expected.token_ids)
    assert tied.engine.server_pids != [leader]
