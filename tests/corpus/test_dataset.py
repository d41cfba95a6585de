from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from xsearch.corpus.dataset import HubName, parse_hub_name
from xsearch.corpus.options import ReadOptions
from xsearch.corpus.source import SourceSize, measure_source, read_source
from xsearch.errors import ReadError
from xsearch.records import Document, Skipped


@pytest.fixture(autouse=True)
def _no_bars() -> None:
    datasets.disable_progress_bars()


def made(*texts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"docid": [f"d{n}" for n in range(len(texts))], "text": list(texts)})


def test_a_saved_dataset_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    made("eins", " ", "drei").save_to_disk(folder)
    told: list[int] = []
    assert list(read_source(str(folder), on_bytes=told.append)) == [
        Document("d0", "eins", source=str(folder)),
        Skipped(str(folder), "no text", 2, empty=True),
        Document("d2", "drei", source=str(folder)),
    ]
    size = measure_source(str(folder))
    assert size == SourceSize(1, sum(file.stat().st_size for file in folder.iterdir()))
    assert sum(told) == size.bytes


def test_all_splits_of_a_saved_dataset_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    splits = {name: datasets.Dataset.from_dict({"text": [f"{name} text"], "n": [1]}) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(folder)
    assert list(read_source(str(tmp_path))) == [
        Document(f"{folder}/train#1", "train text", source=str(folder), metadata={"n": 1}),
        Document(f"{folder}/test#1", "test text", source=str(folder), metadata={"n": 1}),
    ]


def test_a_damaged_saved_dataset(tmp_path: Path) -> None:
    """Pitfalls 2 and 21."""
    folder = tmp_path / "saved"
    made("eins").save_to_disk(folder)
    for file in folder.glob("*.arrow"):
        file.write_bytes(b"damaged")
    (tmp_path / "z.txt").write_text("read all the same", encoding="utf-8")
    text, skipped = read_source(str(tmp_path))
    assert isinstance(text, Document) and text.text == "read all the same"
    assert isinstance(skipped, Skipped) and skipped.source == str(folder)
    assert skipped.reason.startswith("not a saved dataset")


def test_a_named_field_that_a_saved_dataset_lacks(tmp_path: Path) -> None:
    made("eins").save_to_disk(tmp_path / "saved")
    with pytest.raises(ReadError, match=r"there is no field 'body' in it\. Its fields are docid, text\."):
        list(read_source(str(tmp_path / "saved"), ReadOptions(text_field="body")))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf:squad", HubName("squad", "", "")),
        ("hf:owner/name", HubName("owner/name", "", "")),
        ("hf:owner/name/config", HubName("owner/name", "config", "")),
        ("hf:owner/name/config:train[:5%]", HubName("owner/name", "config", "train[:5%]")),
        ("hf:squad:validation", HubName("squad", "", "validation")),
    ],
)
def test_names_on_the_hub(source: str, expected: HubName) -> None:
    assert parse_hub_name(source) == expected


@pytest.mark.parametrize("source", ["hf:", "hf:/x", "hf:a/b/c/d", "hf::train"])
def test_names_that_are_none(source: str) -> None:
    with pytest.raises(ReadError, match="this does not name a dataset"):
        read_source(source)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_the_hub_is_not_asked_when_offline(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Pitfall 29: offline means no call and no hang, but a word on what to do."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(ReadError, match=f"hf:owner/name: this dataset lies on the hub, and {variable} is set"):
        list(read_source("hf:owner/name"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A hub of our own: what is put in is what ``load_dataset`` gives; what it was asked is put beside."""
    shelf: dict[str, object] = {}

    def load(name: str, config: str | None, *, split: str | None, streaming: bool) -> object:
        shelf["asked"] = (name, config, split, streaming)
        given = shelf["dataset"]
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(datasets, "load_dataset", load)
    return shelf


def test_a_dataset_of_the_hub_is_streamed(hub: dict[str, object]) -> None:
    hub["dataset"] = made("eins", "zwei").to_iterable_dataset()
    assert list(read_source("hf:owner/name/de:corpus", ReadOptions(lang="de"))) == [
        Document("d0", "eins", "", "de", "hf:owner/name/de:corpus"),
        Document("d1", "zwei", "", "de", "hf:owner/name/de:corpus"),
    ]
    assert hub["asked"] == ("owner/name", "de", "corpus", True)
    assert measure_source("hf:owner/name") == SourceSize(1, 0)


def test_the_split_is_the_only_one_or_the_corpus(hub: dict[str, object]) -> None:
    one, other = made("eins").to_iterable_dataset(), made("zwei").to_iterable_dataset()
    for splits, text in (({"train": one}, "eins"), ({"queries": one, "corpus": other}, "zwei")):
        hub["dataset"] = datasets.IterableDatasetDict(splits)
        (item,) = read_source("hf:owner/name")
        assert isinstance(item, Document) and item.text == text
    hub["dataset"] = datasets.IterableDatasetDict({"train": one, "test": other})
    with pytest.raises(ReadError, match=r"several splits: train, test\. .* as in hf:owner/name:train"):
        list(read_source("hf:owner/name"))


@pytest.mark.parametrize(
    "error",
    [
        datasets.exceptions.DatasetNotFoundError("no such"),
        ConnectionError("down"),
        ValueError("Config name is missing"),
    ],
    ids=["not found", "no connection", "no config"],
)
def test_errors_of_the_hub_become_ours(hub: dict[str, object], error: Exception) -> None:
    hub["dataset"] = error
    with pytest.raises(ReadError, match=f"hf:owner/name: the dataset cannot be opened: {error}"):
        list(read_source("hf:owner/name"))


def test_a_connection_that_breaks_off_is_an_error_not_an_end(hub: dict[str, object]) -> None:
    """Half a corpus must not pass for the whole."""

    def rows() -> object:
        yield {"text": "eins"}
        raise ConnectionError("reset by peer")

    hub["dataset"] = datasets.IterableDataset.from_generator(rows)
    with pytest.raises(ReadError, match="the connection broke off: reset by peer"):
        list(read_source("hf:owner/name"))
