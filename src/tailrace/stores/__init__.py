"""Stores: what keeps the logs of runs, each knowing nothing of the others."""
