"""Runs behind a WSGI server: the same responses and routes, called on an event loop of their own."""
