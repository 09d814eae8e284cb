"""The runtime: what outlives a request and knows no HTTP."""
