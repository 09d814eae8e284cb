"""The npm package: its own tests, what it costs a page, and that it can be installed and imported by everybody."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.npm.conftest import NpmPackage

ENTRIES = ["tailrace", "tailrace/react", "tailrace/markdown", "tailrace/ai-sdk", "tailrace/fetch", "tailrace/testing"]


@pytest.mark.timeout(180)
def test_its_own_tests_pass(npm_package: NpmPackage) -> None:
    report = json.loads(npm_package.run("vitest", "run", "--reporter=json", timeout_seconds=170))

    assert report["numPassedTests"] > 0
    assert report["numFailedTests"] == report["numPendingTests"] == report["numTodoTests"] == 0


def test_each_entry_stays_within_its_budget(
    npm_package: NpmPackage, record_property: Callable[[str, float], None]
) -> None:
    sizes = json.loads(npm_package.run("scripts/sizes.mjs", "--json"))

    for size in sizes:
        record_property(f"KiB of {size['name']}", size["bytes"] / 1024)
    assert len(sizes) >= 5
    assert [size["name"] for size in sizes if not size["fits"]] == []


def test_the_core_imports_no_package(npm_package: NpmPackage) -> None:
    for module in ("index", "fetch"):
        for code in (npm_package.path / "dist").glob(f"{module}.[mc]js"):
            imported = [line for line in code.read_text().splitlines() if " from " in line and "import" in line]
            assert [line for line in imported if '"./' not in line and "'./" not in line] == []


@pytest.mark.timeout(120)
def test_packagers_find_nothing_to_complain_about(npm_package: NpmPackage) -> None:
    assert "All good" in npm_package.run("publint", "--strict")
    npm_package.run("attw", "--pack", ".", "--profile", "node16", timeout_seconds=100)


def test_it_is_as_old_as_the_python_package(npm_package: NpmPackage) -> None:
    pyproject = (npm_package.path.parents[1] / "pyproject.toml").read_text()

    version = json.loads((npm_package.path / "package.json").read_text())["version"]

    assert f'version = "{version}"' in pyproject


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_can_be_imported_and_required(npm_package: NpmPackage, tmp_path: Path, entry: str) -> None:
    # As it is found by a page that has installed it: by its name, in a folder of modules.
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for name in ("react", "react-dom", "scheduler", "marked", "remend", "ai"):
        source = npm_package.path / "node_modules" / name
        if source.exists():
            (modules / name).symlink_to(source)
    (modules / "tailrace").symlink_to(npm_package.path)
    (tmp_path / "esm.mjs").write_text(f"console.log(Object.keys(await import('{entry}')).sort().join())")
    (tmp_path / "cjs.cjs").write_text(f"console.log(Object.keys(require('{entry}')).sort().join())")

    said = [
        subprocess.run(
            [npm_package.node, "--preserve-symlinks", "--preserve-symlinks-main", str(tmp_path / script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.strip()
        for script in ("esm.mjs", "cjs.cjs")
    ]

    assert said[0] != ""
    assert said[0] == said[1]
