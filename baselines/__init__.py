"""Agents that use language models, and the methods that train them: one file each, read from the top."""
