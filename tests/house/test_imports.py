"""What an import brings along."""

import subprocess
import sys

import pytest

EXTRAS = ("fastapi", "flask", "gevent", "gunicorn", "redis", "typer", "uvicorn", "werkzeug")


def test_the_front_door_imports_no_extra() -> None:
    code = f"import sys, tailrace; print(sorted(sys.modules.keys() & set({EXTRAS!r})))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("server", ["gevent", "gunicorn"])
def test_flask_brings_no_server_along(server: str) -> None:
    code = f"import sys, tailrace.web.flask; print({server!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == "False"
