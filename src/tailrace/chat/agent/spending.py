"""What a run has used where no provider tells: providers count last, and an answer that was stopped has no last.

Four characters count as a token, as they roughly are in English; too much for some texts and too little for others, but
somebody who stops every answer just before its end must not have it for nothing.
"""

import msgspec

from tailrace.events import DELTAS, Event, ToolError, ToolOutput, Usage

__all__ = ["Spending"]

_TOKEN_CHARACTERS = 4


class Spending:
    """Counts along with one run."""

    def __init__(self, *, prompt_characters: int, provider: str, model: str) -> None:
        """Nothing was said yet.

        Args:
            prompt_characters: What each request to the model begins with.
            provider: Whose model it is.
            model: Its name.
        """
        self._prompt_characters = prompt_characters
        self._provider = provider
        self._model = model
        self._sent = 0
        self._written = 0
        self._answering = False
        self._told = False

    def add(self, event: Event) -> None:
        """Count an event of the run."""
        match event:
            case Usage():
                self._told = True
            case ToolOutput() | ToolError():
                self._answering = False
            case _ if isinstance(event, DELTAS):
                self._written += len(event.delta)
                if not self._answering:
                    # The first words of an answer: the model was asked, with all that was said before.
                    self._answering = True
                    self._sent += self._prompt_characters + self._written
            case _:
                pass

    def corrected(self, usage: Usage) -> Usage:
        """A provider's count of an answer that broke off, which may be from before most of it was written."""
        if not usage.estimated:
            return usage
        return msgspec.structs.replace(usage, output_tokens=max(usage.output_tokens or 0, self.output_tokens))

    def missing(self) -> Usage | None:
        """The count of a run that ends without one; `None` if one was told, this one too, or nothing was said."""
        if self._told or not self._sent:
            return None
        self._told = True
        return Usage(
            input_tokens=-(-self._sent // _TOKEN_CHARACTERS),
            output_tokens=self.output_tokens,
            provider=self._provider,
            model=self._model,
            estimated=True,
        )

    @property
    def output_tokens(self) -> int:
        """Written so far."""
        return -(-self._written // _TOKEN_CHARACTERS)
