from __future__ import annotations

import functools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kdtui.profile import load
from kdtui.profile.find import SHIPPED
from tests.docs import DOCS, GENERATED, PAGES, ROOT, TABLES, command_line, commands, filled, kdtui
from tests.test_words import AVOIDED

README = ROOT / "README.md"
README_LINES = 250


@functools.cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def each_page(*pages: Path) -> pytest.MarkDecorator:
    chosen = pages or tuple(PAGES)
    return pytest.mark.parametrize("page", chosen, ids=[str(page.relative_to(ROOT)) for page in chosen])


@pytest.mark.parametrize("name", GENERATED)
def test_generated_parts_match_the_code(name: str) -> None:
    page, _ = GENERATED[name]
    assert filled(name) == text_of(page), "run `make docs`"


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = text_of(README)
    assert len(text.splitlines()) <= README_LINES
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([\w/.-]+\.md)", text)}
    assert linked >= set(PAGES) - {README}


@each_page()
def test_each_row_of_a_table_has_the_cells_of_its_header(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, rule, *rows = (re.split(r"(?<!\\)\|", line.strip()) for line in table.splitlines())
        assert set("".join(rule)) <= set("-: "), f"a blank line in a table, above: {table.splitlines()[0]}"
        assert all(len(row) == len(header) for row in (rule, *rows)), table


# -- commands -----------------------------------------------------------------------------------------------------


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language; an empty language means command lines, files and output."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def command_lines(page: Path) -> list[str]:
    """Every ``kdtui …`` of a page that the code does not make: in blocks, and in the text between backticks."""
    text = re.sub(r"<!-- (\w+): made by.*?<!-- end of \1 -->", "", text_of(page), flags=re.DOTALL)
    fenced = re.findall(r"^kdtui(?: [^\n#]*)?", "\n".join(blocks(page, "")), flags=re.MULTILINE)
    inline = re.findall(r"`((?:NO_COLOR=1 )?kdtui(?: [^`]+)?)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return sorted({line.strip().removeprefix("NO_COLOR=1 ") for line in (*fenced, *inline)})


LINES = sorted({(str(page.relative_to(ROOT)), line) for page in PAGES for line in command_lines(page)})


def keys_of_profiles() -> set[str]:
    """Every key that ``--set`` takes."""
    keys = set()
    for title, table in TABLES:
        places = title.split(", kind")[0].removesuffix(" of coco").split(", ")
        keys |= {key if place == "(top)" else f"{place}.{key}" for place in places for key in table.model_fields}
    return keys


KEYS = keys_of_profiles()


def words_of(page: str, line: str) -> list[str]:
    """A command line as a shell splits it; ``$S`` is replaced by the options that the page assigns to it."""
    options = " ".join(re.findall(r'^S="(?:\$S )?(.*)"$', text_of(ROOT / page), flags=re.MULTILINE))
    return shlex.split(line.replace("$S", options))[1:]


def parsed(words: list[str]) -> Any:
    """The parameters of a command line, read by the command line's own parser; nothing is run.

    ``--help`` and other options that end a command at once are read as such.
    """
    name = command_of(words)
    with command_line().commands[name].make_context(name, words[len(name.split()) :]) as context:
        return context.params


def command_of(words: list[str]) -> str:
    """The name of the command, which may have two words."""
    both = " ".join(words[:2])
    return both if both in commands() else words[0]


def test_there_are_command_lines_in_the_documents() -> None:
    assert len(LINES) > 80
    assert {page for page, _ in LINES} >= {"README.md", "docs/export.md", "docs/getting-started.md"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_line_can_be_parsed(page: str, line: str) -> None:
    words = words_of(page, line)
    if not words or words[0].startswith("-"):
        assert not words or words[0] in kdtui("--help"), line
        return
    name = command_of(words)
    assert name in commands(), line
    if words == name.split() or "--help" in words:
        assert kdtui(*name.split(), "--help").startswith(f"Usage: kdtui {name}")
        return
    parameters = parsed(words)
    assert all(setting.split("=")[0] in KEYS for setting in parameters.get("sets") or ()), line
    if words[0] == "train":
        own = set(re.findall(r"\b([\w-]+)\.toml", text_of(ROOT / page)))
        shipped = {file.stem for file in SHIPPED.glob("*.toml")}
        assert all(name in shipped | own or name.isupper() for name in parameters["profiles"]), line


# -- profiles, links, names ---------------------------------------------------------------------------------------


@each_page()
def test_profiles_in_the_documents_can_be_loaded(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "toml")):
        tomllib.loads(block)
        if re.search(r"^extends|^\[(data|teacher|distillation|training|student)\]|^\[\[", block, flags=re.MULTILINE):
            file = tmp_path / f"p{number}.toml"
            file.write_text(block, encoding="utf-8")
            load(file)


def anchors(page: Path) -> set[str]:
    """The anchors that a forge gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page()
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), target


@each_page()
def test_files_and_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), flags=re.MULTILINE))
    quoted = re.sub(r"<!-- (\w+): made by.*?<!-- end of \1 -->", "", text_of(page), flags=re.DOTALL)
    for name in re.findall(r"`((?:kdtui|tests|docs|benchmarks|\.ci|\.github)/[\w./-]*)`", quoted):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`([\w-]+\.(?:md|toml|txt))`", quoted):
        local = {"classes.txt", "labels.txt", "profile.toml", "overrides.toml", "notes.toml"}
        local |= {f"mycity-{role}.toml" for role in ("teacher", "baseline", "distilled")}
        assert name in local or (ROOT / name).exists(), name
    for target in re.findall(r"(?:^|`)make ([\w-]+)", quoted, flags=re.MULTILINE):
        assert target in targets, target


@each_page()
def test_documents_use_standard_terms(page: Path) -> None:
    text = re.sub(r"<!-- (\w+): made by.*?<!-- end of \1 -->", "", text_of(page), flags=re.DOTALL)
    for avoided, standard in AVOIDED.items():
        assert not re.search(rf"\b{avoided}\b", text, flags=re.IGNORECASE), f"{avoided}: say {standard}"


def test_the_predecessors_commands_all_have_a_successor() -> None:
    rows = [line for line in text_of(DOCS / "coming-from-the-predecessor.md").splitlines() if line.startswith("|")][2:]
    assert len(rows) > 12
    assert all("kdtui " in row.split(" | ")[1] for row in rows if "notes" not in row)
