"""The first tables."""

import sqlalchemy as sa
from alembic.operations import Operations

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """Make them."""
    op.create_table(
        "conversations",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("title_source", sa.Text, nullable=False),
        sa.Column("title_search", sa.Text, nullable=False),
        sa.Column("head_id", sa.Text),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("message_count", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", "id", name="conversations_pkey"),
    )
    op.create_index("conversations_newest", "conversations", ["owner", "updated_at_ms", "id"])
    op.create_table(
        "messages",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Text),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("run_id", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("usage", sa.Text),
        sa.Column("suggestions", sa.Text),
        sa.Column("failure", sa.Text),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("owner", "conversation_id", "id", name="messages_pkey"),
        sa.UniqueConstraint("run_id", name="messages_run_id_key"),
        sa.ForeignKeyConstraint(
            ["owner", "conversation_id"],
            ["conversations.owner", "conversations.id"],
            name="messages_conversation_fkey",
            ondelete="CASCADE",
        ),
    )
    op.create_index("messages_children", "messages", ["owner", "conversation_id", "parent_id"])
    op.create_table(
        "turns",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("answer_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("input_characters", sa.Integer, nullable=False),
        sa.Column("begun_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="turns_pkey"),
    )
    op.create_index("turns_oldest", "turns", ["begun_at_ms", "run_id"])
    op.create_index("turns_conversation", "turns", ["owner", "conversation_id"])
    op.create_table(
        "usage_daily",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", "owner", "model", name="usage_daily_pkey"),
    )
