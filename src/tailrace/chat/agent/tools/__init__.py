"""What the agent can do besides talking: real work, none of it dangerous."""
