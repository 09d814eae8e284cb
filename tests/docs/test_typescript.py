"""The TypeScript on the pages: all of it has the types of the package as it is built, and what says so runs.

`<!-- run: node -->` above a block: it is a whole module, run by Node.js against the chat server of `make run`; the text
block under it is what it prints, `…` standing for anything. Any other block is checked for its types only.
"""

import asyncio
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from tailrace import Tailrace
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.demo_model import DemoModel
from tailrace.chat.app import create_app
from tests.docs.commands import shows
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.integration.support.server import AppServer
from tests.missing import missing

_PACKAGE = ROOT / "js" / "client"
_README = "js/client/README.md"
_LANGUAGES = {"ts": ".ts", "tsx": ".tsx"}
#: Clients that the pages show, by the names under which the interop tests have installed them.
_OF_OTHERS = {
    "@ag-ui/client": "@ag-ui/client",
    "@ai-sdk/react": "ai-react7",
    "ai": "ai7",
    "openai": "openai7",
}
_ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def tools(require_program: Callable[..., str]) -> Path:
    """The programs that the package is made with."""
    require_program("node")
    if not (_PACKAGE / "dist" / ".stamp").exists():
        missing("the npm package is not built: make install")
    return _PACKAGE / "node_modules" / ".bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the package is installed."""
    modules = tmp_path / "node_modules"
    packages = {"tailrace": _PACKAGE}
    packages |= {
        name: ROOT / "tests" / "interop" / "node_modules" / installed for name, installed in _OF_OTHERS.items()
    }
    for path in [*(_PACKAGE / "node_modules").glob("[!@.]*"), *(_PACKAGE / "node_modules").glob("@*/*")]:
        packages.setdefault(str(path.relative_to(_PACKAGE / "node_modules")), path)
    for name, path in packages.items():
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).symlink_to(path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def typescript() -> Iterator[Block]:
    """Every block of TypeScript on the pages."""
    return (block for page in [*PAGES, _README] for block in blocks(page) if block.language in _LANGUAGES)


def examples() -> Iterator[tuple[Block, str]]:
    """The blocks that are run, and what they print."""
    for page in [*PAGES, _README]:
        for block, after in itertools.pairwise(blocks(page)):
            if block.mark == "run: node":
                assert after.language == "text", f"{block.place} shows nothing of what it prints"
                yield block, after.text


def test_every_block_has_the_types_of_the_package(tools: Path, folder: Path) -> None:
    places: dict[str, str] = {}
    for number, block in enumerate(typescript()):
        name = f"block{number}{_LANGUAGES[block.language]}"
        places[name] = block.place
        # A module of its own, whatever it imports.
        (folder / name).write_text(f"{block.text}\nexport {{}};\n")
    settings = json.loads((_PACKAGE / "tsconfig.json").read_text())["compilerOptions"]
    settings |= {"noUnusedLocals": False, "noUnusedParameters": False}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "include": ["block*"]}))

    done = subprocess.run([str(tools / "tsc")], cwd=folder, capture_output=True, text=True, timeout=55, check=False)

    assert places
    assert done.returncode == 0, "\n".join([done.stdout, *(f"{name} is {place}" for name, place in places.items())])


@pytest.mark.parametrize(("block", "printed"), [pytest.param(*each, id=each[0].place) for each in examples()])
async def test_a_block_that_is_run_prints_what_the_page_says(
    tools: Path, folder: Path, block: Block, printed: str
) -> None:
    app = await asyncio.to_thread(create_app, Assistant(DemoModel()), Tailrace())
    await asyncio.to_thread(_run, app, tools, folder, block, printed)


def _run(app: ASGIApp, tools: Path, folder: Path, block: Block, printed: str) -> None:
    with AppServer(app) as server:
        (folder / "block.ts").write_text(block.text.replace(_ADDRESS, f"http://127.0.0.1:{server.port}"))
        bundle = [str(tools / "esbuild"), "block.ts", "--format=esm", "--outfile=block.mjs", "--log-level=error"]
        subprocess.run(bundle, cwd=folder, timeout=30, check=True)
        run = ["node", "--preserve-symlinks", "block.mjs"]
        done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=50, check=False)

    assert done.returncode == 0, f"{block.place}:\n{done.stderr}"
    assert shows(done.stdout, printed), f"{block.place} prints\n{done.stdout}"
