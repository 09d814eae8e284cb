"""The files around the code keep what they promise to a newcomer, a packager and a reader."""

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[2]

# Written in two parts, so that this file passes its own test.
MACHINE_FOLDERS = ["/" + "root/", "/" + "work/", "/" + "home/", "/" + "Users/"]
MACHINE_PATH = re.compile(rf"(?<![\w.-])(?:{'|'.join(MACHINE_FOLDERS)})")


def project() -> dict[str, Any]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return cast("dict[str, Any]", pyproject["project"])


def distribution_names(requirements: list[str]) -> list[str]:
    return [re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements]


def tracked_files(git: str) -> Iterator[Path]:
    command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
    return (path for name in listing.split("\0") if name and (path := ROOT / name).is_file())


def lines_with_a_machine_path(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def test_the_core_needs_msgspec_and_starlette_and_nothing_else() -> None:
    assert sorted(distribution_names(project()["dependencies"])) == ["msgspec", "starlette"]


def test_the_extra_all_holds_every_other_extra() -> None:
    extras = project()["optional-dependencies"]

    everything = extras.pop("all")

    assert sorted(everything) == [f"tailrace[{name}]" for name in sorted(extras)]


def test_the_readme_shows_the_test_command_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert re.search(r"^\s*(?:\$ )?make test\b", readme, re.MULTILINE)
    assert re.search(r"^make (?:\w+ )*test$", ci, re.MULTILINE)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: nothing here is tracked")
def test_no_file_names_a_path_of_one_machine(require_program: Callable[..., str]) -> None:
    files = list(tracked_files(require_program("git")))

    found = [line for file in files for line in lines_with_a_machine_path(file)]

    assert ROOT / "pyproject.toml" in files
    assert found == []
