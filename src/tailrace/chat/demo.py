"""The built-in source of the chat server: scripted answers that show what a run can do, with no model and no key.

Its one rule: it never pretends to be a model, and the same message gives the same events (but for the clock).
It knows neither HTTP nor the runtime: a message goes in, events come out.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from zlib import crc32

from tailrace.chat.calculator import CalculationError, calculate
from tailrace.chat.clock import CITIES, ZoneNotFoundError, find_zone
from tailrace.events import (
    Event,
    Progress,
    ReasoningDelta,
    ReasoningDone,
    Status,
    Suggestions,
    TextDelta,
    Thought,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    UIAction,
    Usage,
    encode,
)

__all__ = ["MODEL_NAME", "PROMPTS", "demo", "words"]

MODEL_NAME = "tailrace-demo (scripted, not an LLM)"

#: Messages worth trying, for a start page.
PROMPTS = (
    "hello",
    "stream a long answer",
    "What is 17% of 2,340?",
    "What time is it in Tokyo?",
    "What is 2+2 and what time is it in Paris?",
    "think about rivers",
    "switch to dark",
    "fail half-way",
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def demo(
    message: str, *, pace: float = 1.0, now: Callable[[], datetime] = _utc_now
) -> AsyncGenerator[Event, None]:
    """Answer `message` as an agent would; the terminal event is left to the runtime.

    After the answer come one `Usage` (a word counts as a token) and one `Suggestions`. Asked to fail, it raises a
    RuntimeError whose text looks like a secret: nobody but the server's log may see it.

    Args:
        message: What the user wrote.
        pace: Factor on every wait. At 1 a word takes 25 to 40 ms; at 0 nothing waits, but the event loop is let in
            between any two events.
        now: The present, with a time zone.
    """
    # A lone surrogate, legal in a Python str, has no UTF-8 form and could not be put into an event.
    text = message.encode(errors="surrogatepass").decode(errors="replace")
    output_tokens, seed, wait_ms = 0, 0, 0
    async with aclosing(_script_for(text)(_Question(text, now))) as events:
        async for event in events:
            await asyncio.sleep(pace * wait_ms / 1000)
            yield event
            output_tokens += isinstance(event, _SPOKEN)
            seed = crc32(encode(event), seed)
            wait_ms = _wait_ms(event, seed)
    yield Usage(
        provider="demo",
        model=MODEL_NAME,
        input_tokens=len(text.split()),
        output_tokens=output_tokens,
        estimated=True,
    )
    yield Suggestions(_next_prompts(text))


def words(text: str) -> list[str]:
    """`text` in pieces of one word each with the white space before it; joined again they are exactly `text`."""
    return re.findall(r"\s*\S+|\s+", text)


# Pace ----------------------------------------------------------------------------------------------------------------

_SPOKEN = (TextDelta, ReasoningDelta)
# The shortest and the longest wait after an event, in milliseconds; after any other there is none.
_WAITS_MS: dict[type, tuple[int, int]] = {
    TextDelta: (25, 40),
    ReasoningDelta: (25, 40),
    Status: (200, 300),
    Thought: (300, 500),
    ToolStarted: (100, 200),
    ToolArgsDelta: (10, 20),
    ToolReady: (300, 500),
    ToolOutput: (150, 250),
    ToolError: (150, 250),
    Progress: (2000, 2000),
}


def _wait_ms(event: Event, seed: int) -> int:
    shortest, longest = _WAITS_MS.get(type(event), (0, 0))
    return shortest + seed % (longest - shortest + 1)


def _next_prompts(text: str) -> list[str]:
    after = PROMPTS.index(text) + 1 if text in PROMPTS else 0
    return [PROMPTS[index % len(PROMPTS)] for index in range(after, after + 3)]


# Scripts -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    now: Callable[[], datetime]


_Script = Callable[[_Question], AsyncGenerator[Event, None]]
_log = logging.getLogger(__name__)


def _say(text: str) -> Iterator[TextDelta]:
    return map(TextDelta, words(text))


async def _greet(_: _Question) -> AsyncGenerator[Event, None]:
    for event in _say(_GREETING):
        yield event


async def _explain(_: _Question) -> AsyncGenerator[Event, None]:
    for event in _say(_NOT_UNDERSTOOD):
        yield event


async def _write_long(_: _Question) -> AsyncGenerator[Event, None]:
    yield Status("Writing a long answer", state="writing")
    yield Thought("Follow the water from the spring to the turbine", step=1, total=2)
    yield Thought("Then tell where it goes", step=2, total=2)
    for event in _say(_ESSAY):
        yield event


async def _think(_: _Question) -> AsyncGenerator[Event, None]:
    for piece in words(_REASONING):
        yield ReasoningDelta(piece)
    yield ReasoningDone()
    for event in _say(_CONCLUSION):
        yield event


async def _switch_theme(question: _Question) -> AsyncGenerator[Event, None]:
    theme = re.findall("dark|light", question.text.casefold())[-1]
    yield UIAction({"type": "change_theme", "value": theme})
    for event in _say(f"I asked the page for its {theme} theme."):
        yield event


async def _fail(_: _Question) -> AsyncGenerator[Event, None]:
    for event in _say(_CUT_SHORT):
        yield event
    raise RuntimeError("demo failure: password=hunter2")


async def _dawdle(_: _Question) -> AsyncGenerator[Event, None]:
    for event in _say("This takes a while: reload the page, or open it twice."):
        yield event
    yield Status("Waiting", state="waiting")
    for tenth in range(1, 11):
        yield Progress(id="slow", value=tenth / 10, label=f"Part {tenth} of 10")
    yield Status("Done waiting", state="writing")
    for event in _say("\n\nThat was all; nothing was lost on the way."):
        yield event


async def _never_end(_: _Question) -> AsyncGenerator[Event, None]:
    try:
        for word in cycle(words(_REFRAIN)):
            yield TextDelta(word)
    finally:
        _log.info("the endless answer was stopped")


# Tools ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    event: ToolOutput | ToolError
    sentence: str


@dataclass(frozen=True, slots=True)
class _Tool:
    name: str
    parameter: str
    run: Callable[[str, datetime], _Outcome]


@dataclass(frozen=True, slots=True)
class _Call:
    tool: _Tool
    argument: str


async def _use_tools(question: _Question) -> AsyncGenerator[Event, None]:
    clauses = _clauses(question.text)
    calls = _calls(question.text)
    sentences: list[str] = []
    for step, call in enumerate(calls, start=1):
        yield Thought(f"Ask the {call.tool.name}: {call.argument}", step=step, total=len(calls))
        for event in _write_call(call):
            yield event
        # The clock reads files.
        outcome = await asyncio.to_thread(call.tool.run, call.argument, question.now())
        yield outcome.event
        sentences.append(outcome.sentence)
    if len(calls) < len(clauses):
        sentences.append("The rest of the question I did not understand.")
    for event in _say(" ".join(sentences)):
        yield event


def _write_call(call: _Call) -> Iterator[Event]:
    arguments = {call.tool.parameter: call.argument}
    yield ToolStarted(name=call.tool.name)
    for piece in re.findall(r".{1,12}", json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))):
        yield ToolArgsDelta(delta=piece)
    yield ToolReady(name=call.tool.name, input=arguments)


def _run_calculator(expression: str, _: datetime) -> _Outcome:
    try:
        result = calculate(expression)
    except CalculationError as error:
        return _refused("calculator", error)
    return _Outcome(ToolOutput(output={"result": result}), f"`{expression}` = **{result}**.")


def _run_clock(city: str, now: datetime) -> _Outcome:
    try:
        time = now.astimezone(find_zone(city))
    except ZoneNotFoundError as error:
        return _refused("clock", error)
    output = {"city": city, "time_zone": str(time.tzinfo), "time": time.isoformat(timespec="seconds")}
    day = f"{time:%A}, {time.day} {time:%B %Y}"
    return _Outcome(ToolOutput(output=output), f"In {city} it is **{time:%H:%M}** on {day} ({time.tzinfo}).")


def _refused(name: str, error: CalculationError | ZoneNotFoundError) -> _Outcome:
    event = ToolError(code=error.code, message=str(error), phase="execution")
    return _Outcome(event, f"The {name} has no answer. {error}")


_CALCULATOR = _Tool("calculator", "expression", _run_calculator)
_CLOCK = _Tool("clock", "city", _run_clock)


def _calls(text: str) -> list[_Call]:
    return [call for clause in _clauses(text) if (call := _read(clause))]


def _clauses(text: str) -> list[str]:
    parts = (_CLAUSE_TAIL.sub("", part).strip() for part in _CLAUSE_END.split(text))
    return [part for part in parts if part]


def _read(clause: str) -> _Call | None:
    matches = ((pattern.search(clause), tool) for pattern, tool in _TOOL_QUESTIONS)
    return next((_Call(tool, match[1] or "UTC") for match, tool in matches if match), None)


def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE)


_CLAUSE_END = _pattern(r"\s+and\s+|[?;\n]|,\s+(?=what|how|calculate)")
_CLAUSE_TAIL = _pattern(r"(?:[\s.,=]|\b(?:please|thanks|right|now|today)\b)+$")
_OPERATORS = r"-+*/%^\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}\N{MINUS SIGN}"
_IS_SUM = rf"(?=.*\d)(?=.*[{_OPERATORS}])"
_IS = r"(?:['\u2019]?s|\s+is)"
_PLACE = r"([^\W\d_][\w .'\u2019-]*)"
# How a clause asks for a tool; the one group is the argument, an empty one for the clock means UTC.
_TOOL_QUESTIONS: tuple[tuple[re.Pattern[str], _Tool], ...] = (
    (_pattern(r"\b(?:calculate|compute|evaluate)\s+(.+)"), _CALCULATOR),
    (_pattern(rf"\b(?:what{_IS}|how\s+much\s+is)\s+{_IS_SUM}([{_OPERATORS}(\[.\d\"'].*)"), _CALCULATOR),
    (_pattern(rf"^{_IS_SUM}((?:[{_OPERATORS}().,\d\s]|\bof\b)+)$"), _CALCULATOR),
    (_pattern(rf"\btime\s+(?:is\s+it\s+|right\s+|now\s+)*in\s+{_PLACE}"), _CLOCK),
    (_pattern(rf"\bwhat(?:\s+time\s+is\s+it|{_IS}\s+the\s+time)()$"), _CLOCK),
    (_pattern(rf"^(?:in\s+)?({'|'.join(CITIES)})$"), _CLOCK),
)


# Texts ---------------------------------------------------------------------------------------------------------------

_PROMPT_LIST = "\n".join(f"- {prompt}" for prompt in PROMPTS)

_GREETING = f"""\
Hello! I am {MODEL_NAME}: every answer here is written in advance, or worked out by a small tool. \
Try one of these:

{_PROMPT_LIST}

While an answer runs, reload the page, open it in a second tab or cut the network: it goes on where you left it."""

_NOT_UNDERSTOOD = f"""\
I did not understand that. I am {MODEL_NAME}, and I know a few questions only:

{_PROMPT_LIST}

Two more keep a run open: `slow` takes twenty seconds, and `forever` ends when you press stop."""

_REASONING = """\
The question is about rivers. A river does not wait for those who watch it: it flows whether anyone stands on the \
bank or not. Who comes back later wants to see what went by as well, so somebody has to write it down."""

_CONCLUSION = """\
A river can be watched from any bank, and leaving the bank does not stop it. A run should be the same: the answer \
flows on, and its log remembers every drop."""

_CUT_SHORT = """\
This answer starts like any other. A few words arrive, then some more, and nothing tells you yet that the script \
behind it is about to break in the very middle of a"""

_REFRAIN = """\
The river does not stop at the bridge, nor at the mill, nor at the sea; it comes back as rain and begins again.

"""

_ESSAY = """\
## Where the water goes

A river is older than anything built beside it. It begins as a wet place in the grass, finds a slope, and from then on \
it has only one idea: down. On the way it picks up other streams, loses its temper in a gorge, and calms down again in \
the plain.

People noticed early that this idea could be borrowed. Put a wheel into the current and the river will grind your \
corn; put a turbine under a dam and it will light your town. Nothing is taken from the water but its hurry.

The borrowing has four stations:

- **The head race** leads the water away from the river, almost level, so that it keeps its height.
- **The penstock** lets it fall through a steep pipe, and the height becomes pressure.
- **The turbine** turns the pressure into rotation, and the rotation into work.
- **The tail race** carries the water back to the river.

Nobody paints the tail race. It is a plain channel behind the machine, and the water in it has already done what it \
was wanted for. Yet every miller knows that it decides how well the wheel runs. If the channel is too narrow, the \
water backs up, the wheel wades in its own waste, and the best turbine in the world slows down. The work is finished \
only when what came out of it has somewhere to go.

A program that writes words has the same problem. Making them is the loud part, and all eyes are on it. But between \
the machine and the reader lies a channel: it must be wide enough, it must not leak, and it must still be there when \
the reader looks away for a moment and comes back. If it is built well, nobody will ever mention it.

That is the whole ambition of a good tail race: to be forgotten, and to lose nothing."""


# Intents -------------------------------------------------------------------------------------------------------------

# What a message asks for; the first row that finds something wins.
_INTENTS: tuple[tuple[Callable[[str], object], _Script], ...] = (
    (_pattern(r"^\W*fail\b|\bfail\s+half").search, _fail),
    (_pattern(r"^\W*forever\b").search, _never_end),
    (_pattern(r"^\W*slow(?:ly)?\b").search, _dawdle),
    (_pattern(r"\blong\s+(?:answer|text|essay|story)\b").search, _write_long),
    (
        _pattern(r"\b(?:switch|change|go|set|turn|use)\b[^.?!]{0,40}\b(?:dark|light)(?:\s+\w+)?\W*$").search,
        _switch_theme,
    ),
    (_calls, _use_tools),
    (_pattern(r"^\W*think\b|\bthink\s+(?:about|hard|first)\b").search, _think),
    (_pattern(r"^\W*(?:hi|hello|hey|good\s+(?:morning|afternoon|evening))\b").search, _greet),
)
# A longer message asks for nothing in the table, and some patterns need the square of its length.
_READ_CHARACTERS = 500


def _script_for(text: str) -> _Script:
    if len(text) > _READ_CHARACTERS:
        return _explain
    return next((script for finds, script in _INTENTS if finds(text)), _explain)
