"""The tables. Migrations make them, and a test holds that both say the same.

The key of everything is the owner, then an id that may be a client's: two owners with the same id never meet. JSON is
text that msgspec wrote: the same bytes in every database, and a null character in it is an escape.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = ["METADATA", "VERSION_TABLE", "conversations", "messages", "turns", "usage_daily"]

#: Which migrations the database has seen; not Alembic's usual name, which an application's own migrations may use.
VERSION_TABLE = "conversations_version"

METADATA = MetaData()

#: `head_id` is the leaf of the branch that is shown; `message_count` also numbers the messages; `size_bytes` is the sum
#: of their parts; `title_search` is the title as it is searched.
conversations = Table(
    "conversations",
    METADATA,
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("title_source", Text, nullable=False),
    Column("title_search", Text, nullable=False),
    Column("head_id", Text),
    Column("revision", Integer, nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("owner", "id", name="conversations_pkey"),
    Index("conversations_newest", "owner", "updated_at_ms", "id"),
)

#: A tree by `parent_id`. `position` is the order in which they came; `search` is the text as it is searched; `parts`,
#: `usage`, `suggestions` and `failure` are JSON.
messages = Table(
    "messages",
    METADATA,
    Column("owner", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("parent_id", Text),
    Column("position", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("parts", Text, nullable=False),
    Column("search", Text, nullable=False),
    Column("finish_reason", Text),
    Column("run_id", Text),
    Column("model", Text),
    Column("usage", Text),
    Column("suggestions", Text),
    Column("failure", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    PrimaryKeyConstraint("owner", "conversation_id", "id", name="messages_pkey"),
    UniqueConstraint("run_id", name="messages_run_id_key"),
    ForeignKeyConstraint(
        ["owner", "conversation_id"],
        ["conversations.owner", "conversations.id"],
        name="messages_conversation_fkey",
        ondelete="CASCADE",
    ),
    Index("messages_children", "owner", "conversation_id", "parent_id"),
)

#: Turns that were begun and not finished. Whoever deletes the row finishes the turn, so that it is paid for once; it
#: outlives its conversation, so that it is paid for at all.
turns = Table(
    "turns",
    METADATA,
    Column("run_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("answer_id", Text, nullable=False),
    Column("model", Text),
    Column("input_characters", Integer, nullable=False),
    Column("begun_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", name="turns_pkey"),
    Index("turns_oldest", "begun_at_ms", "run_id"),
    Index("turns_conversation", "owner", "conversation_id"),
)

#: Days are of UTC.
usage_daily = Table(
    "usage_daily",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("owner", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "day", "owner", "model", name="usage_daily_pkey"),
)
