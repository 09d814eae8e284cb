"""The command `tailrace serve`: what it is told in three ways, what it says, and what it keeps to itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.cli.options import OPTIONS
from tests.integration.support.client import fetch
from tests.integration.support.process import ServerProcess, tailrace_serve

SECRET = "this is known to nobody but us: 42"
PASSWORD = "hunter2"
TOKENS = {"TAILRACE_JWT_SECRET": SECRET, "TAILRACE_JWT_AUDIENCE": "chat", "TAILRACE_JWT_ISSUER": "https://id.example"}
#: What a machine does not have that only `tailrace[cli]` was installed on.
CHAT_PACKAGES = "aiosqlite alembic fastapi httpx2 jwt limits pydantic_ai pydantic_settings redis sqlalchemy"
AGENTS = Path(__file__).parent / "support"
RUN_SECONDS = 60

linux = pytest.mark.skipif(sys.platform != "linux", reason="only there another process shows its environment")


def run(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with these arguments, which ends by itself; `code` comes before it."""
    return subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom tailrace.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
        cwd=AGENTS,
        env={**os.environ, "COLUMNS": "250", **environment},
    )


def refusal(*arguments: str, code: str = "", **environment: str) -> str:
    """The one line on which it says why it serves nothing."""
    ended = run("serve", *arguments, code=code, **environment)
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert PASSWORD not in line
    assert SECRET not in line
    mark, _, said = line.partition(": ")
    assert mark == "tailrace"
    return said


def with_environment(command: list[str], **environment: str) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in environment.items()), *command]


def without(packages: str) -> str:
    """Code after which these packages cannot be imported."""
    return f"import sys; sys.modules.update(dict.fromkeys({packages!r}.split()))"


# Help ----------------------------------------------------------------------------------------------------------------


def test_help_tells_every_option_and_no_secret() -> None:
    ended = run("serve", "--help", **TOKENS, TAILRACE_STORE=f"redis://:{PASSWORD}@host")

    assert ended.returncode == 0
    words = {word for line in ended.stdout.splitlines() for word in line.split()}
    assert {option.flag for option in OPTIONS} | {"--config", "--print-config"} <= words
    assert SECRET not in ended.stdout
    assert PASSWORD not in ended.stdout


def test_help_does_not_wait_for_what_only_a_server_needs() -> None:
    heavy = {"fastapi", "pydantic_settings", "sqlalchemy", "uvicorn", "redis", "jwt", "pydantic_ai"}
    tell = f"import atexit, sys; atexit.register(lambda: print(sorted({heavy!r} & sys.modules.keys())))"

    assert run("--help", code=tell).stdout.splitlines()[-1] == "[]"
    assert run("serve", "--help", code=tell).stdout.splitlines()[-1] == "[]"


# With the extra `cli` alone ------------------------------------------------------------------------------------------


def test_without_its_extra_the_chat_says_what_to_install() -> None:
    assert refusal(code=without(CHAT_PACKAGES)) == "the chat server needs its extra: pip install 'tailrace[chat]'"


def test_an_application_of_ones_own_needs_no_more_than_the_command_line() -> None:
    serve = f"{without(CHAT_PACKAGES)}; from tailrace.cli import main; main()"
    command = [sys.executable, "-c", serve, "serve", "plain:app", "--port", "0"]
    with ServerProcess(command) as server:
        reply = fetch(server.port, "GET", "/")
        server.send(signal.SIGTERM)

        assert reply.body == b"hello"
        assert server.exit_code() == 0


def test_several_workers_serve_an_application_of_ones_own() -> None:
    with ServerProcess([*tailrace_serve("plain:app"), "--workers", "2"]) as server:
        server.await_workers(2)

        assert fetch(server.port, "GET", "/").body == b"hello"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--store", "redis://host"), "an application brings its own store: --store is for agents"),
        (("--model", "demo"), "an application brings its own model: --model is for agents"),
        (("--config", "chat.toml"), "an application brings its own config: --config is for agents"),
        (("--workers", "0"), "there is one worker at least, and no time below 0"),
    ],
)
def test_an_application_is_not_told_what_is_for_the_chat(option: tuple[str, str], said: str) -> None:
    assert refusal("plain:app", *option) == said


# Settings ------------------------------------------------------------------------------------------------------------


def test_settings_are_shown_from_where_they_count_and_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text(f"port = 1\nworkers = 2\nidle_seconds = 3\nstore = 'redis://:{PASSWORD}@host'\n")

    ended = run("serve", "--print-config", "--port", "100", **TOKENS, TAILRACE_WORKERS="20", TAILRACE_CONFIG=str(file))

    assert (ended.returncode, ended.stderr) == (0, "")
    shown = ended.stdout.splitlines()
    assert {"port = 100", "workers = 20", "idle_seconds = 3.0", "# store is secret", "# jwt_secret is secret"} <= {
        *shown
    }
    assert SECRET not in ended.stdout
    assert PASSWORD not in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--host", "0.0.0.0"], {}, "others can reach 0.0.0.0, and nobody is asked who they are"),  # noqa: S104
        ([], {"TAILRACE_HOST": "::"}, "others can reach ::, and nobody is asked who they are"),
        (["--no-anonymous"], {}, "nobody could come in"),
        ([], {**TOKENS, "TAILRACE_JWT_SECRET": "hunter2"}, "jwt_secret: the secret has to have at least 32 bytes"),
        ([], {**TOKENS, "TAILRACE_JWT_ISSUER": ""}, "jwt_audience and jwt_issuer have to be set"),
        (["--config", "no.toml"], {}, "no.toml: No such file or directory"),
        (["--model", "no such model"], {}, ""),
        ([], {"TAILRACE_PORT": "many"}, "TAILRACE_PORT: input should be a valid integer"),
        (["--store", f"redis://:{PASSWORD}@127.0.0.1:1"], {}, "the log store is unavailable"),
        (["no.such:agent"], {}, "no module named 'no.such'"),
    ],
)
def test_what_cannot_be_served_is_told_on_one_line(
    arguments: list[str], environment: dict[str, str], said: str
) -> None:
    assert refusal(*arguments, **environment).startswith(said)


# The start -----------------------------------------------------------------------------------------------------------


def test_it_says_what_it_serves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with ServerProcess(with_environment(tailrace_serve(), TMPDIR=str(tmp_path), TAILRACE_DATABASE="")) as server:
        began = {*tmp_path.iterdir()}
        said = server.output
        server.send(signal.SIGTERM)
        assert server.exit_code() == 0

    assert len(began) == 1
    assert [*tmp_path.iterdir()] == []
    for fact in (
        "model          demo, which is scripted and not an LLM",
        "runs           in memory, until the server stops",
        "conversations  in a temporary database, until the server stops",
        "callers        everybody who can reach 127.0.0.1, all as one user",
    ):
        assert fact in said


@linux
def test_a_secret_is_in_no_list_of_processes_and_in_no_line_of_the_log(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text(
        f"jwt_secret = '{SECRET}'\njwt_audience = 'chat'\njwt_issuer = 'https://id.example'\n"
        f"store = 'sqlite:///{tmp_path}/runs.db'\ndatabase = 'sqlite:///{tmp_path}/chat.db'\nworkers = 2\n"
    )
    command = with_environment(tailrace_serve("--config", str(file)), TAILRACE_DATABASE="")
    with ServerProcess(command) as server:
        server.await_workers(2)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        told = [
            Path(f"/proc/{pid}/{name}").read_bytes()
            for pid in (str(server.pid), *children)
            for name in ("cmdline", "environ")
        ]
        assert fetch(server.port, "GET", "/healthz").status == 200
        server.send(signal.SIGTERM)
        assert server.exit_code() == 0

    assert len(children) >= 2
    assert all(SECRET.encode() not in text for text in told)
    assert SECRET not in server.output
    assert "callers        whoever has a token of https://id.example for chat" in server.output
