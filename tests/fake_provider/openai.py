"""What the two protocols of OpenAI share: when they were made, and how they refuse.

Source: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Mapping

from tests.fake_provider.contract import EventStreamProtocol, JsonObject

__all__ = ["CREATED", "OpenAiProtocol"]

#: The second in which every answer is made.
CREATED = 1_760_000_000

#: Type and code by status.
_REFUSALS: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


class OpenAiProtocol(EventStreamProtocol):
    """A protocol with the refusals of OpenAI."""

    def refusal(self, status: int, reason: str) -> JsonObject:
        """The body of an answer with an error status."""
        kind, code = _REFUSALS.get(status, ("server_error", None))
        return {"error": {"message": reason, "type": kind, "param": None, "code": code}}
