"""Whether this process is one of several that a server runs side by side, as far as it can be known."""

import multiprocessing

__all__ = ["NOT_SHARED", "is_one_of_several"]

#: What a worker says whose store is its own memory.
NOT_SHARED = (
    "this is one of several workers, and its store is not shared with the others: a reader that comes back to another "
    "one finds no run. Serve with one worker, or use a store that workers share, such as sqlite:/// or redis://"
)


def is_one_of_several() -> bool:
    """Whether a server that starts its workers by `multiprocessing`, such as uvicorn, has started more than this one.

    True is certain. False may be wrong: servers that fork tell their workers nothing, and what the environment says,
    such as `WEB_CONCURRENCY`, is only a default for what may have been chosen otherwise.
    """
    if multiprocessing.parent_process() is None:
        return False
    # What this process was called with, of which there is no public account: uvicorn's own configuration.
    config = getattr(multiprocessing.current_process(), "_kwargs", {}).get("config")
    workers = getattr(config, "workers", 1)
    # A server that reloads itself is alone, however many workers it would have otherwise.
    return isinstance(workers, int) and workers > 1 and not getattr(config, "should_reload", False)
