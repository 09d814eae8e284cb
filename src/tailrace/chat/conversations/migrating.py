"""Leading a database to the version of this code, by Alembic, without a configuration file."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tailrace.chat.conversations.tables import VERSION_TABLE
from tailrace.errors import StoreSetupError

__all__ = ["load_steps", "upgrade"]


@cache
def load_steps() -> ScriptDirectory:
    """The steps there are. Reads files, hence blocks; do not call it on an event loop."""
    steps = ScriptDirectory(str(Path(__file__).with_name("migrations")))
    # Read now, or they are read on first use.
    steps.get_heads()
    return steps


def upgrade(connection: Connection, steps: ScriptDirectory) -> None:
    """Lead the database to the newest version, within the transaction that the connection is in.

    Raises:
        StoreSetupError: The database is newer than the steps.
    """

    def missing(current: tuple[str, ...], _: Any) -> Iterable[MigrationStep]:  # noqa: ANN401  Alembic's callback
        newest_first = steps.iterate_revisions("heads", current or "base")
        return [MigrationStep.upgrade_from_script(steps.revision_map, step) for step in reversed(list(newest_first))]

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": missing})
    known = {step.revision for step in steps.walk_revisions()}
    if newer := sorted(set(context.get_current_heads()) - known):
        raise StoreSetupError(
            f"the database of the conversations is newer than this version of tailrace (its version is {newer[0]})"
        )
    # Handed to each step, as the module-wide `alembic.op` would be shared by all databases of the process.
    context.run_migrations(op=Operations(context))
