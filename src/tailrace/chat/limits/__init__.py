"""Limits: how many runs may start, how many may go on, and how many tokens a month may take."""
