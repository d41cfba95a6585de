"""The guard against training on evaluation data: what it must catch, what it must let pass, what it must read."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from xsearch.errors import EvaluationError
from xsearch.training.overlap import EvaluationGuard, normalised

CONTEXT = "The old lighthouse on the northern cape was built of red brick in 1871."
CHINESE = "北方海角上的旧灯塔建于一八七一年，用红砖砌成，至今仍在使用。"
THAI = "ประภาคารเก่าที่แหลมเหนือสร้างด้วยอิฐแดง"
JAPANESE = "北の岬にある古い灯台は赤いレンガで建てられました。"
HINDI = "उत्तरी अंतरीप पर पुराना प्रकाशस्तंभ लाल ईंटों से वर्ष में बनाया गया था।"


def squad(context: str, question: str, **more: Any) -> dict[str, Any]:
    qas = [{"id": "1", "question": question, "answers": []}]
    return {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas, **more}]}]}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Hello,  WORLD!", "hello world"),
        ("«Straße» — ﬁne", "strasse fine"),
        ("don’t / don't", "don t don t"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("cafe\u0301", "caf\xe9"),
        ("soft\u00adhyphen zero\u200bwidth می‌خواهم", "softhyphen zerowidth میخواهم"),
        ("हिन्दी में।", "हिन्दी में"),  # vowel signs and virama are marks, and stay
        ("...", ""),
        ("", ""),
    ],
)
def test_normalised(text: str, form: str) -> None:
    assert normalised(text) == form
    assert normalised(form) == form


@pytest.mark.parametrize(
    ("text", "overlaps"),
    [
        (CONTEXT, True),
        ("the old LIGHTHOUSE on the northern cape, was", True),  # 8 words
        ("old lighthouse on the northern cape was built", True),
        ("We saw: northern cape was built of red brick in July", True),
        ("northern cape was built of red brick", False),  # 7 words
        ("The old lighthouse on the southern cape was built of red stone in 1871.", False),  # 5 and 5 in a row
        ("", False),
        ("!?", False),
    ],
)
def test_a_run_of_eight_words(text: str, overlaps: bool) -> None:
    assert EvaluationGuard([CONTEXT]).overlaps(text) is overlaps


@pytest.mark.parametrize("context", [CHINESE, THAI, JAPANESE])
def test_a_run_of_sixteen_characters_where_there_are_no_spaces(context: str) -> None:
    guard = EvaluationGuard([context])
    letters = normalised(context).replace(" ", "")
    assert guard.overlaps(letters[3:19])
    assert guard.overlaps(" ".join(letters[3:19]))  # spaces do not count
    assert guard.overlaps(f"Look: {letters[3:19]} (end)")
    assert not guard.overlaps(letters[3:18])
    assert not guard.overlaps(f"{letters[3:11]}X{letters[11:18]}")


def test_a_run_passes_over_punctuation_and_digits_count_as_characters() -> None:
    guard = EvaluationGuard(["灯塔于1871年用红砖砌成，高30米，至今仍在使用。"])
    assert guard.overlaps("灯塔于1871年用红砖砌成高30")
    assert guard.overlaps("年用红砖砌成。高３０米——至今仍在使用")
    assert not guard.overlaps("红砖砌成高40米")


def test_a_latin_name_within_chinese_is_no_run() -> None:
    guard = EvaluationGuard(["他们使用微软的 Microsoft Windows Server 2019 系统来管理数据库。"])
    assert not guard.overlaps("我有 Microsoft Windows Server 2019 电脑")
    assert not guard.overlaps("用微软的 Microsoft Windows 系统")
    assert not guard.overlaps("Server2019系统来管理数据")  # 17 characters, at most 7 of 16 are Chinese
    assert guard.overlaps("rver2019系统来管理数据库")  # 16 characters, 8 of them Chinese


def test_words_of_scripts_with_vowel_signs_are_words() -> None:
    guard = EvaluationGuard([HINDI])
    words = normalised(HINDI).split()
    assert guard.overlaps(" ".join(words[2:10]))
    assert not guard.overlaps(" ".join(words[2:9]))


@pytest.mark.parametrize(
    ("line", "text", "overlaps"),
    [
        ("Where is the station?", "where is the station", True),
        ("Where is the station?", "Where is the station now?", False),
        ("Where is the station?", "is the station", False),
        ("I agree fully.", "I agree, fully!", True),  # three words
        ("I agree.", "I agree.", False),  # everybody's
        ("Yes.", "Yes.", False),
        ("车站在哪里呢？", "车站在哪里呢", True),  # six characters
        ("车站在哪里？", "车站在哪里？", False),
        ("여기 어디 예요", "여기 어디 예요", True),  # Korean has spaces, and is counted in words
        ("안녕하세요", "안녕하세요", False),
    ],
)
def test_a_line_is_met_as_a_whole(line: str, text: str, overlaps: bool) -> None:
    assert EvaluationGuard(lines=[line]).overlaps(text) is overlaps
    # A short context is a line as well.
    assert EvaluationGuard([line]).overlaps(text) is overlaps


def test_a_run_of_a_question_is_no_overlap() -> None:
    question = "In which year was the old lighthouse on the cape built of brick?"
    guard = EvaluationGuard(lines=[question])
    assert guard.overlaps(question)
    assert not guard.overlaps(f"{question} Nobody knows.")


def test_an_empty_guard_finds_nothing() -> None:
    assert not EvaluationGuard().overlaps(CONTEXT)
    assert EvaluationGuard().size == 0


def test_size_counts_what_is_known() -> None:
    # 14 words have 7 runs of 8, and the whole is a line; the second line is too short, the third is the first again.
    assert EvaluationGuard([CONTEXT], ["No way.", CONTEXT.upper()]).size == 8


class TestRead:
    def test_every_kind_of_file(self, tmp_path: Path) -> None:
        mlqa, lareqa = tmp_path / "MLQA_V1.zip", tmp_path / "mlqa-r.zip"
        with zipfile.ZipFile(mlqa, "w") as archive:
            archive.writestr("MLQA_V1/dev/dev-context-en-question-de.json", json.dumps(squad(CONTEXT, "Wer war das?")))
        with zipfile.ZipFile(lareqa, "w") as archive:
            archive.writestr("mlqa-r/LICENSE", "All rights of this licence text are yours to keep.")
            sentences = squad("x", "Who was that?", sentences=["Ships saw it."], sentence_breaks=[[0, 1]])
            archive.writestr("mlqa-r/en.json", json.dumps(sentences))
        tatoeba = tmp_path / "tatoeba.zip"
        with zipfile.ZipFile(tatoeba, "w") as archive:
            archive.writestr("tatoeba/tatoeba.deu-eng.deu", "Das Haus brennt.\nEs regnet heute sehr.\n")
        folder = tmp_path / "more"
        (folder / "deep").mkdir(parents=True)
        (folder / "xquad.zh.json").write_text(json.dumps(squad(CHINESE, "灯塔建于哪一年？")), encoding="utf-8")
        (folder / "deep" / "lines.tsv").write_text("one two three\tvier fünf sechs\n", encoding="utf-8")
        (folder / "README.md").write_text("Read me before you go.")
        text = tmp_path / "lines.txt"
        text.write_text("\ufeffthe first line\r\nthe second line\r\n", encoding="utf-8")
        guard = EvaluationGuard.read([mlqa, lareqa, tatoeba, folder, text])
        for known in (
            CONTEXT[:60], "Wer war das?", "Who was that?", "Ships saw it.", "Das Haus brennt.", "Es regnet heute sehr.",
            CHINESE[2:24], "灯塔建于哪一年", "One, two, three.", "vier fünf sechs", "The first line", "The second line",
        ):  # fmt: skip
            assert guard.overlaps(known), known
        for unknown in ("Read me before you go.", "All rights of this licence text are yours to keep.", "Es regnet."):
            assert not guard.overlaps(unknown), unknown

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.json", b"{", "is not JSON"),
            ("a.json", b"[]", "SQuAD's layout"),
            ("a.json", json.dumps(squad("", "")).encode(), "holds no text"),
            ("a.json", b'{"data": []}', "holds no text"),
            ("a.txt", b"\n \n", "holds no text"),
            ("a.txt", b"caf\xe9", "is not UTF-8"),
            ("a.zip", b"PK?", "not a zip archive"),
            ("a.parquet", b"PAR1", "of no known kind"),
        ],
    )
    def test_what_cannot_be_guarded_is_an_error(self, tmp_path: Path, name: str, content: bytes, reason: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EvaluationError, match=reason):
            EvaluationGuard.read([tmp_path / name])
        with pytest.raises(EvaluationError):
            EvaluationGuard.read([tmp_path])

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match=r"missing\.json cannot be read"):
            EvaluationGuard.read([tmp_path / "missing.json"])
        with pytest.raises(EvaluationError, match=r"missing\.zip is not there"):
            EvaluationGuard.read([tmp_path / "missing.zip"])
        with pytest.raises(EvaluationError, match="holds no evaluation data"):
            EvaluationGuard.read([tmp_path])


def test_a_guard_is_itself_after_pickling_and_refuses_another_hash_seed(tmp_path: Path) -> None:
    packed = pickle.dumps(EvaluationGuard([CONTEXT]))
    assert pickle.loads(packed).overlaps(CONTEXT)  # noqa: S301
    (tmp_path / "guard").write_bytes(packed)
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "guard")],
        env={"PYTHONHASHSEED": "12345"}, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "another hash seed" in done.stderr
