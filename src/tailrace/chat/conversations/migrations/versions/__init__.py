"""The steps, which are never changed once they were released."""
