"""Play panels with agents, keep every episode, and say what the numbers support."""
