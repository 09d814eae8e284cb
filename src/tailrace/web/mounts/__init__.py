"""Routes that speak the protocols of others. `contract` says what an agent gets and what a surface is."""
