"""`tailrace serve` as it comes: whatever front end a team has, it finds its protocol there."""

from collections.abc import Callable

from tailrace import Tailrace
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.demo_model import DemoModel
from tailrace.chat.app import create_app
from tests.integration.support.client import fetch
from tests.integration.support.server import AppServer
from tests.interop.conftest import Node


def test_every_client_gets_the_same_answer_to_the_same_question(node: Node, serve: Callable[..., AppServer]) -> None:
    server = serve(create_app(Assistant(DemoModel(pace=0)), Tailrace()))
    question = "What is 17% of 2,340?"

    answers = node.run("everybody.mjs", f"http://127.0.0.1:{server.port}", question)
    asked = {"content-type": "application/json", "accept": "application/json"}
    document = fetch(server.port, "POST", "/chat", asked, body=f'{{"message": "{question}"}}'.encode()).json()
    ours = str(document["text"])

    assert "397.8" in ours
    assert set(answers.values()) == {ours}
    assert len(answers) == 4
