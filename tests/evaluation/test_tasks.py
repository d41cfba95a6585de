"""Tasks as MTEB builds them: documents, queries and judgements from SQuAD-shaped files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import DE_Q, EN, squad
from xsearch.errors import EvaluationError
from xsearch.evaluation import archive
from xsearch.evaluation.squad import Row
from xsearch.evaluation.tasks import Split, Subset, build_subset, load_mlqa, load_xquad

Write = Callable[[Mapping[str, Any]], Path]

LANGS = ["ar", "de", "en", "es", "hi", "vi", "zh"]
# Documents/queries of MLQA dev by pair, as MTEB counts them; rows = context language, columns = question language.
MLQA_DEV = {
    "ar": "439/517 170/207 439/517 140/161 155/186 148/163 155/188",
    "de": "179/207 456/512 456/512 181/196 146/163 163/182 167/190",
    "en": "438/517 447/512 978/1148 439/500 423/507 452/511 430/504",
    "es": "145/161 184/196 454/500 454/500 165/187 176/189 150/161",
    "hi": "152/186 142/163 425/507 157/187 425/507 157/177 162/189",
    "vi": "152/163 161/182 451/511 166/189 157/177 451/511 166/184",
    "zh": "161/188 164/190 443/504 148/161 163/189 168/184 443/504",
}


def relevant(subset: Subset) -> list[list[int]]:
    return [sorted(documents) for documents in subset.relevant]


@pytest.mark.shared
def test_counts_of_mlqa_dev_equal_mtebs(shared: Path) -> None:
    task = load_mlqa(shared / "data" / "eval" / "MLQA_V1-dev.zip")
    counts = {subset.key: f"{len(subset.documents)}/{len(subset.queries)}" for subset in task.subsets}
    expected = {
        f"{doc}-{query}": cell for doc, row in MLQA_DEV.items() for query, cell in zip(LANGS, row.split(), strict=True)
    }
    assert counts == expected
    assert sum(len(subset.documents) for subset in task.subsets) == 13_743
    assert sum(len(subset.queries) for subset in task.subsets) == 15_747
    assert {len(documents) for subset in task.subsets for documents in subset.relevant} == {1}


def test_a_subset_from_a_folder(mlqa_files: Mapping[str, Any], write_files: Write) -> None:
    task = load_mlqa(write_files(mlqa_files))
    assert (task.name, task.split) == ("MLQARetrieval", "dev")
    assert [subset.key for subset in task.subsets] == ["de-de", "de-en", "en-de", "en-en"]
    en_de = task.subsets[2]
    assert en_de.documents == tuple(EN)
    assert en_de.queries == tuple(DE_Q)
    assert en_de.document_ids == ("C0", "C1", "C2", "C3")
    assert en_de.query_ids == ("Q0", "Q1", "Q2", "Q3")
    assert en_de.question_ids == ("id0", "id1", "id2", "id3")
    assert relevant(en_de) == [[0], [1], [2], [3]]


def test_a_zip_is_read_without_unpacking(mlqa_files: Mapping[str, Any], write_files: Write, tmp_path: Path) -> None:
    path = tmp_path / "MLQA_V1.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in mlqa_files.items():
            zipped.writestr(f"../../MLQA_V1/dev/{name}", json.dumps(content))
            zipped.writestr(f"__MACOSX/._{name}", b"\x00\x05\x16\x07")
    before = sorted(tmp_path.rglob("*"))
    assert load_mlqa(path) == load_mlqa(write_files(mlqa_files))
    assert [p for p in before if not p.exists()] == []
    assert not (tmp_path.parent.parent / "MLQA_V1").exists()


def test_repeated_questions_and_contexts_merge_by_exact_string() -> None:
    rows = [
        Row("a", "Who?", "One."),
        Row("b", "Who?", "Two."),
        Row("c", "Why?", "One."),
        Row("d", "who?", "One. "),
        Row("e", "Who?", "One."),
    ]
    subset = build_subset(iter(rows), doc_lang="en", query_lang="en")
    assert subset.queries == ("Who?", "Why?", "who?")
    assert subset.documents == ("One.", "Two.", "One.")  # the third differs by a blank, which encoding strips
    assert subset.document_ids == ("C0", "C1", "C2")
    assert relevant(subset) == [[0, 1], [0], [2]]
    assert subset.question_ids == ("e", "c", "d")


def test_composed_and_decomposed_forms_stay_apart() -> None:
    rows = [Row("a", "caf\u00e9", "x"), Row("b", "cafe\u0301", "x")]
    assert relevant(build_subset(iter(rows), doc_lang="fr", query_lang="fr")) == [[0], [0]]


def test_xquad_names_queries_by_last_row_and_documents_by_hash(tmp_path: Path) -> None:
    (tmp_path / "xquad.th.json").write_text(
        json.dumps(squad([("แมว", [("56", "ใคร"), ("57", "อะไร")]), ("หมา", [("58", "ใคร")])])), encoding="utf-8"
    )
    (tmp_path / "xquad.de.json").write_text(json.dumps(squad([("Hund", [("1", "Wer?")])])), encoding="utf-8")
    (tmp_path / "xquad.md").write_text("about")
    task = load_xquad(tmp_path)
    assert (task.name, task.split) == ("XQuADRetrieval", "validation")
    assert [subset.key for subset in task.subsets] == ["de-de", "th-th"]
    thai = task.subsets[1]
    assert thai.query_ids == ("58", "57")
    assert thai.document_ids == tuple(hashlib.sha256(text.encode()).hexdigest() for text in ("แมว", "หมา"))
    assert relevant(thai) == [[0, 1], [0]]
    assert [subset.key for subset in load_xquad(tmp_path, langs=["tha"]).subsets] == ["th-th"]


def test_langs_keep_pairs_of_those_languages(mlqa_files: Mapping[str, Any], write_files: Write) -> None:
    data = write_files(mlqa_files)
    assert [subset.key for subset in load_mlqa(data, langs=["de"]).subsets] == ["de-de"]
    assert [subset.key for subset in load_mlqa(data, langs=["ENG", " de"]).subsets][-1] == "en-en"
    with pytest.raises(EvaluationError, match=r"no data in xx.*languages there are de, en"):
        load_mlqa(data, langs=["en", "xx"])


def test_an_absent_pair_of_present_languages(mlqa_files: Mapping[str, Any], write_files: Write) -> None:
    name = "dev-context-en-question-de.json"
    with pytest.raises(EvaluationError, match=r"no pair of the languages de\. The pairs there are en-de"):
        load_mlqa(write_files({name: mlqa_files[name]}), langs=["de"])


def test_the_wrong_split_names_the_right_one(mlqa_files: Mapping[str, Any], write_files: Write) -> None:
    with pytest.raises(EvaluationError, match=r"no test files, only dev.*--split dev"):
        load_mlqa(write_files(mlqa_files), split=Split.TEST)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is not there"):
        load_mlqa(tmp_path / "absent")
    with pytest.raises(EvaluationError, match=r"holds no dev-context-XX-question-YY\.json"):
        load_mlqa(tmp_path)
    (tmp_path / "MLQA_V1.zip").write_bytes(b"")
    with pytest.raises(EvaluationError, match=r"--data .*MLQA_V1\.zip"):
        load_mlqa(tmp_path)
    with pytest.raises(EvaluationError, match=r"holds no xquad\.XX\.json"):
        load_xquad(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "has no 'data' that is a list"),
        (b'{"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}', r"data\[0\].paragraphs\[0\] has no 'context'"),
        (b'{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1"}]}]}]}', r"qas\[0\] has no 'question'"),
        (b'{"data": []}', "holds no question"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "dev-context-en-question-en.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=f"{path.name}.*{message}"):
        load_mlqa(tmp_path)


def test_a_file_that_is_there_twice_is_refused(mlqa_files: Mapping[str, Any], write_files: Write) -> None:
    data = write_files(mlqa_files)
    name = "dev-context-en-question-en.json"
    (data / name).write_bytes((data / "MLQA_V1" / "dev" / name).read_bytes())
    with pytest.raises(EvaluationError, match=f"{name} twice"):
        load_mlqa(data)


def test_damaged_archives(mlqa_files: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "MLQA_V1.zip"
    name = "dev-context-en-question-en.json"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, json.dumps(mlqa_files[name]))
    whole = path.read_bytes()

    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 100)
    with pytest.raises(EvaluationError, match=f"{name} is larger than"):
        load_mlqa(path)
    monkeypatch.undo()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match="is not a zip archive"):
        load_mlqa(path)
    start = whole.index(name.encode()) + len(name)
    path.write_bytes(whole[: start + 20] + b"\x00" * 20 + whole[start + 40 :])
    with pytest.raises(EvaluationError, match=f"{name} cannot be read"):
        load_mlqa(path)
