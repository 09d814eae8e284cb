"""The options of `tailrace serve`: one for each setting of the chat server that is no secret.

They are written down here and not read off the settings, because `tailrace[cli]` alone serves applications, and
`--help` should not wait for what the chat server needs. A test holds them to the settings.
"""

from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer

__all__ = ["OPTIONS", "ServeOption"]


class ServeOption(NamedTuple):
    """One option.

    Attributes:
        name: The setting's.
        kind: What its value is read as.
        default: What it is if nobody says, in words where that depends on other settings.
        help: What it means.
        panel: Under which heading it is.
        metavar: How its value is spoken of.
    """

    name: str
    kind: type
    default: str
    help: str
    panel: str
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """As it is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def parameter(self) -> Parameter:
        """As a parameter of a command, which is `None` if nobody typed it."""
        flags = f"{self.flag}/--no-{self.flag.removeprefix('--')}" if self.kind is bool else self.flag
        option = typer.Option(
            flags, help=self.help, show_default=self.default, metavar=self.metavar, rich_help_panel=self.panel
        )
        # `X | None` of a type that is only known here is not an expression that type checkers read.
        annotation: Any = Annotated[Optional[self.kind], option]  # noqa: UP045
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _panel(panel: str, *rows: tuple[str, type, str, str] | tuple[str, type, str, str, str]) -> list[ServeOption]:
    return [ServeOption(*row[:4], panel, *row[4:]) for row in rows]


#: In the order of `--help`.
OPTIONS: tuple[ServeOption, ...] = (
    *_panel(
        "Server",
        ("host", str, "127.0.0.1", "Address to listen on."),
        ("port", int, "8000", "Port to listen on; 0 takes a free one."),
        ("workers", int, "1", "Processes; more than one need a store that they share."),
        ("grace_seconds", float, "10", "How long a stop may take."),
        ("heartbeat_seconds", float, "15", "After so much silence a stream gets a comment."),
        ("trusted_hosts", str, "none", "Further names that callers without a token may call it by.", "A,B"),
        ("cors_origins", str, "none", "Pages elsewhere that may call it.", "A,B"),
        ("body_bytes", int, "262144", "The longest body of a request."),
        ("message_characters", int, "32000", "The longest message."),
    ),
    *_panel(
        "Storage",
        ("store", str, "memory://", "Where runs are kept.", "URL"),
        ("retention_seconds", float, "900", "How long a run can be read when it has ended."),
        ("database", str, "temporary with memory://, else sqlite:///tailrace-chat.db", "Conversations.", "URL"),
    ),
    *_panel(
        "Model",
        ("model", str, "demo", "What answers, such as demo or openai:gpt-5.", "NAME"),
        ("base_url", str, "the provider's", "Where the model is.", "URL"),
        ("max_retries", int, "2", "Further attempts at a request that failed before its answer began."),
        ("first_delta_seconds", float, "60", "How long the model may say nothing at first."),
        ("idle_seconds", float, "30", "How long it may say nothing after that."),
        ("max_iterations", int, "10", "Requests to the model in one run."),
        ("max_output_tokens", int, "32000", "Tokens that one run may produce; 0: any number."),
        ("max_cost_usd", float, "0", "What one run may cost, where prices are known; 0: anything."),
        ("tool_seconds", float, "30", "How long a tool may take."),
        ("run_seconds", float, "600", "How long a run may take."),
        ("suggestions", bool, "yes", "Suggest questions after an answer."),
        ("suggestion_seconds", float, "3", "How long these may take."),
    ),
    *_panel(
        "Identities (the secret of HS… tokens is in TAILRACE_JWT_SECRET)",
        ("anonymous", bool, "only on loopback", "Let everybody in, all as one user."),
        ("jwt_jwks_url", str, "none", "Keys of tokens.", "URL"),
        ("jwt_public_key", Path, "none", "The key of tokens, a PEM file.", "FILE"),
        ("jwt_algorithms", str, "by the kind of key", "Signatures that are taken.", "A,B"),
        ("jwt_audience", str, "none", "Whom tokens have to be for."),
        ("jwt_issuer", str, "none", "Whom they have to be from."),
        ("jwt_tenant_claim", str, "tenant", "Which claim names the tenant.", "NAME"),
        ("jwt_subject_claim", str, "sub", "Which claim names the user.", "NAME"),
        ("jwt_cookie", str, "none", "A cookie that may carry the token.", "NAME"),
        ("jwt_leeway_seconds", float, "5", "How far clocks may differ."),
    ),
    *_panel(
        "Limits (0: none)",
        ("user_runs_per_minute", int, "60", "Runs that one user may start in a minute."),
        ("tenant_runs_per_minute", int, "600", "Those of one tenant."),
        ("user_live_runs", int, "20", "Runs of one user at a time."),
        ("tenant_live_runs", int, "200", "Those of one tenant."),
        ("tenant_monthly_tokens", int, "0", "Tokens of one tenant in a month."),
    ),
)
