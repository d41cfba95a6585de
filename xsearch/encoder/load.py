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
    """The encoder of that name.

    Args:
        name: ``builtin``; the folder of an exported encoder; or the folder or hub name of a sentence-transformers or
            Hugging Face model (needs the extra ``hub``).
        device: ``cpu``, ``cuda`` or ``cuda:1``; the built-in encoder runs on the CPU whatever it says.

    Raises:
        EncoderNotFoundError: there is no such model.
        MissingExtraError: it needs the extra ``hub``.
    """
    if name == BUILTIN:
        try:
            preloaded = _preloaded.get_nowait()
        except Empty:
            return BuiltinEncoder()
        return preloaded.result()
    if (Path(name) / CONFIG_FILE).is_file():
        return BuiltinEncoder(Path(name))
    from xsearch.encoder.hub import HubEncoder

    return HubEncoder(name, device=device)
