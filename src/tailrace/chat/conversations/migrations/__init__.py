"""What leads a database from any earlier version to this one; each step is a module of `versions`."""
