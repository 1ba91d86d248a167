"""A comparison leaves the cockpit: to a file, to the clipboard."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from kdtui.compare import Comparison, render
from kdtui.errors import UsageError
from kdtui.store.run import write_atomically
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.confirm import Confirm
from kdtui.tui.screens.prompt import Prompt

FORMATS = {".md": "markdown", ".markdown": "markdown", ".csv": "csv", ".json": "json"}
"""Form of :func:`kdtui.compare.render` by the ending of the file's name."""
DEFAULT = "comparison.md"


def target(text: str) -> tuple[Path, str]:
    """The file that was typed, and the form its ending asks for; ``~`` is the home folder.

    Raises:
        UsageError: No such ending, no such folder, or a folder by that name.
    """
    path = Path(text.strip()).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise UsageError("the ending says the format", found=text.strip() or "nothing", allowed=", ".join(FORMATS))
    if not path.parent.is_dir():
        raise UsageError("this folder does not exist", where=path.parent, hint="make it first")
    if path.is_dir():
        raise UsageError("this is a folder", where=path, allowed="a file")
    return path, FORMATS[path.suffix.lower()]


class Writing(CockpitScreen):
    """A screen with actions on :attr:`comparison`."""

    @property
    def comparison(self) -> Comparison | None:
        """What is shown; None while there is nothing to compare."""
        raise NotImplementedError

    @property
    def twin(self) -> str:
        """The command line that shows the same."""
        raise NotImplementedError

    @property
    def page_twin(self) -> str:
        """The command line that shows the page in front."""
        return self.twin

    def action_copy(self) -> None:
        """Copy the comparison as Markdown."""
        if self.comparison is None:
            self.cockpit.say("nothing to copy: no run can be compared", error=True)
        else:
            self.cockpit.copy_text(render(self.comparison, "markdown"), "comparison as Markdown")

    def action_copy_command(self) -> None:
        """Copy the command line that shows the same."""
        self.cockpit.copy_text(self.page_twin, self.page_twin)

    def action_export(self) -> None:
        """Write the comparison to a file, after asking where."""
        comparison, twin = self.comparison, self.twin
        if comparison is None:
            self.cockpit.say("nothing to write: no run can be compared", error=True)
            return

        def answered(text: str | None) -> None:
            if text is None:
                return
            path, form = target(text)
            command = f"{twin} --format {form} --output {shlex.quote(str(path))}"
            write = partial(self._write, comparison, path, form, command)
            if path.exists():
                question = Confirm(f"Replace {path}?", "What is in it now will be gone.", command)
                self.app.push_screen(question, lambda yes: write() if yes else self.cockpit.say(f"{path} is as it was"))
            else:
                write()

        prompt = Prompt(
            "Write the comparison to",
            str(Path.cwd() / DEFAULT),
            detail="The ending says the format: .md, .csv or .json.",
            check=target,
            command=f"{twin} --format FORMAT --output FILE",
        )
        self.app.push_screen(prompt, answered)

    def _write(self, comparison: Comparison, path: Path, form: str, command: str) -> None:
        text = render(comparison, form)
        self.cockpit.do(
            lambda: write_atomically(path, text.encode()),
            lambda _: self.cockpit.say(f"written to {path} as {form}", command),
        )
