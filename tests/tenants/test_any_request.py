"""Requests that nobody has thought of, made from the OpenAPI document and with ids of others among them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case

from tests.tenants.belongings import Belongings, ask
from tests.tenants.people import User
from tests.tenants.site import Site, Worker

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

#: Of each operation.
_EXAMPLES = 15
#: A stream that has nothing to say is left; the others end by themselves.
_SILENT_SECONDS = 2.0
_MOST_BYTES = 1024 * 1024
_CHECKED = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.fixture
def hers(ann: User, workers: list[Worker], site: Site) -> Iterator[Belongings]:
    belongings = Belongings.of(ann, workers[0], site)
    yield belongings
    site.gates.open(belongings.gate)


def operations(worker: Worker) -> list[Any]:
    document: Any = ask(worker, "GET", "/openapi.json").json()
    schema: Any = schemathesis.openapi.from_dict(document)
    return [result.ok() for result in schema.get_all_operations()]


def answered(session: requests.Session, case: "Case[Any]", worker: Worker, user: User) -> tuple[int, bytes]:
    """The status and as much of the body as comes."""
    request: dict[str, Any] = case.as_transport_kwargs(base_url=worker.url)
    request["headers"] = {**request["headers"], **user.headers}
    body = b""
    with session.request(**request, stream=True, timeout=_SILENT_SECONDS) as response:
        try:
            for chunk in response.iter_content(None):
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
        except requests.ConnectionError as error:
            if "timed out" not in str(error).lower():
                raise
        return response.status_code, body


@pytest.mark.timeout(120)
def test_no_request_breaks_the_server_or_brings_what_is_anothers(
    hers: Belongings, rival: User, workers: list[Worker], record_property: Callable[[str, object], None]
) -> None:
    names = list(hers.ids.values())
    asked: list[int] = []
    with requests.Session() as session:

        def ask_anything(case: "Case[Any]", data: st.DataObject) -> None:
            for values in (case.path_parameters, case.query):
                for place in [*(values or {})]:
                    if data.draw(st.booleans()):
                        values[place] = data.draw(st.sampled_from(names))
            said = f"{case.path_parameters}{case.query}{case.body!r}"
            status, body = answered(session, case, workers[0], rival)
            asked.append(status)
            assert status < 500, (case, status, body)
            for name in hers.given_away:
                assert name.encode() not in body or name in said, (case, status, body)

        for operation in operations(workers[0]):
            _CHECKED(seed(17)(given(case=operation.as_strategy(), data=st.data())(ask_anything)))()

    # It is as able as before, and has nothing to complain about.
    assert ask(workers[0], "GET", "/readyz").status == 200
    assert "Traceback" not in workers[0].log
    record_property("requests", len(asked))
    record_property("requests that were served", sum(status < 300 for status in asked))
