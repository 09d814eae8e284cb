"""The job: a Celery task that writes a report. Its process is the producer of the run; no web server is."""

import asyncio
import os

from celery import Celery

from tailrace import Progress, Runs, Status

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
#: How soon the readers of a worker that was killed are told; the web server has to know the same number.
LEASE_SECONDS = 3

celery = Celery("reports", broker=REDIS_URL)


@celery.task
def write_report(run_id: str, owner: str | None, topic: str, sections: int) -> str:
    """A task is a plain function, so it brings its own event loop."""
    return asyncio.run(produce_report(run_id, owner, topic, sections))


async def produce_report(run_id: str, owner: str | None, topic: str, sections: int) -> str:
    meta = {"topic": topic}
    async with Runs(REDIS_URL, lease_seconds=LEASE_SECONDS) as runs:
        async with runs.producer(run_id, owner=owner, meta=meta) as run:
            for number in range(1, sections + 1):
                await run.emit(Status(f"Writing section {number} of {sections}"))
                for word in f"{number}. A real job would ask a model about {topic} here.".split():
                    await run.emit(f"{word} ")
                    await asyncio.sleep(0.1)
                await run.emit(Progress(current=number, total=sections))
        # Whoever cancels the run cancels the body above; what is to be tidied up comes here.
        return "stopped" if run.stopped else "done"
