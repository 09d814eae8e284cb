"""Conversations: trees of messages in a database, finished from the logs of runs."""
