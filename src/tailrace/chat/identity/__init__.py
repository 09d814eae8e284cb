"""Who asks: identities of requests, and what a request of each kind has to prove."""
