"""What nobody counted is estimated, once; what somebody counted is left alone."""

from tailrace.chat.agent.spending import Spending
from tailrace.events import ReasoningDelta, TextDelta, ToolArgsDelta, ToolOutput, Usage


def spending() -> Spending:
    return Spending(prompt_characters=400, provider="openai", model="gpt-x")


def test_an_answer_that_was_stopped_costs_its_prompt_and_its_words() -> None:
    counted = spending()

    for event in (ReasoningDelta("12345678"), TextDelta("1234")):
        counted.add(event)

    assert counted.missing() == Usage(
        input_tokens=102, output_tokens=3, provider="openai", model="gpt-x", estimated=True
    )
    assert counted.missing() is None


def test_each_round_of_tools_costs_the_prompt_again() -> None:
    counted = spending()

    for event in (ToolArgsDelta("{}"), ToolOutput(output=1), TextDelta("12")):
        counted.add(event)

    usage = counted.missing()
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (202, 1)


def test_what_said_nothing_cost_nothing() -> None:
    assert spending().missing() is None


def test_a_count_of_the_provider_is_not_doubted() -> None:
    counted = spending()
    told = Usage(input_tokens=1, output_tokens=1, provider="openai", model="gpt-x")

    counted.add(TextDelta("x" * 400))
    counted.add(told)

    assert counted.corrected(told) is told
    assert counted.missing() is None


def test_a_count_of_an_answer_that_broke_off_has_at_least_its_words() -> None:
    counted = spending()

    counted.add(TextDelta("x" * 400))

    assert counted.corrected(Usage(input_tokens=7, output_tokens=1, estimated=True)) == Usage(
        input_tokens=7, output_tokens=100, estimated=True
    )
