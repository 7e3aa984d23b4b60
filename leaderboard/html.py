"""HTML in which escaping cannot be forgotten: a text becomes markup through `tag` only."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})

Attribute = str | int | float | bool | None


class Html(str):
    """Markup, made by this module from escaped parts."""

    __slots__ = ()


Child = Html | str | int | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """An element; texts among its children and its attributes are escaped.

    `class_="x"` gives class, `data_v="x"` gives data-v; an attribute of True stands alone, of False or None
    is left out.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        parts.append(f" {key.rstrip('_').replace('_', '-')}")
        if value is not True:
            parts.append(f'="{html.escape(str(value))}"')
    parts.append(">")
    if name not in VOID:
        parts += [*_flat(children), f"</{name}>"]
    return Html("".join(parts))


def join(*children: Child) -> Html:
    """Several children, one after the other."""
    return Html("".join(_flat(children)))


def table(
    heads: Sequence[str], rows: Child, *, sortable: bool = False, class_: str = "scroll", **around: Attribute
) -> Html:
    """A table in an element that scrolls where the page is narrower."""
    cells = [tag("th", tag("button", h, type="button") if sortable else h, scope="col") for h in heads]
    found = tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows))
    return tag("div", found, class_=class_, **around)


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, (str, int)):
            yield html.escape(str(child))
        else:
            yield from _flat(child)


CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing but the site's own styles and script is loaded, and no script stands in a page."""


def page(title: str, *body: Child, root: str, css_class: str = "") -> bytes:
    """A whole page. `root` is the way from it to the site's root: "" or "../../"."""
    nav = tag(
        "nav",
        tag("a", "prosegym leaderboard", href=f"{root}index.html", class_="brand"),
        tag("a", "Board", href=f"{root}index.html"),
        tag("a", "Rules", href=f"{root}rules.html"),
        tag("a", "Ledger", href=f"{root}ledger.html"),
        tag("a", "Data", href=f"{root}latest.json"),
        tag("button", "Theme", type="button", id="theme", aria_label="Switch between light and dark"),
        aria_label="Site",
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{CSP}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{title} · prosegym leaderboard"),
        tag("link", rel="stylesheet", href=f"{root}style.css"),
        tag("noscript", tag("link", rel="stylesheet", href=f"{root}noscript.css")),
        tag("script", src=f"{root}app.js"),
    )
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    main = tag("main", *body, id="content", class_=css_class or None, tabindex=-1)
    return (
        "<!doctype html>\n" + tag("html", head, tag("body", skip, tag("header", nav), main), lang="en")
    ).encode("utf-8", "replace")
