"""Dialects: how a run's events are spelled for one kind of front end. `contract` says what one is."""
