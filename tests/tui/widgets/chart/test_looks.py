"""What charts look like: whole pictures, row by row."""

from __future__ import annotations

import math

from kdtui.tui.widgets.chart.series import ChartState
from tests.tui.widgets.chart.painted import EPOCHS, LOSS, MIOU, SLOWER, TEACHER, curve, looks_like, text


def test_a_loss() -> None:
    looks_like(
        text(ChartState((curve(LOSS),), title="loss", x_label="epoch", x_max=80)),
        """
        loss
         2.0┤⡀                                                     A b0-from-b3   .378
         1.5┤⠘⢄
         1.0┤  ⠑⠤⡀
            │    ⠈⠒⠢⠤⣀
         0.5┤         ⠉⠉⠒⠒⠒⠢⠤⠤⠤⠤⠤⠤⠤⢄⣀⣀⣀⡀A
         0.0┤
            └───────────20────────────40───────────60───────────80 epoch
        """,
    )


def test_two_runs_and_their_teacher() -> None:
    series = (curve(MIOU), curve(SLOWER, "B", "b1-from-b3", dash=1))
    looks_like(
        text(ChartState(series, (TEACHER,), title="val mIoU", x_label="epoch", x_max=80, places=4)),
        """
        val mIoU
         0.8┤  teacher .7540  ⠒ ⠒⢀⣒⣀⣒⣀⣒⡀A ⠒ ⠒ ⠒ ⠒ ⠒ ⠒ ⠒ ⠒ ⠒ ⠒ ⠒ ⠒  A b0-from-b3  .6918
         0.6┤        ⢀⣀⠤⠤⠒⠒⠊⠉⠉⠉⢉⡉B                                 B b1-from-b3  .5473
         0.4┤    ⢀⠤⠔⠉⠁⣀⡀ ⠔⠒⠂ ⠉⠉⠁
            │  ⢠⠒⢁⣀⠄ ⠉
         0.2┤⢀⠖⡁ ⠁
         0.0┤⠞⠉
            └───────────20────────────40───────────60───────────80 epoch
        """,
    )


def test_a_spike_a_gap_and_a_single_point() -> None:
    ys = [1.0] * 20 + [5.0] + [1.0] * 19 + [math.nan] * 20 + [3.0] + [math.inf] * 10 + [2.0] * 9
    looks_like(
        text(ChartState((curve(ys),), title="grad norm", x_label="step", x_max=100)),
        """
        grad norm
           5┤          ⢸                                           A b0-from-b3      2
           4┤          ⢸
           3┤          ⢸                     ⡀
            │          ⡇⡇
           2┤          ⡇⡇                          ⠒⠒⠒⠒⠂A
           1┤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⡇⣇⣀⣀⣀⣀⣀⣀⣀⣀⣀
            └─────────20────────40─────────60─────────80────────100 step
        """,
    )


def test_a_logarithmic_axis() -> None:
    ys = [10 ** (-epoch / 8) for epoch in EPOCHS]
    looks_like(
        text(ChartState((curve(ys),), title="lr", x_label="epoch", x_max=40, log_y=True)),
        """
        lr                                                                         log
         1e0┤⠒⠒⠤⠤⠤⣀⣀⡀                                              A b0-from-b3   1e-5
        1e-1┤       ⠈⠉⠒⠒⠢⠤⠤⢄⣀⣀
        1e-2┤                 ⠉⠑⠒⠒⠤⠤⠤⣀⣀⡀
        1e-3┤                          ⠈⠉⠒⠒⠢⠤⠤⢄⡀
        1e-4┤                                  ⠈⠉⠉⠑⠒⠒⠤⠤⠤⣀
        1e-5┤                                            ⠉⠉⠉⠒⠒⠢⠤⠤A
            └───────────10───────────20────────────30───────────40 epoch
        """,
    )


def test_a_narrow_chart_has_its_values_in_the_title() -> None:
    looks_like(
        text(ChartState((curve(LOSS), curve(MIOU, "B", "other")), title="loss", x_label="epoch", x_max=40), 40, 7),
        """
        loss    A .378  B .692
         2.0┤⡀
         1.5┤⠈⠑⠢⢄
         1.0┤    ⠉⠒⠤⠤⣀⡀
         0.5┤     ⣀⣀⣀⡠⠬⠭⠵⠶⠒⠒⠶⠶⠶⠶⠶⢖⣒⣒⣒⣒⣒⣒⣒⣒⣒⣊⣉⣉⣉A
         0.0┤⠤⠔⠒⠊⠉                             B
            └────────────────20────────────epoch
        """,
    )


def test_more_curves_than_rows() -> None:
    series = tuple(curve([0.1 * number] * 9, chr(65 + number), f"run-{number}") for number in range(9))
    looks_like(
        text(ChartState(series, title="loss", x_label="epoch", x_max=20)),
        """
        loss
         0.8┤⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⡁HI                                A run-0      0
         0.6┤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠄G                                 B run-1   .100
         0.4┤⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⣒⡂EF                                C run-2   .200
            │⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠄D                                 D run-3   .300
         0.2┤⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠂C                                 E run-4   .400
         0.0┤⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⣉⡁AB                                +4 more
            └────────────5─────────────10─────────────15─────────────20 epoch
        """,
    )
