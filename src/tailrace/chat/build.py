"""From settings to an application: which parts a chat server has, and how they are set."""

from datetime import UTC, datetime
from decimal import Decimal

from fastapi import FastAPI

from tailrace import Tailrace
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.models import Calling, open_model
from tailrace.chat.app import create_app
from tailrace.chat.conversations.settling import Settler
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.anonymous import Anonymous
from tailrace.chat.identity.contract import owner_by
from tailrace.chat.identity.cors import add_cors
from tailrace.chat.identity.tokens import Tokens
from tailrace.chat.limits.admission import Admissions
from tailrace.chat.routes import ChatTerms
from tailrace.chat.settings import Settings
from tailrace.chat.turns import AgentLike, Records

__all__ = ["build_app"]

#: A final log is looked at so many times before its store forgets it, at least.
_LOOKS = 3
_SWEEP_SECONDS = 60.0
_GONE_SECONDS = 5.0
_OPENING_SECONDS = 15.0


def build_app(settings: Settings, agent: AgentLike | None = None) -> FastAPI:
    """The chat server that these settings describe; nothing is opened before it starts.

    Args:
        settings: With a database; see `with_database`.
        agent: Answers instead of the assistant.

    Raises:
        ModelSetupError: The assistant cannot have its model.
        StoreSetupError: The URL of the store or of the database cannot be used, or needs an extra.
        IdentitySetupError: The keys for tokens, or the origins, cannot be used.
    """
    origins = settings.origins
    rules = settings.token_rules
    gate = Anonymous(hosts=settings.known_hosts, origins=origins) if rules is None else Tokens(rules, origins=origins)
    tail = Tailrace(
        settings.store.get_secret_value(),
        owner=owner_by(gate.identify),
        retention_seconds=settings.retention_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    tail.drain_seconds = settings.grace_seconds
    # Whether a turn may begin is known when the database and the limits have been asked.
    tail.opening_seconds = _OPENING_SECONDS
    conversations = Conversations(settings.database_url)
    settler = Settler(
        tail,
        conversations,
        sweep_seconds=min(_SWEEP_SECONDS, settings.retention_seconds / _LOOKS),
        retention_seconds=settings.retention_seconds,
    )
    answers = agent or _assistant(settings)
    if isinstance(gate, Tokens):
        tail.companions.append(gate)
    app = create_app(
        answers,
        tail,
        records=Records(conversations, settler),
        limits=Admissions.of(
            settings, spent=lambda tenant: conversations.spent_tokens(tenant, datetime.now(UTC).date().replace(day=1))
        ),
        terms=ChatTerms(
            message_characters=settings.message_characters,
            body_bytes=settings.body_bytes,
            run_seconds=settings.run_seconds,
            suggests=settings.suggestions,
            suggestion_seconds=settings.suggestion_seconds,
        ),
        model=answers.model_name if isinstance(answers, Assistant) else None,
        takes_tokens=rules is not None,
    )
    add_cors(app, origins)
    return app


def _assistant(settings: Settings) -> Assistant:
    # What the model says is watched over there, pings aside; this is for a provider that is gone.
    silent_seconds = max(settings.first_delta_seconds, settings.idle_seconds) + _GONE_SECONDS
    calling = Calling(max_retries=settings.max_retries, read_seconds=silent_seconds)
    return Assistant(
        open_model(settings.model, base_url=settings.base_url, calling=calling),
        max_iterations=settings.max_iterations,
        max_output_tokens=settings.max_output_tokens,
        cost_limit=Decimal(str(settings.max_cost_usd)) if settings.max_cost_usd else None,
        tool_timeout_seconds=settings.tool_seconds,
        first_delta_seconds=settings.first_delta_seconds,
        idle_seconds=settings.idle_seconds,
    )
