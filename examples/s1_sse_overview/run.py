"""Start the server on port 8000; Ctrl+C stops it. Arguments are gunicorn's, such as `--bind 127.0.0.1:9000`."""

import os
import secrets
import sys
from pathlib import Path

THREADS = "32"
TOKEN = os.environ.setdefault("API_TOKEN", secrets.token_urlsafe())
SERVER = ["--worker-class", "gthread", "--threads", THREADS, "--bind", "127.0.0.1:8000", "--no-control-socket"]

print("Open http://127.0.0.1:8000, or:")
print(f"curl -N -G http://127.0.0.1:8000/events -d message=Hello -H 'Authorization: Bearer {TOKEN}'", flush=True)
os.environ["THREADS"] = THREADS
os.chdir(Path(__file__).parents[1])
os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *SERVER, *sys.argv[1:], "s1_sse_overview.web:app"])  # noqa: S606
