"""`memzoo eval RUN --stream`: read a whole document and carry the memory through it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memzoo.errors import InputError

from ..data.corpus import BEGIN
from ..data.task import MOST_TOKENS, Split
from ..models.language_model import LanguageModel
from ..train.runs import LoadedRun
from .document import Document, check_bytes, of_files, of_task
from .recall import Row
from .results import ResultRow, layer_name, result_rows
from .state_file import check_place, load_state, parameters_digest, save_state
from .stream import Carried, Streamed, begin, stream
from .stream_page import PAGE, write_stream_page
from .stream_show import StreamScreen, summary


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """Read one document of any length, in constant memory."""

    stream: tuple[str, ...] | None = None
    """Read these files (- is the standard input), joined end to end, as one document;
    without names, read the run's own text of --split."""
    piece: int = 1024
    """Bytes read at a time; affects only speed and memory."""
    tokens: int | None = None
    """Stop after this many bytes of the document; None: at its end."""
    capacity: int | None = None
    """Bytes of the document that a growing state has room for; None: the run's length.
    States of constant size ignore it."""
    load_state: Path | None = None
    """Continue from a document's state that --save-state wrote."""
    save_state: Path | None = None
    """Write the state after the document to an .npz file, for --load-state here or in
    memzoo generate."""
    surprise: bool = True
    """Report the surprise of neural memories; costs a second pass over them."""

    def __post_init__(self) -> None:
        for name in ("piece", "tokens", "capacity"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
            if value is not None and value > MOST_TOKENS:
                raise InputError(f"{name} is {value}; give {MOST_TOKENS} or less")
        if not all(name.strip() for name in self.stream or ()):
            raise InputError(
                f"stream is {self.stream}, and a name in it is empty; name files, - "
                "for the standard input, or nothing for the run's own text"
            )
        if self.load_state is not None and self.capacity is not None:
            raise InputError(
                f"capacity is {self.capacity}; leave it out, --load-state sets it"
            )
        if self.stream is None:
            for field in dataclasses.fields(self):
                if getattr(self, field.name) != field.default:
                    raise InputError(
                        f"{field.name} needs --stream; add --stream, or leave it out"
                    )


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """Results of reading a document, for results.json, timings.json and people."""

    streamed: Streamed
    measured: list[Row]
    rows: list[ResultRow]
    timings: dict[str, Any]
    said: Sequence[str]
    layer: str
    document: str

    def write_page(self, run: Path) -> Path:
        """Write the page to the run's folder and return its path.

        Raises:
            SaveError: the page cannot be written.
        """
        return write_stream_page(
            run / PAGE,
            self.streamed,
            self.measured,
            layer=self.layer,
            document=self.document,
            said=self.said,
        )


def stream_run(
    run: Path, loaded: LoadedRun, options: StreamOptions, split: Split
) -> StreamReport:
    """Read the document with the run's model; save the state if the options ask for it.

    Raises:
        MemzooError: the document does not fit, is empty, or the run reads no bytes.
        NonFiniteError: a loss or the state is not finite.
        SaveError: the state cannot be written.
        DataError: the data is missing.
        OSError: a file is missing.
    """
    experiment, model = loaded.config, loaded.model
    check_bytes(experiment.task)
    if options.save_state is not None:
        check_place(options.save_state)
    said = []
    carried = _start(loaded, options, said)
    before = carried.read
    document = _document(loaded, options, split)
    with StreamScreen(document.total) as screen:
        streamed = stream(
            model,
            document.parts,
            carried,
            piece=options.piece,
            surprise=options.surprise,
            total=document.total,
            report=screen.at,
        )
    layer = layer_name(experiment)
    if options.save_state is not None:
        save_state(
            options.save_state,
            streamed.carried,
            layer=layer,
            run=run.resolve().name,
            checkpoint_step=loaded.step,
            parameters=parameters_digest(loaded.model),
        )
        said.append(f"the state after the document is in {options.save_state}")
    if streamed.surprise is None:
        said.append(_no_surprise(options.surprise, layer))
    setting: dict[str, Any] = {"document": document.name, "length": streamed.length}
    if before:
        setting["read_before"] = before
    measured = streamed.tally.rows(setting, streamed.carried.read)
    return StreamReport(
        streamed=streamed,
        measured=measured,
        rows=result_rows(experiment, measured, loaded.step),
        timings=_timings(streamed, document, options, loaded.step),
        said=[*summary(streamed), *said],
        layer=layer,
        document=document.name,
    )


def _start(loaded: LoadedRun, options: StreamOptions, said: list[str]) -> Carried:
    """Return the beginning of a document, or the state that a file holds."""
    model: LanguageModel = loaded.model
    if options.load_state is None:
        return begin(model, BEGIN, options.capacity or loaded.config.task.length)
    carried, about = load_state(
        options.load_state, model, loaded.config.task.vocab_size
    )
    said.append(
        f"continued from {options.load_state}, after {carried.read:,} bytes that step "
        f"{about.get('checkpoint_step')} of {about.get('run')} had read"
    )
    return carried


def _document(loaded: LoadedRun, options: StreamOptions, split: Split) -> Document:
    assert options.stream is not None
    if options.stream:
        document = of_files(options.stream)
    else:
        document = of_task(loaded.config.task, split)
    return document.first(options.tokens)


def _no_surprise(asked: bool, layer: str) -> str:
    if not asked:
        return "surprise: not requested"
    return f"surprise: none, no layer of {layer} is a neural memory that reports it"


def _timings(
    streamed: Streamed, document: Document, options: StreamOptions, step: int
) -> dict[str, Any]:
    """Return the numbers that a second reading would not reproduce."""
    return {
        "command": "eval --stream",
        "document": document.name,
        "checkpoint_step": step,
        "tokens": streamed.length,
        "piece": options.piece,
        "surprise": streamed.surprise is not None,
        "wall_seconds": round(streamed.seconds, 3),
        "first_piece_seconds": round(streamed.first_seconds, 3),
        "tokens_per_second": round(streamed.tokens_per_second, 1),
        "resident_bytes": {str(n): size for n, size in streamed.resident.items()},
    }
