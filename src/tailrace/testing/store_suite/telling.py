"""The promises about hints and signals."""

import asyncio

from tailrace.stores.contract import OPEN, Batch
from tailrace.testing.store_suite.calls import (
    DONE,
    STRANGE_TEXTS,
    Inbox,
    OpeningSuite,
    append,
    begin,
    follow_from,
    following,
    produce,
    signal,
)

__all__ = ["TellingSuite"]


class TellingSuite(OpeningSuite):
    """What comes by itself."""

    # Hints ---------------------------------------------------------------------------------------------------------

    async def test_a_hint_comes_for_records_and_for_a_cancel(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            hints = Inbox[Batch | None]()
            stop = store.subscribe("run", hints)

            for change in (append(store, lease, 1, b"a"), store.cancel("run", "user")):
                hints.items.clear()
                await change
                await hints.filled()

            stop()

    async def test_what_a_hint_carries_is_a_piece_of_the_log(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            hints = Inbox[Batch | None]()
            stop = store.subscribe("run", hints)

            log = await produce(store, lease, batches=20)

            await hints.filled()
            for batch in hints.items:
                if batch is not None:
                    end = batch.first - 1 + len(batch.records)
                    assert list(batch.records) == log[batch.first - 1 : end]
                    assert batch.state == (DONE if end == len(log) else OPEN)
            stop()

    async def test_followers_that_join_anywhere_get_the_same_log(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            async with asyncio.TaskGroup() as tasks:
                producing = tasks.create_task(produce(store, lease, batches=40))
                following = [tasks.create_task(follow_from(store, "run", place)) for place in range(0, 60, 6)]

            log = producing.result()
            assert [task.result() for task in following] == [log[place:] for place in range(0, 60, 6)]

    async def test_whoever_unsubscribed_gets_no_hint(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            gone, stays = Inbox[Batch | None](), Inbox[Batch | None]()
            stop, stop_other = store.subscribe("run", gone), store.subscribe("run", stays)
            stop()
            stop()

            await append(store, lease, 1, b"a")

            await stays.filled()
            assert gone.items == []
            stop_other()

    async def test_a_hint_is_for_one_run(self) -> None:
        async with self._open() as store:
            one, other = await begin(store, "one"), await begin(store, "other")
            hints = Inbox[Batch | None]()
            stop = store.subscribe("one", hints)

            await append(store, other, 1, b"other")
            await append(store, one, 1, b"one")

            await hints.filled()
            assert [list(batch.records) for batch in hints.items if batch is not None] in ([], [[b"one"]])
            stop()

    async def test_a_subscription_is_to_an_id_whatever_becomes_of_the_run(self) -> None:
        async with self._open() as store:
            hints = Inbox[Batch | None]()
            stop = store.subscribe("run", hints)

            lease = await begin(store)
            for _ in range(3):
                hints.items.clear()
                await append(store, lease, 1, b"a")
                await hints.filled()
                await store.purge("run")
                await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")

            stop()

    async def test_a_follower_gets_the_log_of_a_run_that_was_lost_meanwhile(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            async with following(store, "run", after=1) as followed:
                await store.purge("run")
                await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")
                await append(store, lease, 1, b"a", b"b")
                await append(store, lease, 3, b"end", final=DONE)

                assert await followed == [b"b", b"end"]

    # Signals -------------------------------------------------------------------------------------------------------

    async def test_a_signal_reaches_every_listener_of_its_topic(self) -> None:
        async with self._open() as store:
            inboxes = [Inbox[str]() for _ in range(3)]
            stops = [store.listen("topic", inbox) for inbox in inboxes]

            for text in STRANGE_TEXTS:
                await signal(store, "topic", text, inboxes)

            assert all(set(inbox.items) == set(STRANGE_TEXTS) for inbox in inboxes)
            for stop in stops:
                stop()

    async def test_a_signal_is_for_one_topic(self) -> None:
        async with self._open() as store:
            inboxes = {topic: Inbox[str]() for topic in STRANGE_TEXTS}
            stops = [store.listen(topic, inbox) for topic, inbox in inboxes.items()]

            for topic, inbox in inboxes.items():
                await signal(store, topic, f"to {topic}", [inbox])

            assert {topic: set(inbox.items) for topic, inbox in inboxes.items()} == {
                topic: {f"to {topic}"} for topic in STRANGE_TEXTS
            }
            for stop in stops:
                stop()

    async def test_whoever_stopped_listening_hears_nothing(self) -> None:
        async with self._open() as store:
            gone, stays = Inbox[str](), Inbox[str]()
            stop, stop_other = store.listen("topic", gone), store.listen("topic", stays)
            stop()
            stop()

            await signal(store, "topic", "text", [stays])

            assert gone.items == []
            stop_other()

    async def test_a_signal_that_nobody_hears_is_harmless(self) -> None:
        async with self._open() as store:
            await store.signal("topic", "before")
            inbox = Inbox[str]()
            stop = store.listen("topic", inbox)

            await signal(store, "topic", "now", [inbox])

            assert set(inbox.items) == {"now"}
            stop()
