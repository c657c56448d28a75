"""Agreement of the rule with the verdicts that public benchmarks gave to real model outputs.

    python tests/benchmarks/grader_agreement.py [FOLDER] [--write FILE.md]

The cases stand outside the repository (`../shared/data/grader_cases`). Prints one JSON line; `--write` lists every case
marked `agree` on which the two differ.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from report import report

from lightning_r1v3.rewards import format_reward, rule_accuracy

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "grader_cases"

Case = dict[str, Any]


def load_cases(folder: Path = FOLDER) -> list[Case]:
    """Returns the cases, in the order of the file.

    Raises:
        FileNotFoundError: When the folder is not there.
    """
    with gzip.open(folder / "cases.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def our_verdict(case: Case) -> bool:
    """Returns what this package says of a case; the whole response is the answer part, any of several golds will do."""
    if case["kind"] == "format":
        return bool(format_reward(case["response"]))
    golds = case["gold"] if isinstance(case["gold"], list) else [case["gold"]]
    choices = tuple(case["choices"].values()) if case["choices"] else None
    return any(rule_accuracy(case["response"], str(gold), choices) for gold in golds)


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--write", type=Path, help="list the disagreements here")
    options = parser.parse_args()
    cases = [case for case in load_cases(options.folder) if case["kind"] != "format_think_answer"]
    started = time.perf_counter()
    agrees = [our_verdict(case) == case["verdict"] for case in cases]
    seconds = time.perf_counter() - started
    groups: dict[str, list[bool]] = defaultdict(list)
    for case, same in zip(cases, agrees, strict=True):
        marked = case.get("cross_check", "format")
        groups[marked].append(same)
        groups[f"{marked}/{case['source']}/{case['kind']}"].append(same)
    figures = {
        "agreement": {name: round(sum(same) / len(same), 5) for name, same in sorted(groups.items())},
        "cases": {name: len(same) for name, same in sorted(groups.items())},
        "cases_per_second": round(len(cases) / seconds, 1),
    }
    report("grader_agreement", figures, seed=0, versions={"math-verify": version("math-verify")})
    if options.write:
        differing = [case for case, same in zip(cases, agrees, strict=True) if not same]
        options.write.write_text("".join(map(_row, filter(_is_marked, differing))), encoding="utf-8")
    return 0


def _is_marked(case: Case) -> bool:
    return case.get("cross_check") == "agree"


def _row(case: Case) -> str:
    end = " ".join(case["response"].split())[-160:].replace("|", "\\|")
    return f"| {case['id']} | {case['gold']} | {case['verdict']} | …{end} |\n"


if __name__ == "__main__":
    raise SystemExit(main())
