"""A page of the chat server, as one file with a policy that allows what is in it and nothing else."""

import base64
import hashlib
import re

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Page"]


class Page:
    """A page with one inline script and one inline style, which its policy names by their hashes."""

    def __init__(self, html: str) -> None:
        """Read the page."""
        self._html = html
        policy = {
            "default-src": "'none'",
            "connect-src": "'self'",
            "img-src": "data:",
            "script-src": _hash_of(html, "script"),
            "style-src": _hash_of(html, "style"),
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        self._headers = {
            "cache-control": "no-cache",
            "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def show(self, _: Request) -> Response:
        """`GET`: the page."""
        return Response(self._html, 200, self._headers, media_type="text/html")


def _hash_of(html: str, tag: str) -> str:
    match = re.search(rf"<{tag}[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    text = match.group(1) if match else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
