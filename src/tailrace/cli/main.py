"""The commands and their options; each one's work is in a module of its own."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; needs the `cli` extra."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit("the command line needs its extra: pip install 'tailrace[cli]'")
    from tailrace.cli.serve import serve

    app = typer.Typer(name="tailrace", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_about)
    app.command()(serve)
    app()


def _about() -> None:
    """Stream what an AI produces to the people watching it, and never lose a token."""
