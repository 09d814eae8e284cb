"""The reference app: a chat server built on public names only."""
