"""The Redis store: logs that all workers share, on one server or on a cluster; needs the `redis` extra."""

from tailrace.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
