"""A vLLM server for rollouts: `python -m lightning_r1v3.rollout.server --model runs/sft/hf`.

It is vLLM's own server with what rollouts need switched on: prompts as token ids, log-probabilities as sampled, the
routes that take new weights. Every route needs the token of the variable R1V3_ROLLOUT_TOKEN. All other options are
vLLM's, e.g. `--tensor-parallel-size 2 --max-model-len 8192`.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import secrets
import signal
import socket
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE, TokenGuard
from lightning_r1v3.torchvision_repair import child_environment

SERVER_VARIABLE = "R1V3_ROLLOUT_SERVER"
"""Set in the processes of a rollout server: they end with their parent."""

_CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "TORCHDYNAMO_DISABLE": "1",  # compiling the sampler takes longer than all that it saves
}
# A prompt that is read in two passes takes a seeded request's generator back by an offset, which CPUs' do not have: it
# ends vLLM 0.32's engine.
_CPU_OPTIONS = ("--enforce-eager", "--no-enable-chunked-prefill")
_PLUGIN = "lightning_r1v3.rollout.gloo"
_WORKER_EXTENSION = "lightning_r1v3.rollout.weight_check.WeightCheck"


def main(arguments: list[str] | None = None) -> None:
    """Runs the server until it is told to end."""
    own, options = _own_parser().parse_known_args(arguments)
    _check_installed()
    _settle_token(own.host)
    if own.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    if own.transfer == "gloo":
        os.environ |= _CPU_ENVIRONMENT | os.environ
    os.environ |= {"VLLM_SERVER_DEV_MODE": "1", SERVER_VARIABLE: "1", **child_environment()}
    if own.transfer == "ipc":
        # Handles of GPU memory travel pickled; only who has the token can send any.
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    _serve([*vllm_options(own), *options], own.ready_file)


def vllm_options(own: argparse.Namespace) -> list[str]:
    """Returns the options that make vLLM's server a rollout server.

    Args:
        own: This module's options: `host`, `port`, `transfer`.
    """
    return [
        "--enable-scale-out",
        "--disable-uvicorn-access-log",
        *("--host", own.host, "--port", str(own.port)),
        *("--logprobs-mode", "processed_logprobs"),
        *("--generation-config", "vllm"),
        *("--middleware", f"{TokenGuard.__module__}.{TokenGuard.__qualname__}"),
        *("--worker-extension-cls", _WORKER_EXTENSION),
        *("--weight-transfer-config", json.dumps({"backend": own.transfer})),
        *(_CPU_OPTIONS if own.transfer == "gloo" else ()),
    ]


def _own_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    parser.add_argument("--transfer", default="gloo", help="how weights arrive: gloo (CPUs), nccl, ipc (same GPU)")
    parser.add_argument("--ready-file", type=Path, help="file to write the address to")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does")
    return parser


def _check_installed() -> None:
    """Exits if vLLM would not find what this package adds to it."""
    if not any(plugin.module == _PLUGIN for plugin in entry_points(group="vllm.general_plugins")):
        sys.exit(
            "vLLM finds its weight transfer over gloo by this package's entry points, which are not installed, or "
            "older than its source: run `make setup`, or pip install the package again"
        )


def _settle_token(host: str) -> None:
    """Makes a token where none is given; exits if the server would then listen to other machines."""
    if os.environ.get(TOKEN_VARIABLE):
        return
    if not _is_loopback(host):
        sys.exit(
            f"--host {host} listens to other machines, and the variable {TOKEN_VARIABLE} holds no token: whoever "
            f"reaches the port could change the weights. Set it here and for the trainer, or leave --host out"
        )
    os.environ[TOKEN_VARIABLE] = secrets.token_urlsafe(32)
    sys.stderr.write(f"{TOKEN_VARIABLE}={os.environ[TOKEN_VARIABLE]}\n")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _end_with_stdin() -> None:
    """Ends this process and its children when whoever holds the other end of standard input is gone."""
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _serve(options: list[str], ready_file: Path | None) -> None:
    import uvloop  # noqa: PLC0415  (vLLM's packages take seconds to import, and `--help` needs none)
    from vllm.entrypoints.launchers.api_server.entry import run_server_worker  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args  # noqa: PLC0415
    from vllm.entrypoints.launchers.launcher import setup_server  # noqa: PLC0415
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    cli_env_setup()
    parsed: Any = make_arg_parser(FlexibleArgumentParser()).parse_args(options)
    validate_parsed_serve_args(parsed)
    address, listener = setup_server(parsed, reuse_port=False)
    if ready_file is not None:
        _write_address(listener, ready_file)
    uvloop.run(run_server_worker(address, listener, parsed))


def _write_address(listener: socket.socket, file: Path) -> None:
    host, port = listener.getsockname()[:2]
    aside = file.with_suffix(".partial")
    aside.write_text(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    aside.rename(file)


if __name__ == "__main__":
    main()
