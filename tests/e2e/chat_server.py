"""What a browser test knows of the server it talks to."""

from pathlib import Path
from typing import NamedTuple

import httpx2

__all__ = ["ChatServer"]


class ChatServer(NamedTuple):
    """A running chat server; `marks` is where its agent writes what it did."""

    url: str
    marks: Path

    def marked(self, fact: str) -> int:
        """How often the agent told this fact."""
        return self.marks.read_text(encoding="utf-8").splitlines().count(fact)

    def log_text(self, run_id: str) -> str:
        """All text of a run, as its log has it."""
        document: dict[str, str] = httpx2.get(f"{self.url}/runs/{run_id}").raise_for_status().json()
        return document["text"]
