"""The wire: frames, cursors and dialects, as pure functions and state machines."""
