"""The keys of the page of predictions, and reading its pictures beside the UI thread."""

from __future__ import annotations

from kdtui.errors import KdtuiError
from kdtui.tui.screens.run.pictures import Gallery, look
from kdtui.tui.screens.run.predictions import Predictions
from kdtui.tui.screens.run_actions import RunActions


class Picturing(RunActions):
    """A screen with :class:`Predictions`."""

    def __init__(self) -> None:
        super().__init__()
        self._wishes = 0

    def on_predictions_wished(self, event: Predictions.Wished) -> None:
        """Read and draw in a thread; an answer to an older wish is dropped."""
        self._wishes += 1
        mine, run, wish = self._wishes, self.cockpit.run_of(str(self.run_id)), event.wish

        def take(gallery: Gallery) -> None:
            if mine == self._wishes and self.ready:
                self.query_one(Predictions).take(gallery)

        def failed(error: KdtuiError) -> None:
            if mine == self._wishes and self.ready:
                self.query_one(Predictions).tell(error.message)

        self.cockpit.do(lambda: look(run, wish), take, failed=failed, group="pictures")

    def action_next_picture(self) -> None:
        """The next picture of the epoch."""
        self.query_one(Predictions).step_picture(1)

    def action_previous_picture(self) -> None:
        """The picture before."""
        self.query_one(Predictions).step_picture(-1)

    def action_next_epoch(self) -> None:
        """The next epoch that has pictures."""
        self.query_one(Predictions).step_epoch(1)

    def action_previous_epoch(self) -> None:
        """The epoch before."""
        self.query_one(Predictions).step_epoch(-1)

    def action_next_part(self) -> None:
        """All parts, or one by itself."""
        self.query_one(Predictions).step_part()
