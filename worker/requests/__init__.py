"""From a message to texts, and from vectors to an answer."""
