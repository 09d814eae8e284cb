"""The environment of a chat server under test: conversations in a folder of the test's, and any number of runs."""

import os
from pathlib import Path

__all__ = ["chat_environment"]

_LIMITS = ("USER_RUNS_PER_MINUTE", "TENANT_RUNS_PER_MINUTE", "USER_LIVE_RUNS", "TENANT_LIVE_RUNS")


def chat_environment(folder: Path | str) -> dict[str, str]:
    """That of this process, with what a server needs that `tailrace serve` starts. `folder` outlives the server."""
    limits = {f"TAILRACE_{name}": "0" for name in _LIMITS}
    return {
        **os.environ,
        **limits,
        "TAILRACE_DATABASE": f"sqlite:///{Path(folder).resolve()}/chat.db",
        # The first is what our own client calls every server.
        "TAILRACE_TRUSTED_HOSTS": "tailrace.test,127.0.0.1,localhost",
    }
