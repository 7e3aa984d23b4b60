"""Text environments. Importing this package registers every id with Gymnasium.

Importing it stays light: an environment's module is imported when the environment is made.
"""

ENVS: dict[str, str] = {
    "prosegym/HotpotQA-v1": "prosegym.envs.questions.env:make_hotpotqa",
    "prosegym/2WikiMultihopQA-v1": "prosegym.envs.questions.env:make_two_wiki",
    "prosegym/MuSiQue-v1": "prosegym.envs.questions.env:make_musique",
    "prosegym/MiniWiki-v1": "prosegym.envs.questions.miniwiki:make",
    "prosegym/WebShop-v1": "prosegym.envs.webshop.env:make",
    "prosegym/MiniShop-v1": "prosegym.envs.minishop.env:make",
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
