"""The bounds of a run: everything that a source, a store or a stranger could make grow or wait has its end here."""

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that one `Runs` applies to all its runs.

    Attributes:
        max_events: Entries of a run, its terminal event not counted; more is `run.failed` with code `limit`.
        max_bytes: Bytes of a run's records, likewise.
        event_bytes: Bytes of one record. Clients refuse events of 1 MiB; the rest is room for the frame around it.
        delta_characters: A longer delta is cut into several events.
        pending_bytes: Bytes of one run that may wait for the store before its source has to wait.
        write_records: Records in one write to the store.
        outage_seconds: How long a store may be unavailable before its runs fail with `store_unavailable`.
        patience_seconds: How long a source may take to stop once it was told to; then it is abandoned.
        live_runs: Runs that are produced at the same time; another one is refused with `BusyError`.
        source_threads: Sync sources that run at the same time.
        turn_events: Events a source may produce without waiting before others get a turn.
    """

    max_events: int = 100_000
    max_bytes: int = 16 * 1024**2
    event_bytes: int = 1000 * 1024
    delta_characters: int = 64 * 1024
    pending_bytes: int = 4 * 1024**2
    write_records: int = 2_000
    outage_seconds: float = 30.0
    patience_seconds: float = 5.0
    live_runs: int = 10_000
    source_threads: int = 64
    turn_events: int = 64
