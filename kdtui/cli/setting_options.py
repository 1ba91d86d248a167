"""The options of ``train`` and ``distill`` that are declared as settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, Literal

import typer

from kdtui.cli.console import complete_encoder
from kdtui.profile.settings import SETTINGS, Setting, SettingKind

_TYPES: dict[SettingKind, type[Any]] = {"text": str, "widths": str, "integer": int, "seeds": int, "number": float}
"""Types of the options that are made here; those of other kinds are parameters of the commands."""


def option_help(setting: Setting) -> str:
    """The help of its option."""
    return f"{setting.help[0].upper()}{setting.help[1:]}."


def setting_options(
    *, without: Collection[str] = (), lists: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameter ``settings`` of a command by one option for each setting that has flags.

    The command gets the ``KEY=VALUE`` texts of the options that were used.

    Args:
        without: Names of settings that the command has parameters of its own for.
        lists: Names of settings whose options take several values, ``KEY=VALUE,VALUE``.
    """
    settings = [one for one in SETTINGS.values() if one.flags and one.kind in _TYPES and one.name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_settings(**arguments: Any) -> None:
            values = [(one, arguments.pop(one.name)) for one in settings]
            used = [(one, value) for one, value in values if value is not None]
            texts = [
                (Setting.list_assignment if one.name in lists else Setting.assignment)(one, value)
                for one, value in used
            ]
            command(settings=texts, **arguments)

        signature = inspect.signature(command, eval_str=True)
        parameters = []
        made = [_parameter(one, one.name in lists) for one in settings]
        for parameter in signature.parameters.values():
            parameters += made if parameter.name == "settings" else [parameter]
        with_settings.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_settings.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_settings

    return decorate


def _parameter(setting: Setting, listed: bool) -> inspect.Parameter:
    completion = complete_encoder if setting.name == "encoder" else None
    words: dict[str, Any] = {"help": option_help(setting), "show_default": False, "autocompletion": completion}
    if listed:
        words["metavar"] = "LIST"
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=typer.Option(None, *setting.flags, **words),
        annotation=(str if listed else Literal[setting.words] if setting.words else _TYPES[setting.kind]) | None,
    )
