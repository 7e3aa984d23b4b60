"""Agents that use language models, the trainers that make them, and the models themselves."""
