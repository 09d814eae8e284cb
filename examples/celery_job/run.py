"""Start a Celery worker and the web server; Ctrl+C stops both. Arguments are uvicorn's, such as `--port 9000`."""

import contextlib
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1]
WORKER = ["-m", "celery", "--app", "celery_job.tasks", "worker", "--loglevel", "info"]
SERVER = ["-m", "uvicorn", "celery_job.web:app", "--timeout-graceful-shutdown", "5"]


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *arguments], cwd=EXAMPLES)


with start(*WORKER) as worker, start(*SERVER, *sys.argv[1:]) as server, contextlib.suppress(KeyboardInterrupt):
    # A terminal sends Ctrl+C to all three: the server stops when it has drained, the worker when its tasks have ended.
    server.wait()
    worker.terminate()
sys.exit(max(0, server.returncode))
