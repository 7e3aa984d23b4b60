"""TextWorld: text games generated and played by Microsoft's TextWorld (the optional `textworld` package)."""
