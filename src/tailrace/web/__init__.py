"""The web layer: one request is one follower of one run."""
