"""The two themes. Every text colour has a contrast of at least 4.5 to every background in the style sheet."""

from __future__ import annotations

from textual.theme import Theme


def _texts(muted: str, faint: str, **tones: str) -> dict[str, str]:
    """Theme variables of text colours. Textual's defaults are shares of black or white, whatever the background."""
    return {
        "text-muted": muted,
        "foreground-muted": muted,
        "text-disabled": faint,
        "foreground-disabled": faint,
        **{f"text-{tone}": colour for tone, colour in tones.items()},
    }


DARK = Theme(
    name="kdtui-dark",
    primary="#0178d4",
    secondary="#004578",
    accent="#ffa62b",
    warning="#ffa62b",
    error="#ba3c5b",
    success="#4ebf71",
    foreground="#e0e0e0",
    variables=_texts(
        muted="#a8a8a8",
        faint="#a0a0a0",
        primary="#57a5e2",
        secondary="#7fb0d8",
        accent="#ffc473",
        warning="#ffc473",
        error="#f08ba3",
        success="#8ad4a1",
    ),
)
LIGHT = Theme(
    name="kdtui-light",
    primary="#004578",
    secondary="#0178d4",
    accent="#8a4b00",
    warning="#8a4b00",
    error="#a3173f",
    success="#1a6b35",
    foreground="#1a1a1a",
    background="#f4f4f4",
    surface="#ebebeb",
    panel="#e0e0e0",
    dark=False,
    variables=_texts(
        muted="#565656",
        faint="#5c5c5c",
        primary="#004578",
        secondary="#00548f",
        accent="#804600",
        warning="#804600",
        error="#a3173f",
        success="#186332",
    ),
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}
