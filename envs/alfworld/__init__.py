"""The ALFWorld text game: its rules, its official games, and a generator of new ones."""
