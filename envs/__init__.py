"""Text environments. Importing this package registers every id with Gymnasium.

Importing it stays light: an environment's module is imported when the environment is made.
"""

ENVS: dict[str, str] = {
    "prosegym/TextWorld-CoinCollector-v1": "prosegym.envs.textworld.env:coin_collector",
    "prosegym/TextWorld-TreasureHunter-v1": "prosegym.envs.textworld.env:treasure_hunter",
    "prosegym/TextWorld-Cooking-v1": "prosegym.envs.textworld.env:cooking",
    "prosegym/ALFWorld-v1": "prosegym.envs.alfworld.env:make",
    "prosegym/Household-v1": "prosegym.envs.alfworld.household:make",
    "prosegym/HotpotQA-v1": "prosegym.envs.questions.env:make_hotpotqa",
    "prosegym/2WikiMultihopQA-v1": "prosegym.envs.questions.env:make_two_wiki",
    "prosegym/MuSiQue-v1": "prosegym.envs.questions.env:make_musique",
    "prosegym/MiniWiki-v1": "prosegym.envs.questions.miniwiki:make",
    "prosegym/ScienceWorld-v1": "prosegym.envs.scienceworld.env:make",
    "prosegym/TextWorldExpress-CookingWorld-v1": "prosegym.envs.express.env:cooking_world",
    "prosegym/TextWorldExpress-TWC-v1": "prosegym.envs.express.env:twc",
    "prosegym/TextWorldExpress-Coin-v1": "prosegym.envs.express.env:coin",
    "prosegym/TextWorldExpress-MapReader-v1": "prosegym.envs.express.env:map_reader",
    "prosegym/TextWorldExpress-Arithmetic-v1": "prosegym.envs.express.env:arithmetic",
    "prosegym/TextWorldExpress-Sorting-v1": "prosegym.envs.express.env:sorting",
    "prosegym/TextWorldExpress-SimonSays-v1": "prosegym.envs.express.env:simon_says",
    "prosegym/TextWorldExpress-PeckingOrder-v1": "prosegym.envs.express.env:pecking_order",
    "prosegym/WebShop-v1": "prosegym.envs.webshop.env:make",
    "prosegym/MiniShop-v1": "prosegym.envs.minishop.env:make",
    "prosegym/InterCodeSQL-v1": "prosegym.envs.sql.env:make",
    "prosegym/MiniSQL-v1": "prosegym.envs.sql.mini:make",
}
"""Every id, and where its maker is (`module:attribute`). The order is that of `prosegym list`."""

VECTOR_ENVS: dict[str, str] = {
    "prosegym/ALFWorld-v1": "prosegym.envs.alfworld.env:make_vector",
    "prosegym/Household-v1": "prosegym.envs.alfworld.household:make_vector",
}
"""Ids that have a vector environment of their own, and where its maker is."""


GROUP = "prosegym.envs"
"""Entry points by which other packages offer environments: `"mine/Count-v1" = "mine.count:make"`."""


def known(env_id: str) -> bool:
    """Whether there is such an id, here or in an installed package.

    Packages are looked at only for an id that is not here: it takes longer than all of this import.
    """
    if env_id not in ENVS:
        look_around()
    return env_id in ENVS


def look_around() -> None:
    """Register what installed packages offer; ids of this package stay its own."""
    from importlib.metadata import entry_points

    for found in entry_points(group=GROUP):
        ENVS.setdefault(found.name, found.value)
    register_envs()


def register_envs() -> None:
    """Register every id; calling it again changes nothing."""
    # Imported here because Gymnasium 0.29 calls this hook while it is itself being imported.
    from gymnasium.envs.registration import register, registry

    for env_id, entry_point in ENVS.items():
        if env_id not in registry:
            # Gymnasium's checker does not survive a first reset that is refused; `check_env` is in the tests.
            # Its keeper of order knows no `restore`; `TextEnv.step` itself says that a reset is needed.
            register(
                id=env_id,
                entry_point=entry_point,
                vector_entry_point=VECTOR_ENVS.get(env_id),
                disable_env_checker=True,
                order_enforce=False,
            )


register_envs()
