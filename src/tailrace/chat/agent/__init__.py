"""The agent behind the chat server: models, tools, and the loop between them."""
