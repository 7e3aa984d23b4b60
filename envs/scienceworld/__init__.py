"""ScienceWorld: elementary science as text, on the engine of the optional `scienceworld` package."""
