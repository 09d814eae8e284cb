"""A program whose SDK is built on httpx, which is httpx2 here: reads one answer and prints its text.

Run as `aliased_client.py BASE_URL X_CUT`.
"""

import sys
from typing import Any

import httpx2

httpx2.alias_httpx()

import httpx  # noqa: E402  what was to be shown
from groq import Groq  # noqa: E402

from tailrace.client import ResumingTransport  # noqa: E402


def main(url: str, cut: str) -> None:
    """Ask, and print."""
    transport: Any = ResumingTransport(base_seconds=0.001)
    http_client = httpx.Client(transport=transport)
    with Groq(base_url=url, api_key="none", http_client=http_client) as client:
        chunks = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "q"}], stream=True, extra_headers={"x-cut": cut}
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    sys.stdout.buffer.write(text.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
