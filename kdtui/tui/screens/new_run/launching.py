"""The steps towards a launch: the draft is checked, planned, pre-flight checked, launched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError
from kdtui.tui.form import Checked, RunDraft
from kdtui.tui.form.mistakes import failed_fields
from kdtui.tui.screens.form import FormScreen
from kdtui.tui.screens.new_run.background_check import Behind, Launched
from kdtui.tui.screens.new_run.verdict import Standing

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan


REST = 0.15
"""Seconds without a key after which the draft is checked."""
CHECK, LAUNCH = "check", "launch"


class Launching(FormScreen):
    """Base of the form with the steps towards a launch.

    Attributes:
        draft: The texts of the form.
        read_draft: The draft checked last; its mistakes and profiles are in ``standing``.
        first_draft: The draft that can be left without confirmation.
        standing: State of the form.
    """

    behind: Behind

    def __init__(self, draft: RunDraft) -> None:
        super().__init__()
        self.draft = self.first_draft = draft
        self.read_draft: RunDraft | None = None
        self.standing = Standing()
        self._wanted = ""

    @property
    def checked(self) -> Checked:
        """Result of the last check of the draft."""
        return self.standing.checked or Checked()

    @abstractmethod
    def edit(self, draft: RunDraft) -> None:
        """Replace the draft."""

    @abstractmethod
    def read(self) -> None:
        """Check the draft."""

    @abstractmethod
    def refill(self) -> None:
        """Display the draft in all fields."""

    @abstractmethod
    def texts(self) -> dict[str, str]:
        """Current texts of all fields."""

    @abstractmethod
    def show_standing(self) -> None:
        """Display the state of the form."""

    @abstractmethod
    def go_to_mistake(self) -> None:
        """Focus the field of the first mistake."""

    @abstractmethod
    def show_failed(self, messages: Mapping[str, str]) -> None:
        """Display the messages of failed checks at their fields."""

    def forget_plan(self, draft: RunDraft) -> None:
        """Replace the draft and discard the plan of the old one."""
        self.draft = draft
        if self._wanted == LAUNCH:
            self.cockpit.say("the form changed while checking; nothing was launched")
        self._wanted = ""
        doing = "launching" if self.standing.doing == "launching" else ""
        self.standing = replace(self.standing, plan=None, tested=False, doing=doing, failure=None)

    # Checking and launching.

    def action_check(self) -> None:
        """Run the pre-flight checks, also if they have run before."""
        self.set_timer(REST, partial(self._want, CHECK))

    def action_launch(self) -> None:
        """Check and launch, after a short delay, so that keys typed before are in the fields."""
        self.set_timer(REST, partial(self._want, LAUNCH))

    def _want(self, what: str) -> None:
        if self.standing.doing == "launching":
            return
        self.edit(self.draft.edited(**self.texts()))
        self._wanted = what
        again = what == CHECK and self.standing.doing != "checking"
        self.standing = replace(self.standing, failure=None, tested=self.standing.tested and not again)
        if self.read_draft == self.draft:
            self.advance()
        else:
            self.read()

    def advance(self) -> None:
        """Take the next step towards a check or launch, after a step has finished."""
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
            # The duration is known before the checks: continue to wait for these.
            doing = "" if tested else self.standing.doing
            self.standing = replace(self.standing, plan=plan, tested=tested, doing=doing)
            if tested:
                self.show_failed(
                    failed_fields((check for run in plan.runs for check in run.checks), self.checked.tables)
                )
            self.advance()

        def failed(error: KdtuiError) -> None:
            if draft == self.draft:
                self.failed(error)

        self.behind.plan(self.checked, then, failed, tested=tested)

    def failed(self, error: KdtuiError) -> None:
        """Display an error; the typed texts are kept."""
        self._wanted = ""
        self.standing = replace(self.standing, failure=error, doing="")
        self.show_standing()

    def _launch(self) -> None:
        standing = self.standing
        self._wanted = ""
        if standing.plan is None or not standing.plan.ok or (standing.place is not None and standing.place.trouble):
            self.cockpit.say("not launched: see the errors above", error=True)
            return
        words = "" if standing.place is None else standing.place.words(len(self.checked.profiles))
        self.standing = replace(standing, doing="launching", failure=None)
        self.behind.launch(self.checked, partial(self._launched, words, self.checked), self.failed)

    def _launched(self, words: str, checked: Checked, launched: Launched) -> None:
        cockpit, ids = self.cockpit, launched.ids
        cockpit.watcher.nudge()
        self.standing = replace(self.standing, doing="")
        if launched.error is not None:
            if ids and checked.sweep is None:  # do not launch again what is running
                left = checked.group.new[len(ids) :]
                cockpit.say(f"{len(ids)} launched, then one failed; the remaining seeds are in the form", error=True)
                self.edit(self.draft.edited(seeds=",".join(dict.fromkeys(str(run.profile.seed) for run in left))))
                self.refill()
            self.failed(launched.error)
            return
        self.first_draft = self.draft
        if self.app.screen is self:
            self.leave()
            sweep = checked.sampled or checked.sweep
            if sweep is not None:
                cockpit.sweeps(sweep.id)
            elif len(ids) == 1:
                cockpit.open_run(ids[0])
        named = ids[0] if len(ids) == 1 else f"{len(ids)} runs"
        named = named if checked.sampled is None else checked.sampled.id
        cockpit.say(f"{named} launched: {words}" if words else f"{named} launched", checked.command)
