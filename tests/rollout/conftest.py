from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "backbone"))

from tiny import any_family, internvl, tiny_of  # noqa: F401 (fixtures)
