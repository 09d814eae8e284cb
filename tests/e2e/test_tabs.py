"""Many tabs of one browser, which allows six connections to a server: one of them reads for all."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from tests.e2e.tabs_site import TabsSite, words_upto
from tests.integration.support.server import AppServer
from tests.missing import missing

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

_PACKAGE = Path(__file__).parents[2] / "js" / "client"
_TABS = 12
_PATIENCE_MS = 30_000
#: `run.started` before the words, and `run.completed` after them.
_AROUND = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]) -> Path:
    """The client as a page loads it: what is not always needed is in files of its own."""
    require_program("node")
    esbuild = _PACKAGE / "node_modules" / ".bin" / "esbuild"
    if not esbuild.exists():
        missing("the tools of the npm package are not installed: make install")
    folder = tmp_path_factory.mktemp("client")
    options = ["--bundle", "--splitting", "--format=esm", "--target=es2022", "--log-level=error", f"--outdir={folder}"]
    subprocess.run([esbuild, _PACKAGE / "src" / "index.ts", *options], check=True)
    return folder


class Tabs:
    """One browser at one site."""

    def __init__(self, context: BrowserContext, site: TabsSite, server: AppServer) -> None:
        self.context = context
        self.site = site
        self.server = server

    async def open(self, query: str) -> Page:
        """A new tab."""
        page = await self.context.new_page()
        await page.goto(f"/?{query}", timeout=_PATIENCE_MS)
        return page

    async def start(self, last: int, **options: Any) -> str:  # noqa: ANN401
        return await asyncio.to_thread(self.server.call, self.site.start(last, **options))

    async def release(self) -> None:
        await asyncio.to_thread(self.server.call, self.site.release())

    async def one_is_left(self) -> None:
        """Wait until one stream is open, while nothing ends the runs."""
        await asyncio.to_thread(self.server.eventually, lambda: self.site.streams.now == 1)

    async def counted(self) -> tuple[int, int]:
        """How many streams are open, and how many were at the same time at most."""
        streams = self.site.streams
        return await asyncio.to_thread(self.server.evaluate, lambda: (streams.now, streams.most))


@pytest.fixture
def serve() -> Iterator[Callable[[TabsSite], AppServer]]:
    with ExitStack() as servers:
        yield lambda site: servers.enter_context(AppServer(site.app))


@pytest_asyncio.fixture(loop_scope="module")
async def open_site(
    browser: Browser, bundle: Path, serve: Callable[[TabsSite], AppServer]
) -> AsyncGenerator[Callable[..., Any]]:
    """Serve a site, and open a browser for it; whatever a page complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def opened(**options: bool) -> Tabs:
        site = TabsSite(bundle, **options)
        server = await asyncio.to_thread(serve, site)
        context = await browser.new_context(base_url=f"http://127.0.0.1:{server.port}")
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        contexts.append(context)
        return Tabs(context, site, server)

    yield opened
    for context in contexts:
        await context.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="module")
async def tabs(open_site: Callable[..., Any]) -> Tabs:
    opened: Tabs = await open_site()
    return opened


async def _at_least(page: Page, run_id: str, seq: int) -> None:
    await page.wait_for_function(
        "([id, seq]) => (window.seen[id]?.seqs.length ?? 0) >= seq", arg=[run_id, seq], timeout=_PATIENCE_MS
    )


async def _ends_whole(page: Page, run_id: str, last: int) -> None:
    """The tab has the run whole: nothing is missing, and nothing twice."""
    await page.wait_for_function(
        "id => (window.seen[id]?.status ?? 'running') !== 'running' || window.seen[id].error",
        arg=run_id,
        timeout=_PATIENCE_MS,
    )
    seen = await page.evaluate("id => window.seen[id]", run_id)
    expected = {"seqs": list(range(1, last + _AROUND + 1)), "text": words_upto(last), "error": ""}
    assert seen == {**expected, "status": "completed"}


async def test_twelve_tabs_load_and_read_one_run_over_one_connection(tabs: Tabs) -> None:
    run_id = await tabs.start(300, held=150)

    pages = [await tabs.open(f"run={run_id}") for _ in range(_TABS)]
    await asyncio.gather(*(_at_least(page, run_id, 150) for page in pages))
    assert await tabs.counted() == (1, 1)
    await tabs.release()

    await asyncio.gather(*(_ends_whole(page, run_id, 300) for page in pages))
    assert (await tabs.counted())[1] == 1


async def test_tabs_with_runs_and_threads_of_their_own_share_the_connection(tabs: Tabs) -> None:
    runs = [await tabs.start(100, held=50, thread=f"t{number}") for number in range(4)]

    pages = [await tabs.open(f"run={runs[number % 4]}") for number in range(8)]
    watching = [await tabs.open(f"thread=t{number}") for number in range(4)]
    await asyncio.gather(*(_at_least(page, runs[at % 4], 10) for at, page in enumerate([*pages, *watching])))
    await tabs.release()

    await asyncio.gather(*(_ends_whole(page, runs[at % 4], 100) for at, page in enumerate([*pages, *watching])))
    assert (await tabs.counted())[1] == 1


async def test_when_the_tab_that_reads_is_closed_another_goes_on_without_a_gap(tabs: Tabs) -> None:
    run_id = await tabs.start(400, held=390)
    pages = [await tabs.open(f"run={run_id}") for _ in range(_TABS)]
    await asyncio.gather(*(_at_least(page, run_id, 20) for page in pages))

    # The one that came first reads; then the next.
    for _ in range(3):
        await pages.pop(0).close()
        latest = await pages[0].evaluate("id => window.seen[id].seqs.length", run_id)
        await asyncio.gather(*(_at_least(page, run_id, min(latest + 20, 385)) for page in pages))
    await tabs.one_is_left()
    await tabs.release()

    await asyncio.gather(*(_ends_whole(page, run_id, 400) for page in pages))
    assert (await tabs.counted())[1] == 1


async def test_a_tab_that_is_loaded_anew_reads_the_run_again_and_the_others_go_on(tabs: Tabs) -> None:
    run_id = await tabs.start(200, held=190)
    pages = [await tabs.open(f"run={run_id}") for _ in range(3)]
    await asyncio.gather(*(_at_least(page, run_id, 20) for page in pages))

    for page in pages:
        await page.reload()
        await asyncio.gather(*(_at_least(each, run_id, 30) for each in pages))
    await tabs.one_is_left()
    await tabs.release()

    await asyncio.gather(*(_ends_whole(page, run_id, 200) for page in pages))
    assert (await tabs.counted())[1] == 1


async def test_a_run_that_one_tab_starts_is_read_by_all_that_watch_its_conversation(tabs: Tabs) -> None:
    pages = [await tabs.open("thread=talk") for _ in range(_TABS)]
    asking = pages[5]

    run_id = await asking.evaluate(
        """async () => {
            const run = await window.client.run({ last: 100, held: 90, thread: 'talk' })
            return run.id
        }"""
    )
    await asyncio.gather(*(_at_least(page, run_id, 20) for page in pages))
    await tabs.release()

    await asyncio.gather(*(_ends_whole(page, run_id, 100) for page in pages))
    text = await asking.evaluate("id => window.client.attach(id).text()", run_id)
    assert text == words_upto(100)
    assert (await tabs.counted())[1] == 1


async def test_a_run_that_has_ended_and_one_that_is_unknown_do_not_disturb_the_others(tabs: Tabs) -> None:
    ended = await tabs.start(5)
    live = await tabs.start(100, held=50)
    first = await tabs.open(f"run={live}")
    await _at_least(first, live, 20)

    late = await tabs.open(f"run={ended}")
    wrong = await tabs.open("run=unknown")

    await _ends_whole(late, ended, 5)
    await wrong.wait_for_function("window.seen.unknown.error", timeout=_PATIENCE_MS)
    assert "no such run" in await wrong.evaluate("window.seen.unknown.error")
    await tabs.release()
    await _ends_whole(first, live, 100)


async def test_where_the_server_knows_no_identities_each_tab_reads_on_its_own(open_site: Callable[..., Any]) -> None:
    tabs: Tabs = await open_site(known=False)
    pages = [await tabs.open("") for _ in range(2)]
    runs = [
        await page.evaluate(
            "async () => { const run = await window.client.run({ last: 20 }); window.read(run); return run.id }"
        )
        for page in pages
    ]

    await asyncio.gather(*(_ends_whole(page, run_id, 20) for page, run_id in zip(pages, runs, strict=True)))
    assert set(tabs.site.streams.paths) == {f"/runs/{run_id}/events" for run_id in runs}
