from tests.integration.support.client import fetch
from fastapi import FastAPI
from tailrace import Tailrace

def test_x(serve):
    app = FastAPI()
    tail = Tailrace()
    tail.install(app, "/runs")
    async def answer():
        yield "a"
        yield "b"
    @app.post("/chat")
    async def chat():
        return tail.stream(answer)
    server = serve(app)
    r = fetch(server.port, "POST", "/chat")
    print(r)
    print(fetch(server.port, "HEAD", r.head["location"]))
    assert 0
