"""An encoder by its name: the built-in one, an exported folder, or any model of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.exported import CONFIG_FILE
from xsearch.encoder.protocol import Encoder
from xsearch.encoder.stepped import REFERENCE_FILE, SteppedEncoder, read_reference, read_step
from xsearch.errors import EncoderError

BUILTIN = "builtin"

# A queue, because whoever takes an encoder takes it from all other threads in one step.
_preloaded: SimpleQueue[Future[Encoder]] = SimpleQueue()


@contextmanager
def preloaded_builtin() -> Iterator[None]:
    """Begins to load the built-in encoder in the background; ``load_encoder("builtin")`` within the block takes it.

    Most of it happens outside Python's lock: a command that begins so imports the rest of what it needs meanwhile.
    """
    with ThreadPoolExecutor(1) as pool:
        _preloaded.put(pool.submit(BuiltinEncoder))
        try:
            yield
        finally:
            with suppress(Empty):
                _preloaded.get_nowait()


def load_encoder(name: str = BUILTIN, *, device: str = "cpu") -> Encoder:
    """The encoder of that name, with the step that lies in its folder.

    Args:
        name: ``builtin``; the folder of an exported encoder; the folder or hub name of a sentence-transformers or
            Hugging Face model (needs the extra ``hub``); or a folder that ``xsearch debias`` wrote for any of these.
        device: ``cpu``, ``cuda`` or ``cuda:1``; the built-in encoder runs on the CPU whatever it says.

    Raises:
        EncoderNotFoundError: there is no such model.
        MissingExtraError: it needs the extra ``hub``.
        EncoderError: its step is damaged, or was fitted for another encoder.
    """
    if name == BUILTIN:
        try:
            preloaded = _preloaded.get_nowait()
        except Empty:
            return BuiltinEncoder()
        return preloaded.result()
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        return BuiltinEncoder(folder)
    base = read_reference(folder)
    if base is not None:
        return _debiased(folder, base, device)
    from xsearch.encoder.hub import HubEncoder

    encoder = HubEncoder(name, device=device)
    step = read_step(folder) if folder.is_dir() else None
    return encoder if step is None else SteppedEncoder(encoder, step)


def _debiased(folder: Path, base: str, device: str) -> Encoder:
    """The encoder that a folder names, followed by the step in it."""
    step = read_step(folder)
    if step is None:
        raise EncoderError(
            f"{folder} names the encoder {base} and holds no step",
            "The step lies beside the file that names the encoder",
            "Fit it again: xsearch debias ENCODER -o FOLDER --parallel FILE...",
        )
    if (Path(base) / REFERENCE_FILE).is_file():
        raise EncoderError(
            f"{folder} names {base}, which names another encoder in turn",
            "A debiased folder names the encoder itself",
            "Fit the step again: xsearch debias ENCODER -o FOLDER --parallel FILE...",
        )
    return SteppedEncoder(load_encoder(base, device=device), step, name=str(folder))
