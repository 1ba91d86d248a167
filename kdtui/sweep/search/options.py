"""The options of a search: those of ``kdtui search`` and the fields of the form, from one table; light to import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kdtui.export_options import option as export_option

DEFAULT_DEVICE = "cpu:1"
DEFAULT_PRECISION = "fp32"


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: Its name as a field of the form; the flag is made of it.
        help: What it sets, a sentence.
        default: What an empty text stands for, as text; empty if there is no default.
        label: Its label in the form, if that is not the name.
        required: Whether a search needs it.
        words: Texts that it may have, if they are few; they are suggestions if ``free``.
        free: Whether other texts are possible.
    """

    name: str
    help: str
    default: str = ""
    label: str = ""
    required: bool = False
    words: tuple[str, ...] = ()
    free: bool = True

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return f"--{self.name}"

    @property
    def title(self) -> str:
        """Its label in the form."""
        return self.label or self.name


_OPTIONS = (
    Option("teacher", "Teacher, a checkpoint or a run; its students are searched.", required=True),
    Option(
        "latency",
        "Most time for one image, such as 10ms or 500us.",
        required=True,
        words=("1ms", "2ms", "5ms", "10ms", "20ms", "50ms", "100ms"),
    ),
    Option("parameters", "Most parameters, such as 5M.", "any", words=("1M", "2M", "5M", "10M")),
    Option("size", "Largest exported file, such as 8MiB.", "any", words=("1MiB", "2MiB", "4MiB", "8MiB", "16MiB")),
    Option("retention", "Share of the teacher's score to reach, such as 95%.", "no goal", words=("90%", "95%", "98%")),
    Option(
        "on",
        "Where it is measured: cpu:THREADS or gpu.",
        DEFAULT_DEVICE,
        label="measured on",
        words=(DEFAULT_DEVICE, "gpu"),
    ),
    Option(
        "runtime",
        "What runs it; default onnxruntime, on a GPU torch.",
        "auto",
        words=("onnxruntime", "torch"),
        free=False,
    ),
    Option(
        "precision",
        f"{export_option('precision').says} Here fp32 or int8.",
        DEFAULT_PRECISION,
        words=("fp32", "int8"),
        free=False,
    ),
    Option("trials", "How many trials; default 12.", "12"),
    Option("hours", "Time for all trainings, instead of --trials."),
    Option("seeds", "Seeds, as in 0,1,2 or 0-4; for the final trainings, trials have the first.", "0,1,2"),
    Option("profile", "Profile; of data and training. Default: that of the teacher's run.", "the teacher's"),
    Option("encoders", "Encoders to try; default: 12 small ones.", "12 small ones", words=()),
    Option("architectures", "Architectures to try; default Unet,FPN.", "Unet,FPN"),
    Option("widths", "Decoder widths as shares of the usual one; default 1,0.5,0.25,0.125.", "1,0.5,0.25,0.125"),
)
OPTIONS: Mapping[str, Option] = {one.name: one for one in _OPTIONS}
"""The options by name, in the order of the command line; ``--set`` is not among them."""


@dataclass(frozen=True)
class SearchRequest:
    """A requested search, as texts.

    Attributes:
        texts: Text of each option by name, without surrounding spaces; empty or missing for the default.
        sets: ``--set`` texts.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """Text of an option; empty for the default."""
        assert name in OPTIONS
        return self.texts.get(name, "")

    def words(self, more: Sequence[str] = ()) -> list[str]:
        """The words of the command line that asks for the same search.

        Args:
            more: Further words at its end.
        """
        return [*self._words(), *more]

    def _words(self) -> Iterator[str]:
        yield from ("kdtui", "search")
        for option in OPTIONS.values():
            text = self.text(option.name)
            if text.startswith("-"):  # which would be read as another option
                yield f"{option.flag}={text}"
            elif text or option.required:
                yield from (option.flag, text or {"teacher": "CKPT|RUN"}.get(option.name, "TIME"))
        for text in self.sets:
            yield from ("--set", text)
