"""One turn of a chat, in whatever protocol it was asked for: admitted, written down, answered, and seen to its end.

All of it happens inside the source of the turn's run, thus only if a request starts that run: one that repeats an
idempotency key, or attaches, is neither counted nor written down again.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from tailrace import Tailrace, current_run
from tailrace.adapters.closing import close_sources
from tailrace.chat.agent.contract import ChatAgent, Question
from tailrace.chat.conversations.contract import NewTurn
from tailrace.chat.conversations.settling import Settler
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.contract import Identity
from tailrace.chat.limits.admission import Admission, Admissions
from tailrace.events import TERMINALS, Event, RunCompleted, Suggestions, Terminal, TextDelta
from tailrace.fold import Message

__all__ = ["AgentLike", "Ask", "CustomAgent", "Records", "Turns"]

_logger = logging.getLogger("tailrace")

#: Takes the user's message, returns a source: an (async) generator function, or anything `Tailrace.stream` takes.
AgentLike: TypeAlias = Callable[[str], Any]

_SUGGESTIONS = 3
#: What is ready when the answer ends comes with it, in any dialect; nobody waits for it.
_READY_SECONDS = 0.02
#: Suggestions that come later than this help nobody.
_LATE_SECONDS = 15.0
#: Longer than an agent's own patience with its provider.
_CLOSE_SECONDS = 4.0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for.

    Attributes:
        identity: Who asks.
        text: The user's message; empty if an earlier one is answered anew, or an answer goes on.
        conversation_id: The conversation; without one nothing is written down.
        message_id: The client's id of the user's message.
        after: See `NewTurn`.
        continues: Likewise; then there is no text.
        history: The messages before, oldest first, as the client has them; `None` if it leaves that to the server.
        branch_id: See `Question`.
        client_tools: See `Question`.
        suggestion_seconds: How long the end of the run may wait for suggestions.
    """

    identity: Identity
    text: str
    conversation_id: str | None = None
    message_id: str | None = None
    after: Sequence[str] | None = None
    continues: Message | None = None
    history: Sequence[Message] | None = None
    branch_id: str | None = None
    client_tools: Sequence[dict[str, Any]] = ()
    suggestion_seconds: float = 0.0


class CustomAgent:
    """An application's own agent, asked with the user's message alone; it suggests nothing."""

    def __init__(self, agent: AgentLike) -> None:
        """Take the agent."""
        self._agent = agent

    def answer(self, question: Question) -> Any:  # noqa: ANN401  any source
        """Whatever the agent returns."""
        return self._agent(question.text)


class Records(NamedTuple):
    """Where turns are written down, and who finishes them."""

    conversations: Conversations
    settler: Settler


class Turns:
    """Makes the sources of turns. The tasks that see them to their end belong to it; `aclose` ends these."""

    def __init__(
        self,
        tail: Tailrace,
        agent: ChatAgent | CustomAgent,
        *,
        model: str | None = None,
        records: Records | None = None,
        limits: Admissions | None = None,
        suggests: bool = True,
    ) -> None:
        """Bring the parts together.

        Args:
            tail: The runs.
            agent: Answers.
            model: What answers, as conversations name it.
            records: Where turns are written down, if they are.
            limits: Who may start how much, if there is a limit.
            suggests: Whether the agent is asked what else to ask.
        """
        self._tail = tail
        self._agent = agent
        self._model = model
        self._records = records
        self._limits = limits
        self._suggests = suggests
        self._tasks: set[asyncio.Task[None]] = set()

    def source(self, ask: Ask) -> Callable[[], Awaitable[object]]:
        """The source of one turn's run, to be given to `Tailrace.stream`."""
        return lambda: self._begin(ask)

    async def aclose(self) -> None:
        """Give up what is still waited for. The runs have ended, and their rows are finished."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self, ask: Ask) -> object:
        """The answer's own source, once the turn is admitted and written down.

        Raises:
            RefusedError: It is not admitted.
            CancelledError: The run was told to stop.
        """
        run_id = current_run().run_id
        admission = None if self._limits is None else await self._limits.admit(ask.identity)
        try:
            question = await self._written(ask)
        except asyncio.CancelledError:
            # It may stand there all the same: what was cancelled is the waiting.
            self._own(self._see_to_end(run_id, admission))
            raise
        except BaseException:
            await _release(admission)
            raise
        self._own(self._see_to_end(run_id, admission))
        if isinstance(self._agent, CustomAgent):
            return self._agent.answer(question)
        return self._answer(self._agent, question, ask.suggestion_seconds, admission)

    async def _written(self, ask: Ask) -> Question:
        """The question, with what the conversation knows; its rows are written.

        Raises:
            RefusedError: It cannot be asked there.
        """
        text, history = ask.text, ask.history
        if self._records is not None and ask.conversation_id is not None:
            run = current_run()
            # The answer before has been read, but its row may not be finished yet.
            await self._records.settler.catch_up(ask.identity.owner, ask.conversation_id)
            begun = await self._records.conversations.begin(
                NewTurn(
                    identity=ask.identity,
                    conversation_id=ask.conversation_id,
                    text=ask.text,
                    run_id=run.run_id,
                    answer_id=run.message_id,
                    message_id=ask.message_id,
                    after=ask.after,
                    continues=ask.continues,
                    model=self._model,
                )
            )
            text = begun.text
            history = begun.history if history is None else history
        return Question(
            text=text,
            history=history or (),
            identity=ask.identity,
            conversation_id=ask.conversation_id,
            branch_id=ask.branch_id,
            client_tools=ask.client_tools,
        )

    async def _see_to_end(self, run_id: str, admission: Admission | None) -> None:
        """Finish the turn's rows and give its place back when its run has ended."""
        watch = None if self._records is None else self._records.settler.watch(run_id)
        try:
            if (live := self._tail.live(run_id)) is not None:
                await live.ended()
        finally:
            await _release(admission)
        if watch is not None:
            await asyncio.shield(watch)

    async def _answer(
        self, agent: ChatAgent, question: Question, wait_seconds: float, admission: Admission | None
    ) -> AsyncGenerator[Event | str]:
        """The answer; then suggestions, as far as they are there in time; then the end."""
        pieces: list[str] = []
        terminal: Terminal | None = None
        try:
            async with _closing(agent.answer(question)) as events:
                async for event in events:
                    if isinstance(event, TERMINALS):
                        terminal = event
                        break
                    if isinstance(event, TextDelta | str):
                        pieces.append(event if isinstance(event, str) else event.delta)
                    yield event
        finally:
            # Before anybody can read the end, and ask for more.
            await _release(admission)
        if self._suggests and _invites_more(terminal) and (answer := "".join(pieces)):
            items = await self._suggested(agent, question, answer, wait_seconds)
            if items:
                yield Suggestions(list(items))
        if terminal is not None:
            yield terminal

    async def _suggested(self, agent: ChatAgent, question: Question, answer: str, wait_seconds: float) -> Sequence[str]:
        """Suggestions that are there in time; later ones are written down beside the answer.

        Raises:
            CancelledError: The run was told to stop.
        """
        task = asyncio.create_task(_suggestions(agent, question, answer), name="tailrace-suggestions")
        try:
            await asyncio.wait({task}, timeout=max(_READY_SECONDS, wait_seconds))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            return task.result()
        self._own(self._write_late(task, current_run().run_id))
        return ()

    async def _write_late(self, task: asyncio.Task[Sequence[str]], run_id: str) -> None:
        try:
            items = await task
        finally:
            task.cancel()
        if items and self._records is not None:
            await self._records.conversations.add_suggestions(run_id, items)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        # Not a part of the run: what it says is no event of the run's, and it outlives the source.
        task = asyncio.create_task(work, name="tailrace-turn", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a turn could not be finished; its row is finished when it is read", exc_info=error)


async def _release(admission: Admission | None) -> None:
    if admission is not None:
        await admission.release()


async def _suggestions(agent: ChatAgent, question: Question, answer: str) -> Sequence[str]:
    """What the agent suggests; nothing if it fails or takes too long, which is no reason to fail the answer."""
    try:
        async with asyncio.timeout(_LATE_SECONDS):
            return (await agent.suggest(question, answer))[:_SUGGESTIONS]
    except Exception:
        _logger.exception("no suggestions")
        return ()


def _invites_more(terminal: Terminal | None) -> bool:
    """Whether the answer is complete, and the user's turn is next."""
    return terminal is None or (isinstance(terminal, RunCompleted) and terminal.finish_reason != "tool_calls")


@contextlib.asynccontextmanager
async def _closing(events: AsyncIterator[Event | str]) -> AsyncGenerator[AsyncIterator[Event | str]]:
    try:
        yield events
    finally:
        await close_sources([events], _CLOSE_SECONDS)
