"""TextWorld-Express: eight quick text games, on the engine of the optional `textworld-express` package."""
