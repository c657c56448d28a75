from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from itertools import pairwise

import pytest

from lightning_r1v3.rollout import server
from lightning_r1v3.rollout.server_settings import Patience, ServerSettings
from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = EntryPoint("gloo", "lightning_r1v3.rollout.gloo:register", "vllm.general_plugins")
    monkeypatch.setattr(server, "entry_points", lambda group: [plugin])


def test_an_installation_without_the_plugin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "entry_points", lambda group: [])
    with pytest.raises(SystemExit, match="make setup"):
        server.main(["--model", "somewhere"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_other_machines_are_not_listened_to_without_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(SystemExit, match=f"{TOKEN_VARIABLE} holds no token"):
        server.main(["--host", host, "--model", "somewhere"])


def test_a_token_is_made_for_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    monkeypatch.setattr(server, "_serve", lambda options, ready_file: None)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    server.main(["--model", "somewhere"])
    assert len(os.environ[TOKEN_VARIABLE]) >= 32
    assert os.environ[TOKEN_VARIABLE] in capsys.readouterr().err


def test_options_become_arguments() -> None:
    settings = ServerSettings(
        tensor_parallel_size=2, options={"max_model_len": 512, "enable_sleep_mode": True, "x": [1]}
    )
    arguments = settings.arguments("folder", dtype="bfloat16", transfer="nccl")
    pairs = set(pairwise(arguments))
    assert {("--tensor-parallel-size", "2"), ("--max-model-len", "512"), ("--x", "[1]")} <= pairs
    assert ("--model", "folder") in pairs
    assert "--enable-sleep-mode" in arguments
    assert ("--host", "127.0.0.1") in pairs


def test_servers_by_url_need_their_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=TOKEN_VARIABLE):
        ServerSettings(urls=("http://127.0.0.1:8000",))


@pytest.mark.parametrize("wrong", [{"count": 0}, {"tensor_parallel_size": 0}])
def test_there_is_a_server(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected servers\.count"):
        ServerSettings(**wrong)


def test_patience_is_positive() -> None:
    with pytest.raises(ValueError, match="patience"):
        Patience(request_s=0)
