"""Fifty conversations of two tenants at once, and a worker that is killed while it answers half of them."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tailrace.chat.conversations.wording import title_of
from tests.tenants.people import User
from tests.tenants.site import Site, Worker
from tests.tenants.talking import FORMS, Form, Talk

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.chaos]

USERS = 5
CONVERSATIONS = 5
RACERS = 30


def everybody(client: httpx2.AsyncClient, ann: User, rival: User) -> list[Talk]:
    """Users of the same names in both tenants, who call their conversations the same too."""
    return [
        Talk(client, User(tenant, f"user {name}"), f"conversation-{number}")
        for tenant in (ann.tenant, rival.tenant)
        for name in range(USERS)
        for number in range(CONVERSATIONS)
    ]


def secret(talk: Talk) -> str:
    """A word that nobody else says or hears."""
    return f"{talk.user.tenant}-{talk.user.name[-1]}-{talk.conversation_id[-1]}-wörd"


@pytest.mark.timeout(120)
async def test_a_killed_worker_loses_no_message_and_no_letter(
    site: Site,
    workers: list[Worker],
    ann: User,
    rival: User,
    client: httpx2.AsyncClient,
    record_property: Callable[[str, object], None],
) -> None:
    began_at = time.monotonic()
    talks = everybody(client, ann, rival)
    racers = [Talk(client, User(ann.tenant, f"racer {number}"), "race") for number in range(RACERS)]
    with site.worker() as victim:
        fleets = itertools.cycle([[workers[0], workers[1]], [victim, *workers]])
        forms = itertools.cycle(FORMS)
        places: list[tuple[Talk, list[Worker], Form]] = [(talk, next(fleets), next(forms)) for talk in talks]
        first = await asyncio.gather(*(t.say(f"Hello \n`{secret(t)}`", fleet, form) for t, fleet, form in places))

        held = [
            asyncio.create_task(talk.say(f"more from {secret(talk)} gate:kill the rest", fleet, form))
            for talk, fleet, form in places
        ]
        await asyncio.to_thread(site.gates.await_arrivals, "kill", len(talks))
        racing = [asyncio.create_task(racer.say("race me", [victim, *workers])) for racer in racers]
        # Now the others are anywhere between being read and being answered.
        await asyncio.wait(racing, return_when="FIRST_COMPLETED")
        victim.kill()
        killed_at = time.monotonic()
        site.gates.open("kill")
        second = await asyncio.gather(*held)
        raced = await asyncio.gather(*racing)
        ended_seconds = time.monotonic() - killed_at
    # Every conversation goes on, at a worker that may never have heard of it.
    third = await asyncio.gather(*(talk.say("and again", [workers[1]], form) for talk, _, form in places))

    assert {(heard.end, heard.text) for heard in first} == {
        ("completed", f"Hello! \n`{secret(talk)}`! ") for talk in talks
    }
    assert {(heard.end, heard.text) for heard in third} == {("completed", "and! again! ")}
    for (talk, fleet, form), heard in zip(places, second, strict=True):
        text = f"more! from! {secret(talk)}! "
        if fleet[0] is victim:
            assert heard.text == text, (form, heard)
            assert heard.failure == "worker_lost", (form, heard)
            assert heard.resumes, (form, heard)
        else:
            assert (heard.end, heard.text, heard.resumes) == ("completed", f"{text}the! rest! ", 0), form
    await asyncio.gather(*(assert_kept(talk, workers) for talk in talks))
    there = await asyncio.gather(*(is_kept(racer, workers[0]) for racer in racers))
    record_property("conversations", len(talks))
    record_property("turns", sum(len(talk.said) for talk in (*talks, *racers)))
    record_property("kills", 1)
    record_property("raced, and never there", there.count(False))
    record_property("resumes", sum(heard.resumes for heard in (*second, *raced)))
    record_property("seconds from the kill to the last end", ended_seconds)
    record_property("seconds", time.monotonic() - began_at)


async def assert_kept(talk: Talk, workers: list[Worker]) -> None:
    """What the user said stands there once, and each answer as its log has it, at every worker."""
    documents = [(await talk.get(worker, tree="1")).json() for worker in workers]
    document: dict[str, Any] = documents[0]
    messages: list[dict[str, Any]] = document["messages"]

    assert documents[1] == document
    assert [each["text"] for each in messages if each["role"] == "user"] == talk.said
    assert [each["role"] for each in messages] == ["user", "assistant"] * len(talk.said)
    assert document["title"] == title_of(talk.said[0])
    answers = messages[1::2]
    assert [each["run_id"] for each in answers] == [heard.run_id for heard in talk.heard]
    for answer, heard in zip(answers, talk.heard, strict=True):
        log = await talk.log(workers[0], heard.run_id)
        assert (answer["text"], answer["status"]) == (log.text, log.end)
        assert log.text == heard.text
        assert log.numbers == list(range(1, len(log.numbers) + 1))
        assert not heard.numbers or heard.numbers == log.numbers
        assert answer.get("failure", {}).get("code", "") == (heard.failure if log.end != "completed" else "")
    assert (await talk.get(workers[0])).json()["messages"] == messages


async def is_kept(talk: Talk, worker: Worker) -> bool:
    """Whether a question is there that the killed worker may have been about to write down; then it is there whole."""
    (heard,) = talk.heard
    response = await talk.get(worker)
    if response.status_code == 404:
        assert (heard.text, heard.failure) == ("", "worker_lost"), heard
        return False
    question, answer = response.json()["messages"]
    assert question["text"] == "race me"
    assert (answer["run_id"], answer["text"], answer["status"]) == (heard.run_id, heard.text, heard.end)
    return True
