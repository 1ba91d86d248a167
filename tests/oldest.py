"""The oldest versions that ``pyproject.toml`` allows, as constraints for pip: ``python -m tests.oldest``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def oldest() -> list[str]:
    """``name==version`` of the lower bound of each dependency; those of the tests are left to pip."""
    dependencies = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", dependency) for dependency in dependencies]


if __name__ == "__main__":
    print("\n".join(oldest()))
