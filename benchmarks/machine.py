"""Where a benchmark ran, and on what."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["machine"]


def machine(packages: Sequence[str]) -> dict[str, str]:
    """The machine, Python, and the versions of these packages."""
    facts = {"system": platform.platform(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts["cpu"] = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        facts["cpu"] = platform.processor()
    for package in packages:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "-"
    return facts
