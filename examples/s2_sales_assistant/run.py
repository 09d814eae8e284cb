"""Start the assistant and the shop, whose page asks it. Arguments: their ports, 8000 and 8001 if none are given.

Ctrl+C stops both.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1]
ASSISTANT_PORT, SHOP_PORT = sys.argv[1:] or ("8000", "8001")
ADDRESSES = {
    "ASSISTANT_URL": f"http://127.0.0.1:{ASSISTANT_PORT}",
    "SHOP_ORIGINS": f"http://127.0.0.1:{SHOP_PORT} http://localhost:{SHOP_PORT}",
}


def start(app: str, port: str) -> subprocess.Popen[bytes]:
    command = ["-m", "uvicorn", f"s2_sales_assistant.{app}:app", "--port", port, "--timeout-graceful-shutdown", "5"]
    return subprocess.Popen([sys.executable, *command], cwd=EXAMPLES, env={**os.environ, **ADDRESSES})


with (
    start("web", ASSISTANT_PORT) as web,
    start("shop", SHOP_PORT) as shop,
    contextlib.suppress(KeyboardInterrupt),
):
    # A terminal sends Ctrl+C to all three.
    web.wait()
    shop.terminate()
sys.exit(max(0, web.returncode))
