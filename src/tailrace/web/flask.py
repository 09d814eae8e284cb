"""The front door for Flask, `FlaskTailrace`. Needs the extra `flask`."""

from tailrace.web.wsgi.flask import FlaskTailrace

__all__ = ["FlaskTailrace"]
