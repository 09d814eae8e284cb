"""The demo's wits: what a message asks for, found by patterns, and the answer put together from what tools returned.

Its one rule: it never pretends to be a model. It is pure: the same message gives the same plan, and the same results
the same answer.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from tailrace.chat.agent import texts
from tailrace.chat.agent.tools.clock import CITIES

__all__ = ["Call", "Plan", "Result", "next_prompts", "plan"]

Input: TypeAlias = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, and why."""

    tool: str
    arguments: Input
    thought: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave, or the sentence that it has no answer."""

    call: Call
    output: Any
    failed: bool = False


_Answer: TypeAlias = Callable[[Sequence[Result]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for a message, in this order.

    Attributes:
        status: The line that is shown meanwhile.
        thoughts: Of people's kind, not a model's.
        reasoning: Of a model's kind.
        opening: Said before the calls.
        calls: All at once.
        answer: What is said when all calls are over.
        ending: What comes after that: the end, an exception, or the same again and again.
    """

    status: str = ""
    thoughts: Sequence[str] = ()
    reasoning: str = ""
    opening: str = ""
    calls: Sequence[Call] = ()
    answer: _Answer = field(default=lambda _: texts.NOT_UNDERSTOOD)
    ending: Literal["done", "failure", "never"] = "done"


def plan(message: str) -> Plan:
    """What the message asks for; of one that asks for nothing known here, that is said."""
    # A longer message asks for nothing in the table, and some patterns need the square of its length.
    text = message if len(message) <= _READ_CHARACTERS else ""
    made = (make(text) for make in _INTENTS)
    return next((found for found in made if found is not None), Plan())


def next_prompts(message: str) -> list[str]:
    """Three prompts to go on with."""
    prompts = texts.PROMPTS
    after = prompts.index(message) + 1 if message in prompts else 0
    return [prompts[index % len(prompts)] for index in range(after, after + 3)]


def _say(text: str) -> _Answer:
    return lambda _: text


def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE)


def _when(expression: str, found: Plan) -> Callable[[str], Plan | None]:
    """A plan that is always the same."""
    search = _pattern(expression).search
    return lambda text: found if search(text) else None


# Tools ---------------------------------------------------------------------------------------------------------------


def _switch_theme(text: str) -> Plan | None:
    if not _SWITCH.search(text):
        return None
    theme = re.findall("dark|light", text.casefold())[-1]
    call = Call("set_theme", {"theme": theme}, f"Ask the page for its {theme} colours")
    return Plan(calls=[call], answer=_say(f"I asked the page for its {theme} theme."))


def _use_tools(text: str) -> Plan | None:
    clauses = list(_clauses(text))
    calls = [call for clause in clauses if (call := _read(clause))]
    if not calls:
        return None
    rest = [] if len(calls) == len(clauses) else ["The rest of the question I did not understand."]
    thoughts = [call.thought for call in calls]
    return Plan(
        thoughts=thoughts,
        calls=calls,
        answer=lambda results: " ".join([*map(_sentence, results), *rest]),
    )


def _clauses(text: str) -> Iterator[str]:
    for part in _CLAUSE_END.split(text):
        if clause := _CLAUSE_TAIL.sub("", part).strip():
            yield clause


def _read(clause: str) -> Call | None:
    for pattern, tool, parameter in _TOOL_QUESTIONS:
        if match := pattern.search(clause):
            argument = match[1] or "UTC"
            return Call(tool, {parameter: argument}, f"Ask the {_SPOKEN_NAMES.get(tool, tool)}: {argument}")
    return None


def _search(text: str) -> Plan | None:
    if not _DOCS_QUESTION.search(text):
        return None
    call = Call("search_docs", {"query": text.strip()}, "Look it up in the documentation")
    return Plan(
        thoughts=[call.thought],
        reasoning="This is about tailrace itself. Its documentation knows more than I do, so I look there first.",
        calls=[call],
        answer=lambda results: _sentence(results[0]),
    )


def _sentence(result: Result) -> str:
    if result.failed:
        tool = result.call.tool
        return f"The {_SPOKEN_NAMES.get(tool, tool)} has no answer. {result.output}"
    return _SENTENCES[result.call.tool](result.call.arguments, result.output)


def _tell_time(_: Input, output: Any) -> str:  # noqa: ANN401  a tool's JSON
    time = datetime.fromisoformat(output["time"])
    day = f"{time:%A}, {time.day} {time:%B %Y}"
    return f"In {output['city']} it is **{time:%H:%M}** on {day} ({output['time_zone']})."


def _tell_weather(_: Input, output: Any) -> str:  # noqa: ANN401  a tool's JSON
    return (
        f"In {output['city']}: **{output['temperature_celsius']} °C**, {output['sky']}, "
        f"wind {output['wind_kmh']} km/h. ({output['label']})"
    )


def _tell_docs(_: Input, output: Any) -> str:  # noqa: ANN401  a tool's JSON
    if not output["results"]:
        return f"The documentation says nothing about that.\n\n{texts.NOT_UNDERSTOOD}"
    best, *others = output["results"]
    excerpt = best["text"][:_EXCERPT_CHARACTERS].rpartition("\n\n")[0] or best["text"][:_EXCERPT_CHARACTERS]
    more = "".join(f"\n- {other['title']} (`docs/{other['page']}`)" for other in others)
    see = f"\n\nSee also:\n{more}" if more else ""
    return f"The documentation says, under **{best['title']}** (`docs/{best['page']}`):\n\n{excerpt}{see}"


_SENTENCES: dict[str, Callable[[Input, Any], str]] = {
    "calculator": lambda asked, output: f"`{asked['expression']}` = **{output['result']}**.",
    "clock": _tell_time,
    "get_weather": _tell_weather,
    "search_docs": _tell_docs,
}
_SPOKEN_NAMES = {"get_weather": "weather service", "search_docs": "documentation"}
_EXCERPT_CHARACTERS = 700

_SWITCH = _pattern(r"\b(?:switch|change|go|set|turn|use)\b[^.?!]{0,40}\b(?:dark|light)(?:\s+\w+)?\W*$")
_DOCS_QUESTION = _pattern(
    r"\bhow\s+(?:do|does|can|could|should|to)\b|\b(?:docs?|documentation)\b"
    r"|\bwhat(?:['\u2019]?s|\s+is|\s+are)\s+(?:an?\s+|the\s+)?(?:\w+\s+)?(?:runs?|dialects?|followers?|tailrace|heartbeats?)\W*$"
)
_CLAUSE_END = _pattern(r"\s+and\s+|[?;\n]|,\s+(?=what|how|calculate)")
_CLAUSE_TAIL = _pattern(r"(?:[\s.,=]|\b(?:please|thanks|right|now|today)\b)+$")
_OPERATORS = r"-+*/%^\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}\N{MINUS SIGN}"
_IS_SUM = rf"(?=.*\d)(?=.*[{_OPERATORS}])"
_IS = r"(?:['\u2019]?s|\s+is)"
_PLACE = r"([^\W\d_][\w .'\u2019-]*)"
# How a clause asks for a tool; the one group is the argument, an empty one for the clock means UTC.
_TOOL_QUESTIONS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (_pattern(r"\b(?:calculate|compute|evaluate)\s+(.+)"), "calculator", "expression"),
    (_pattern(rf"\b(?:what{_IS}|how\s+much\s+is)\s+{_IS_SUM}([{_OPERATORS}(\[.\d\"'].*)"), "calculator", "expression"),
    (_pattern(rf"^{_IS_SUM}((?:[{_OPERATORS}().,\d\s]|\bof\b)+)$"), "calculator", "expression"),
    (_pattern(rf"\btime\s+(?:is\s+it\s+|right\s+|now\s+)*in\s+{_PLACE}"), "clock", "city"),
    (_pattern(rf"\bwhat(?:\s+time\s+is\s+it|{_IS}\s+the\s+time)()$"), "clock", "city"),
    (_pattern(rf"\bweather\s+(?:like\s+|right\s+|now\s+)*(?:in|for)\s+{_PLACE}"), "get_weather", "city"),
    (_pattern(rf"^(?:in\s+)?({'|'.join(CITIES)})$"), "clock", "city"),
)


# Intents -------------------------------------------------------------------------------------------------------------

_READ_CHARACTERS = 500

_LONG_JOB = Call("long_job", {"parts": 10}, "Do nothing useful, slowly")

# What a message may ask for; the first that finds something in it wins.
_INTENTS: tuple[Callable[[str], Plan | None], ...] = (
    _when(r"^\W*fail\b|\bfail\s+half", Plan(answer=_say(texts.CUT_SHORT), ending="failure")),
    _when(r"^\W*forever\b", Plan(answer=_say(texts.REFRAIN), ending="never")),
    _when(
        r"^\W*slow(?:ly)?\b",
        Plan(
            opening=texts.TAKES_A_WHILE,
            calls=[_LONG_JOB],
            answer=_say("\n\nThat was all; nothing was lost on the way."),
        ),
    ),
    _when(
        r"\blong\s+(?:answer|text|essay|story)\b",
        Plan(
            status="Writing a long answer",
            thoughts=["Follow the water from the spring to the turbine", "Then tell where it goes"],
            answer=_say(texts.ESSAY),
        ),
    ),
    _switch_theme,
    _use_tools,
    _when(
        r"^\W*think\b|\bthink\s+(?:about|hard|first)\b", Plan(reasoning=texts.REASONING, answer=_say(texts.CONCLUSION))
    ),
    _when(r"^\W*(?:hi|hello|hey|good\s+(?:morning|afternoon|evening))\b", Plan(answer=_say(texts.GREETING))),
    _search,
)
