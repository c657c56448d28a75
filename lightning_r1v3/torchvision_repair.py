"""Lets torchvision import beside a torch that its compiled operators were not built for.

The torchvision of the package index is a CUDA build. Beside a CPU build of torch its operators do not load, and
`import torchvision` fails, because it attaches shape functions to two operators that nobody declared. Declaring their
schemas is enough: the image processors of transformers never call them.
"""

from __future__ import annotations

import os
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

import torch

OPERATORS_OF_IMPORT = ("nms", "qnms")
"""The operators without which `import torchvision` fails."""

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_CHILD_SITE = Path(__file__).parent / "child_site"

# What a library declares lives as long as the library object.
_libraries: list[torch.library.Library] = []


def declare_missing_operators() -> None:
    """Declares the operators that `import torchvision` needs, where its compiled ones do not load.

    Does nothing when torchvision is absent, when its operators load, or when they are declared already. Never imports
    torchvision itself; call it before anything does.
    """
    torchvision = find_spec("torchvision")
    if torchvision is None or torchvision.origin is None or _loads_operators(Path(torchvision.origin).parent):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS_OF_IMPORT:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SCHEMA)
    _libraries.append(library)


def child_environment() -> dict[str, str]:
    """Returns the environment variables under which a Python child process is repaired at its start.

    For children of `python -c` and of pytest, and for other programs written in Python: merge it into their
    environment. Spawned children of a script that imports this package first need nothing. The `PYTHONPATH` in it
    puts a `sitecustomize` module of ours in front of any other.
    """
    paths = [str(_CHILD_SITE), os.environ.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _loads_operators(folder: Path) -> bool:
    """Loads torchvision's compiled operators from its folder, as its import would; False if they do not load."""
    compiled = PathFinder.find_spec("_C", [str(folder)])
    if compiled is None:
        return False
    try:
        torch.ops.load_library(compiled.origin)
    except OSError:
        return False
    return True
