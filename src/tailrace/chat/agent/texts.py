"""What the demo says, where it does not work anything out."""

__all__ = [
    "CONCLUSION",
    "CUT_SHORT",
    "ESSAY",
    "GREETING",
    "MODEL_NAME",
    "NOT_UNDERSTOOD",
    "PROMPTS",
    "REASONING",
    "REFRAIN",
    "TAKES_A_WHILE",
]

MODEL_NAME = "tailrace-demo (scripted, not an LLM)"

#: Messages worth trying, for a start page.
PROMPTS = (
    "hello",
    "stream a long answer",
    "What is 17% of 2,340?",
    "What time is it in Tokyo?",
    "What is 2+2 and what time is it in Paris?",
    "What is the weather in Paris?",
    "How do I stop a run?",
    "think about rivers",
    "switch to dark",
    "fail half-way",
)

_PROMPT_LIST = "\n".join(f"- {prompt}" for prompt in PROMPTS)

GREETING = f"""\
Hello! I am {MODEL_NAME}: every answer here is written in advance, or worked out by a small tool. \
Try one of these:

{_PROMPT_LIST}

While an answer runs, reload the page, open it in a second tab or cut the network: it goes on where you left it."""

NOT_UNDERSTOOD = f"""\
I did not understand that. I am {MODEL_NAME}, and I know a few questions only:

{_PROMPT_LIST}

Two more keep a run open: `slow` takes twenty seconds, and `forever` ends when you press stop."""

TAKES_A_WHILE = "This takes a while: reload the page, or open it twice."

REASONING = """\
The question is about rivers. A river does not wait for those who watch it: it flows whether anyone stands on the \
bank or not. Who comes back later wants to see what went by as well, so somebody has to write it down."""

CONCLUSION = """\
A river can be watched from any bank, and leaving the bank does not stop it. A run should be the same: the answer \
flows on, and its log remembers every drop."""

CUT_SHORT = """\
This answer starts like any other. A few words arrive, then some more, and nothing tells you yet that the script \
behind it is about to break in the very middle of a"""

REFRAIN = """\
The river does not stop at the bridge, nor at the mill, nor at the sea; it comes back as rain and begins again.

"""

ESSAY = """\
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
