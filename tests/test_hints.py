"""Every command, option, key and variable that a message names exists, for each command in which it can be printed."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import kdtui
from kdtui.cli.app import app
from kdtui.errors import hint_for_profiles
from kdtui.profile import Profile

ROOT = Path(kdtui.__file__).parent
TRAINING = ("train", "distill", "demo", "resume")
NETWORKS = (*TRAINING, "evaluate", "export", "measure", "inspect")
REACHED_BY: Mapping[str, tuple[str, ...]] = {
    "kdtui/cli/checkpoints.py/_subject": ("evaluate",),
    "kdtui/cli/compare.py/evaluate_newest": ("train",),
    "kdtui/cli/runs.py/remove": ("remove",),
    "kdtui/engine/check.py/_resume": ("train", "resume"),
    "kdtui/engine/check.py/_go_on": ("train", "resume"),
    "kdtui/launch/teachers.py/expand": ("compare", "evaluate", "export", "measure", "stop"),
    "kdtui/launch/teachers.py/resume_point": ("train",),
    "kdtui/launch/teachers.py/ready": ("train",),
    "kdtui/launch/teachers.py/recipe": ("distill",),
    "kdtui/launch/export.py": ("export",),
    "kdtui/engine/predict.py/_job": ("predict",),
    "kdtui/engine/roi/predict.py": ("predict",),
    "kdtui/engine/measure_files.py": ("measure",),
    "kdtui/cli/init.py": ("init",),
    "kdtui/launch/local.py/stop": ("stop",),
    "kdtui/cli/checkpoints.py": ("evaluate", "inspect"),
    "kdtui/cli/compare.py": ("compare", "train"),
    "kdtui/cli/export.py": ("export", "train"),
    "kdtui/cli/runs.py": ("remove", "note", "stop"),
    "kdtui/cli/measure.py": ("measure",),
    "kdtui/cli/opening.py": ("cockpit",),
    "kdtui/cli/sweep.py": ("sweep", "sweep resume"),
    "kdtui/sweep/search/hours.py": ("search",),
    "kdtui/sweep/search/spec.py": ("search",),
    "kdtui/sweep/search/work.py/no_candidate": ("search",),
    "kdtui/cli/train.py": ("train", "distill"),
    "kdtui/cli/training.py": ("train", "distill"),
    "kdtui/export_options.py": ("export",),
    "kdtui/engine/measure.py": ("measure",),
    "kdtui/launch/teachers.py": ("train", "distill"),
    "kdtui/store/files.py": ("train", "distill"),
    "kdtui/store/writable.py": ("train", "distill"),
    "kdtui/store/store.py": ("runs", "show", "train", "resume", "remove", "compare"),
    "kdtui/launch/slots.py": ("train", "resume", "measure"),
    "kdtui/engine/export": ("export", "train"),
    "kdtui/engine": NETWORKS,
}
"""Commands that print what a file, or a function of it, raises: all have an option that stands alone in its hints."""

_COMMAND = re.compile(r"(`?)\bkdtui ([a-z][a-z-]*)([^`;,:()\n]*)")
_OTHER = re.compile(r"\bdocker run [^`;,)\n]*")  # a program that is none of ours
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_SETTING = re.compile(r"--set ([\w.*]+)=")
_WORD = r"\.[a-z_*][a-z0-9_*]*"
_KEY = re.compile(rf"\b(?:data|student|teacher|training|distillation|launch){_WORD}(?:{_WORD})*")
_VARIABLE = re.compile(r"\bKDTUI_[A-Z_]+")
_UNKNOWN = "\0"


@functools.cache
def options() -> dict[str, frozenset[str]]:
    """The options of each command."""
    commands: Any = typer.main.get_command(app)
    return {
        name: frozenset(
            word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts) if "-" in word
        )
        for name, command in commands.commands.items()
    }


def exists(key: str, model: Any = Profile) -> bool:
    """Whether a profile may have a key; `*` is any table of that level."""
    head, _, rest = key.partition(".")
    fields = model.model_fields
    for name in fields if head == "*" else (head,):
        if name in fields and (not rest or any(exists(rest, table) for table in tables(fields[name].annotation))):
            return True
    return False


def tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from tables(part)


class Module:
    """A file, and the texts that its expressions can become."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT.parent).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.nodes = list(ast.walk(self.tree))
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                child.parent = node  # type: ignore[attr-defined]

    def texts(self, node: ast.AST | None, deep: int = 0) -> list[str]:
        """All texts that an expression can be, with a NUL where only the running program knows."""
        if deep > 8:
            return [_UNKNOWN]
        again = functools.partial(self.texts, deep=deep + 1)
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.Constant() | None:
                return []
            case ast.JoinedStr(values=values):
                return self._joined([again(part) for part in values])
            case ast.FormattedValue(value=value):
                return again(value) or [_UNKNOWN]
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._joined([again(left), again(right)])
            case ast.IfExp(body=body, orelse=other):
                return [*again(body), *again(other)]
            case ast.BoolOp(values=values):
                return [text for value in values for text in again(value)]
            case ast.Dict(values=values):
                return [text for value in values for text in again(value)]
            case ast.Subscript(value=ast.Name() as value):
                return again(value)
            case ast.Name(id=name):
                return self._assigned(name, again)
            case ast.Call(func=ast.Name(id=name)):
                return self._returned(name, again)
        return [_UNKNOWN]

    def _joined(self, parts: list[list[str]]) -> list[str]:
        return ["".join(texts) for texts in itertools.islice(itertools.product(*(p or [""] for p in parts)), 64)]

    def _assigned(self, name: str, again: Any) -> list[str]:
        values = []
        for node in self.nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    values.append(value)
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.AST() as value) if target == name:
                    values.append(value)
        return [text for value in values for text in again(value)] or [_UNKNOWN]

    def _returned(self, name: str, again: Any) -> list[str]:
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return [
                    text for inner in ast.walk(node) if isinstance(inner, ast.Return) for text in again(inner.value)
                ]
        return [_UNKNOWN]

    def hints(self) -> Iterator[tuple[str, str]]:
        """The ``hint`` of calls and the third part of warnings, each with its place in the code."""
        for node in self.nodes:
            match node:
                case ast.Call(func=func, args=args, keywords=keywords):
                    values = [keyword.value for keyword in keywords if keyword.arg == "hint"]
                    if isinstance(func, ast.Name | ast.Attribute) and _name(func) in ("Warned", "Failed"):
                        values += args[2:3]
                case ast.Assign(targets=[ast.Attribute(attr="hint")], value=value):
                    values = [value]
                case ast.Dict(keys=keys, values=items):
                    values = [
                        v for k, v in zip(keys, items, strict=True) if isinstance(k, ast.Constant) and k.value == "hint"
                    ]
                case _:
                    continue
            for value in values:
                for text in self.texts(value):
                    yield f"{self.name}/{self._function(value)}:{value.lineno}", text

    def _function(self, node: ast.AST) -> str:
        """The function that contains an expression, without the class."""
        name = ""
        while (parent := getattr(node, "parent", None)) is not None:
            node = parent
            if isinstance(node, ast.FunctionDef):
                name = node.name
        return name

    def strings(self) -> Iterator[tuple[int, str]]:
        """Every text of the file, whole where it is put together from parts."""
        for node in self.nodes:
            parent = getattr(node, "parent", None)
            whole = isinstance(node, ast.JoinedStr | ast.Constant) and not isinstance(parent, ast.JoinedStr | ast.BinOp)
            if whole and "kdtui " in ast.dump(node):
                for text in self.texts(node):
                    yield getattr(node, "lineno", 0), text


def _name(func: ast.Name | ast.Attribute) -> str:
    return func.id if isinstance(func, ast.Name) else func.attr


@functools.cache
def modules() -> list[Module]:
    return [Module(path) for path in sorted(ROOT.rglob("*.py"))]


def wrong_commands(text: str) -> Iterator[str]:
    """Commands that do not exist, or lack an option of the same hint."""
    for quoted, verb, rest in _COMMAND.findall(text):
        if verb not in options():
            if quoted:
                yield f"kdtui {verb}"
            continue
        second = rest.split()[:1]
        verb = " ".join([verb, *second]) if " ".join([verb, *second]) in options() else verb
        for option in _OPTION.findall(rest):
            if option not in options()[verb]:
                yield f"kdtui {verb} {option}"


def wrong_words(text: str, verbs: Iterable[str]) -> Iterator[str]:
    """What a hint names and one of the commands that print it does not have."""
    yield from unknown_options(text, verbs)
    for key in (*_SETTING.findall(text), *_KEY.findall(text)):
        if not exists(key):
            yield key
    for variable in _VARIABLE.findall(text):
        if variable not in variables():
            yield variable


def unknown_options(text: str, verbs: Iterable[str], also: str = "--set") -> Iterator[str]:
    """Options that a text names, and one of the commands that print it does not have."""
    yield from wrong_commands(text)
    for option in _OPTION.findall(_OTHER.sub("", _COMMAND.sub("", text))):
        for verb in verbs:
            if option != also and option not in options()[verb]:
                yield f"{option} of {verb}"


@functools.cache
def variables() -> frozenset[str]:
    """Names of environment variables that some file reads."""
    found = set()
    for module in modules():
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value):
                found.add(node.value)
    return frozenset(found)


def reached_by(place: str) -> tuple[str, ...]:
    name = place.rpartition(":")[0]
    places = [place for place in REACHED_BY if name == place or name.startswith(f"{place}/")]
    return REACHED_BY[max(places, key=len)] if places else ()


def test_every_hint_names_what_exists_in_the_commands_that_print_it() -> None:
    wrong = [
        f"{place}: {word} ({text!r})"
        for module in modules()
        for place, text in module.hints()
        for word in wrong_words(text, reached_by(place))
    ]
    assert not wrong, "\n".join(wrong)


def test_files_whose_hints_name_an_option_alone_list_the_commands_that_print_them() -> None:
    silent = {
        f"{place} ({text!r})"
        for module in modules()
        for place, text in module.hints()
        if not reached_by(place) and set(_OPTION.findall(_OTHER.sub("", _COMMAND.sub("", text)))) - {"--set"}
    }
    assert not silent, "\n".join(sorted(silent))


@pytest.mark.parametrize(
    ("hint", "elsewhere"),
    [
        ("use fp16: --set training.precision=fp16", "use fp16: training.precision=fp16 in the profile"),
        ("--set a.b=1; or `kdtui train P --set c=2`", "a.b=1 in the profile; or `kdtui train P --set c=2`"),
        ("--set data.value_range=[0,1] scales them", "data.value_range=[0,1] in the profile scales them"),
        ("""if so: --set 'a.b=["x", "y z"]', or c""", """if so: a.b=["x", "y z"] in the profile, or c"""),
        ("--set 'a.b={X=\"Y\", …}'; --set a.c=2", 'a.b={X="Y", …} in the profile; a.c=2 in the profile'),
        ("if so: --set a.b=[0.5,0.5] --set a.c=2", "if so: a.b=[0.5,0.5] and a.c=2 in the profile"),
        ("`kdtui runs` lists them", "`kdtui runs` lists them"),
    ],
)
def test_a_setting_is_an_entry_of_the_profile_where_no_option_sets_it(hint: str, elsewhere: str) -> None:
    assert hint_for_profiles(hint) == elsewhere


def test_every_command_that_a_text_names_exists() -> None:
    wrong = [
        f"{module.name}:{line}: {word}"
        for module in modules()
        for line, text in module.strings()
        for word in wrong_commands(text)
    ]
    assert not wrong, "\n".join(wrong)
