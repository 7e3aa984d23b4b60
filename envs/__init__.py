"""Text environments. Importing this package registers every id with Gymnasium.

Importing it stays light: an environment's module is imported when the environment is made.
"""

ENVS: dict[str, str] = {
    "prosegym/ALFWorld-v1": "prosegym.envs.alfworld.env:make",
    "prosegym/Household-v1": "prosegym.envs.alfworld.household:make",
    "prosegym/InterCodeSQL-v1": "prosegym.envs.sql.env:make",
    "prosegym/MiniSQL-v1": "prosegym.envs.sql.mini:make",
}
"""Every id, and where its maker is (`module:attribute`). The order is that of `prosegym list`."""


def register_envs() -> None:
    """Register every id; calling it again changes nothing."""
    # Imported here because Gymnasium 0.29 calls this hook while it is itself being imported.
    from gymnasium.envs.registration import register, registry

    for env_id, entry_point in ENVS.items():
        if env_id not in registry:
            register(id=env_id, entry_point=entry_point)


register_envs()
