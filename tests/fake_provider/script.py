"""The language of model names: which answer a request gets is told by the one thing every SDK passes on untouched.

`<what it says>[;key=value...]`, for example `text;n=200;delay=0.02` or `tools;rounds=2;fault=error;at=5`. What stands
before the last `/` of the first part is left out, for SDKs that want `provider/model`.
"""

from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

__all__ = ["FAULTS", "REFUSALS", "Fault", "Refusal", "Script", "parse_model"]

Refusal: TypeAlias = Literal["400", "401", "429", "500", "503", "529"]
Fault: TypeAlias = Literal["error", "close", "cut", "truncate", "stall", "garbage", "nodone", "empty"]

#: Answers with this status, before the stream begins.
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)

#: What goes wrong with a stream. `tests.fake_provider.faults` tells how.
FAULTS: tuple[Fault, ...] = get_args(Fault)

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model name asks for; the key is named where it differs.

    Attributes:
        says: `text`; `think`: half of it reasoning; `tools`: calls the tools it was offered, then text; `echo`: the
            words of the last user message.
        tokens: `n`. Of text, or of text and reasoning.
        rounds: Of tool calls, until the text.
        parallel: Calls in one round.
        fragment_chars: `frag`. Of the arguments, where the protocol sends them in pieces.
        args: For every call, url-encoded, in place of what would satisfy the schema.
        finish: Why the text ends.
        start_seconds: `start`. Until the first byte of the answer.
        delay_seconds: `delay`. After each token; then every event is written by itself.
        batch: Events in one write, if there is no delay.
        fault: One of `FAULTS` or `REFUSALS`; "" is none.
        at: Tokens before the fault, if there are that many: a fault comes before the end in any case.
        times: Only so many requests for this model name meet the fault; 0 is all of them.
        retry_after: `retry`. The header of a refusal.
        ping_seconds: `ping`. Between the keep-alives of a stall; 0 is silence.
    """

    says: Literal["text", "think", "tools", "echo"]
    tokens: _Count = msgspec.field(name="n", default=20)
    rounds: _Count = 1
    parallel: _Size = 1
    fragment_chars: _Size = msgspec.field(name="frag", default=8)
    args: str = ""
    finish: Literal["stop", "length", "content_filter"] = "stop"
    start_seconds: _Seconds = msgspec.field(name="start", default=0.0)
    delay_seconds: _Seconds = msgspec.field(name="delay", default=0.0)
    batch: _Size = 1
    fault: Fault | Refusal | Literal[""] = ""
    at: _Count = 5
    times: _Count = 0
    retry_after: str = msgspec.field(name="retry", default="")
    ping_seconds: _Seconds = msgspec.field(name="ping", default=0.0)


def parse_model(name: str) -> Script:
    """The script in a model name.

    Raises:
        msgspec.ValidationError: It has a word or a value that the language does not have.
    """
    says, *pairs = name.split(";")
    words = {"says": says.rpartition("/")[2]}
    for pair in pairs:
        key, _, words[key] = pair.partition("=")
    return msgspec.convert(words, Script, strict=False)
