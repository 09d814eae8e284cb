"""Testing tools for those who build on tailrace: suites, clocks and clients."""
