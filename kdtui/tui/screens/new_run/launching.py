"""From a draft to runs: plan, checks, launch, and what becomes of them when the draft changes meanwhile."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError
from kdtui.tui.form import Checked, Draft
from kdtui.tui.form.fields import plain
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.new_run.behind import Behind, Launched
from kdtui.tui.screens.new_run.verdict import Standing

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan

REST = 0.15
"""Seconds without a key after which what was typed is read."""
CHECK, LAUNCH = "check", "launch"


class Launching(CockpitScreen):
    """The part of the form that carries something out, one step at a time: read, planned, checked, launched.

    Attributes:
        draft: What is typed.
        read_draft: The draft that was read last; its mistakes and profiles stand in ``standing``.
        first_draft: What leaving the form loses nothing of.
        standing: How far it has come.
    """

    behind: Behind

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self.draft = self.first_draft = draft
        self.read_draft: Draft | None = None
        self.standing = Standing()
        self._wanted = ""

    @property
    def checked(self) -> Checked:
        """What the draft came to when it was read last."""
        return self.standing.checked or Checked()

    @abstractmethod
    def edit(self, draft: Draft) -> None:
        """Take another draft."""

    @abstractmethod
    def read(self) -> None:
        """Find out what the draft comes to."""

    @abstractmethod
    def refill(self) -> None:
        """Show the draft in every field."""

    @abstractmethod
    def texts(self) -> dict[str, str]:
        """What stands in the fields at this moment."""

    @abstractmethod
    def show_standing(self) -> None:
        """Show how far the form has come."""

    @abstractmethod
    def go_to_mistake(self) -> None:
        """Put the cursor where the first mistake can be mended."""

    def forget_plan(self, draft: Draft) -> None:
        """Take another draft: what was found out about the former one says nothing of it."""
        self.draft = draft
        if self._wanted == LAUNCH:
            self.cockpit.say("edited meanwhile, so nothing was launched")
        self._wanted = ""
        doing = "launching" if self.standing.doing == "launching" else ""
        self.standing = replace(self.standing, plan=None, tested=False, doing=doing, failure=None)

    # what is wanted

    def action_check(self) -> None:
        """Run the pre-flight checks, again if they were run."""
        self.set_timer(REST, partial(self._want, CHECK))

    def action_launch(self) -> None:
        """Check, then launch; a moment later, so that whatever was typed before is in the fields."""
        self.set_timer(REST, partial(self._want, LAUNCH))

    def _want(self, what: str) -> None:
        if self.standing.doing == "launching":
            return
        self.edit(replace(self.draft, **self.texts()))
        self._wanted = what
        again = what == CHECK and self.standing.doing != "checking"
        self.standing = replace(self.standing, failure=None, tested=self.standing.tested and not again)
        if self.read_draft == self.draft:
            self.advance()
        else:
            self.read()

    def advance(self) -> None:
        """One step towards what is wanted, now that something else is known."""
        checked = self.checked
        if self.read_draft != self.draft or not (checked.profiles or checked.mistakes):
            return
        if checked.mistakes:
            if self._wanted:
                self._wanted = ""
                self.go_to_mistake()
        elif not self._wanted:
            if self.standing.plan is None:
                self._plan(tested=False)
        elif not self.standing.tested:
            if self.standing.doing != "checking":
                self.standing = replace(self.standing, doing="checking")
                self._plan(tested=True)
        elif self._wanted == LAUNCH:
            self._launch()
        else:
            self._wanted = ""
        self.show_standing()

    def _plan(self, *, tested: bool) -> None:
        draft = self.draft

        def then(plan: Plan) -> None:
            if draft != self.draft or (self.standing.tested and not tested):
                return
            # A time alone does not end the wait for the checks.
            doing = "" if tested else self.standing.doing
            self.standing = replace(self.standing, plan=plan, tested=tested, doing=doing)
            self.advance()

        def failed(error: KdtuiError) -> None:
            if draft == self.draft:
                self.failed(error)

        self.behind.plan(self.checked, then, failed, tested=tested)

    def failed(self, error: KdtuiError) -> None:
        """Show why it did not work; what is typed stays."""
        self._wanted = ""
        self.standing = replace(self.standing, failure=error, doing="")
        self.show_standing()

    def _launch(self) -> None:
        standing = self.standing
        self._wanted = ""
        if standing.plan is None or not standing.plan.ok or (standing.place is not None and standing.place.trouble):
            self.cockpit.say("not launched: see what is wrong above", error=True)
            return
        words = "" if standing.place is None else standing.place.words(len(self.checked.profiles))
        self.standing = replace(standing, doing="launching", failure=None)
        self.behind.launch(self.checked, partial(self._launched, words, self.checked), self.failed)

    def _launched(self, words: str, checked: Checked, launched: Launched) -> None:
        cockpit, ids = self.cockpit, launched.ids
        cockpit.watcher.nudge()
        self.standing = replace(self.standing, doing="")
        if launched.error is not None:
            if ids:  # what runs already is not to be launched a second time
                left = [plain(profile.seed) for profile in checked.profiles[len(ids) :]]
                cockpit.say(f"{len(ids)} launched, then one failed; its seed and those after it are left", error=True)
                self.edit(replace(self.draft, seeds=",".join(left)))
                self.refill()
            self.failed(launched.error)
            return
        self.first_draft = self.draft
        if self.app.screen is self:
            self.leave()
            if len(ids) == 1:
                cockpit.open_run(ids[0])
        named = ids[0] if len(ids) == 1 else f"{len(ids)} runs"
        cockpit.say(f"{named} launched: {words}" if words else f"{named} launched", checked.commands[0])
