"""Golden tables for language codes and detection (pitfalls 14 and 15)."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest

from xsearch.errors import InvalidArgumentError
from xsearch.text.language import (
    canonical_tag,
    detect,
    detect_many,
    detect_with_confidence,
    language_name,
    matches,
    to_iso639_3,
)
from xsearch.text.scripts import count_scripts, keep_script, script_of

# The 112 languages of the Tatoeba test set.
TATOEBA = """afr amh ang ara arq arz ast awa aze bel ben ber bos bre bul cat cbk ceb ces cha cmn cor csb cym dan deu dsb
dtp ell epo est eus fao fin fra fry gla gle glg gsw heb hin hrv hsb hun hye ido ile ina ind isl ita jav jpn kab kat kaz
khm kor kur kzj lat lfn lit lvs mal mar max mhr mkd mon nds nld nno nob nov oci orv pam pes pms pol por ron rus slk slv
spa sqi srp swe swg swh tam tat tel tgl tha tuk tur tzl uig ukr urd uzb vie war wuu xho yid yue zsm"""


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("de", "de"), ("DEU", "de"), ("ger", "de"), ("German", "de"), ("deu_Latn", "de"), ("de-1996", "de"),
        ("ara", "ar"), ("arb", "ar"), ("ara-Arab", "ar"), ("arz_Arab", "arz"), ("ar-EG", "ar-EG"),
        ("zho", "zh"), ("cmn", "zh"), ("zho-Hans", "zh"), ("zh-CN", "zh"), ("zh-Hans-CN", "zh"), ("chi", "zh"),
        ("zh_TW", "zh-Hant"), ("zho_Hant", "zh-Hant"), ("zh-Hant", "zh-Hant"), ("zh-HK", "zh-Hant-HK"),
        ("zh-yue", "yue"), ("yue_Hant", "yue"), ("Traditional Chinese", "zh-Hant"),
        ("eng_Latn", "en"), ("en_US.UTF-8", "en-US"), ("pt_BR", "pt-BR"), ("por", "pt"),
        ("Brazilian Portuguese", "pt-BR"),
        ("iw", "he"), ("in", "id"), ("ji", "yi"), ("pes", "fa"), ("prs_Arab", "fa-AF"), ("nob", "nb"), ("nor", "no"),
        ("sr-Latn", "sr-Latn"), ("srp_Cyrl", "sr"), ("uz-Cyrl", "uz-Cyrl"), ("uzn_Latn", "uz"), ("hin_Latn", "hi-Latn"),
        ("jpn-Jpan", "ja"), ("kor-Hang", "ko"), ("khk_Cyrl", "mn"), ("als_Latn", "sq"), ("Haitian Creole", "ht"),
        ("tlh", "tlh"), ("", "und"), ("und", "und"), ("unknown", "und"), ("mul", "und"), ("zxx", "und"), ("C", "und"),
        ("qq", "und"), ("gibberish", "und"), (" fr ", "fr"),
    ],
)  # fmt: skip
def test_canonical_tag(code: str, tag: str) -> None:
    assert canonical_tag(code) == tag
    assert canonical_tag(tag) == tag


@pytest.mark.parametrize("code", ["12", "not a language", "de/fr", "日本語", "1a", "e n"])
def test_malformed_codes_are_refused(code: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        canonical_tag(code)
    assert code in str(caught.value)


def test_every_language_of_tatoeba_has_a_row_and_comes_back() -> None:
    joined = {"arb": "ara", "cmn": "zho", "pes": "fas", "swh": "swa", "lvs": "lav", "zsm": "msa", "kzj": "dtp"}
    codes = TATOEBA.split()
    assert len(codes) == 112
    for code in codes:
        assert language_name(code) != canonical_tag(code), code
        assert to_iso639_3(code) == joined.get(code, code)


def test_codes_for_printing() -> None:
    assert to_iso639_3("zh") == "zho"
    assert to_iso639_3("zh-Hant", script=True) == "zho-Hant"
    assert to_iso639_3("ar", script=True) == "ara-Arab"
    assert to_iso639_3("und") == "und"
    assert to_iso639_3("tlh", script=True) == "tlh"
    assert language_name("zh-Hant") == "Chinese (Hant)"
    assert language_name("und") == "und"


@pytest.mark.parametrize(
    ("tag", "wanted", "met"),
    [
        ("zh-Hant", "zh", True), ("zh", "zh-Hant", False), ("pt-BR", "pt", True), ("pt", "pt-BR", False),
        ("yue", "zh", True), ("zh", "yue", False), ("nb", "no", True), ("arz", "ara", True), ("sr-Latn", "srp", True),
        ("de", "en", False), ("und", "und", True), ("und", "en", False), ("zh-Hant-HK", "zh-Hant", True),
    ],
)  # fmt: skip
def test_matches(tag: str, wanted: str, met: bool) -> None:
    assert matches(tag, wanted) is met


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("Wer hat den Vertrag unterschrieben?", "de"),
        ("What is the capital of France?", "en"),
        ("¿Quién descubrió América?", "es"),
        ("Кто написал роман «Война и мир»?", "ru"),
        ("Хто написав роман «Війна і мир»?", "uk"),
        ("Ко је написао роман „Рат и мир“?", "sr"),
        ("ما هي عاصمة مصر؟", "ar"),
        ("پایتخت ایران کدام شهر است؟", "fa"),
        ("پاکستان کا دارالحکومت کیا ہے؟", "ur"),
        ("भारत की राजधानी क्या है?", "hi"),
        ("Thủ đô của Việt Nam là gì?", "vi"),
        ("日本の首都はどこですか", "ja"),
        ("中国的首都是哪里？", "zh"),
        ("台灣的首都是哪裡？", "zh-Hant"),
        ("佢唔想我去", "yue"),
        ("서", "ko"), ("ก", "th"), ("の", "ja"), ("λ", "el"), ("ש", "he"), ("ქ", "ka"), ("հ", "hy"), ("ক", "bn"),
        ("অসমীয়া ভাষাৰ", "as"), ("த", "ta"), ("తె", "te"), ("ગુ", "gu"), ("ਪੰ", "pa"), ("ಕ", "kn"), ("മ", "ml"),
        ("ខ្មែរ", "km"), ("ລາວ", "lo"), ("မြန်မာ", "my"), ("አማርኛ", "am"), ("සිං", "si"), ("བོད", "bo"), ("ދިވެހި", "dv"),
        ("איך האָב דיך ליב", "yi"), ("װאָס", "yi"), ("אני אוהב אותך", "he"), ("שָׁלוֹם עֲלֵיכֶם", "he"),
        ("من کوردم و لە هەولێر دەژیم", "ckb"),
        ("سنڌي ٻولي", "sd"),
    ],
)  # fmt: skip
def test_detect(text: str, lang: str) -> None:
    assert detect(text) == lang
    assert detect(unicodedata.normalize("NFD", text)) == lang


@pytest.mark.parametrize(
    "text", ["", " ", "2024", "?!", "🙂", "\ud800", "ok", "München", "北京", "東京", "https://", "x²"]
)
def test_too_little_is_und(text: str) -> None:
    """Pitfall 14: below a length or confidence the answer is und, not a guess."""
    assert detect(text) == "und"


def test_short_russian_is_not_macedonian() -> None:
    """Pitfall 14 (lingua-py 100): "как дела" was called Macedonian."""
    for text in ("как дела", "как дела?", "Как дела", "привет", "спасибо"):
        assert detect(text) in ("und", "ru"), text
    assert detect("как дела", prior={"ru": 40, "en": 60}) == "ru"


@pytest.mark.parametrize(
    ("text", "langs"),
    [
        ("東京大学", {"ja"}), ("時価総額", {"ja"}), ("経済産業省", {"ja"}), ("日本国憲法", {"ja", "und"}),
        ("人口", {"und"}),
        ("大学", {"und"}), ("売上高", {"ja"}), ("平和", {"und"}), ("会社", {"und"}), ("東京都知事選挙", {"ja", "und"}),
    ],
)  # fmt: skip
def test_kanji_only_japanese_is_not_called_chinese(text: str, langs: set[str]) -> None:
    """Pitfall 14 (qdrant 8595): Japanese without kana was taken for Chinese."""
    assert detect(text) in langs
    assert detect(text, prior={"ja": 9, "en": 1}) == "ja"


def test_han_of_one_place_is_named() -> None:
    assert detect("时间") == "zh"
    assert detect("台灣大學") == "zh-Hant"
    assert detect("北京", prior={"zh": 5, "de": 5}) == "zh"
    assert detect("北京", prior={"zh-Hant": 5, "de": 5}) == "zh-Hant"


@pytest.mark.parametrize(
    ("text", "langs"),
    [
        ("nvidia 時価総額", {"ja"}),
        ("NVIDIAの株価", {"ja"}),
        ("iPhone 15: сколько стоит в Москве сегодня?", {"ru"}),
        ("iPhone 15 Pro Max обзор", {"und", "en"}),
        ("삼성전자 Galaxy 가격", {"ko"}),
        ("ราคา iPhone วันนี้", {"th"}),
        ("The word 東京 means Tokyo, the capital of Japan", {"en"}),
        ("の in the name of the brand is a fashion in many Chinese cities", {"en"}),
    ],
)
def test_mixed_script_goes_by_share(text: str, langs: set[str]) -> None:
    """Pitfall 15: the script with most of the letters decides, and a Han character counts for more than a letter."""
    assert detect(text) in langs


def test_prior_settles_but_does_not_overrule() -> None:
    """Pitfall 14: the languages of the corpus settle what a short text leaves open."""
    assert detect("hello world", prior={"en": 3, "ja": 1}) == "en"
    assert detect("Wer hat den Vertrag unterschrieben?", prior={"en": 99, "de": 1}) == "de"
    assert detect("Кто написал роман «Война и мир»?", prior={"en": 1}) == "ru"
    assert detect("hello", prior={}) == "und"


def test_confidence_is_reported_and_nothing_is_random() -> None:
    """Pitfall 14 (langdetect 105): the same text always gets the same answer, in any order."""
    texts = ["как дела", "Wer hat den Vertrag unterschrieben?", "서울", "", "時価総額 nvidia"]
    first = [detect_with_confidence(text) for text in texts]
    assert first == [detect_with_confidence(text) for text in texts]
    assert detect_many(texts[::-1]) == [detection.lang for detection in first[::-1]]
    assert all(0.0 <= detection.confidence <= 1.0 for detection in first)
    assert first[0].lang == "und" and 0.2 < first[0].confidence < 0.5
    assert first[2].confidence == 1.0
    assert first[3].confidence == 0.0


def test_long_text_is_sampled_from_all_parts() -> None:
    """A title page in English does not name a German book, and a megabyte costs no more than a page."""
    german = "Der Vertrag wurde gestern in Berlin unterschrieben, und niemand wusste davon. "
    assert detect("All rights reserved by the publisher of this book. " * 10 + german * 20_000) == "de"


def test_the_model_is_loaded_only_when_needed() -> None:
    """Neither import nor a text whose script says it all loads the detector."""
    code = (
        "import sys; from xsearch.text.language import detect; "
        "assert [detect(t) for t in ('서울', '東京大学', '2024')] == ['ko', 'ja', 'und']; "
        "assert 'py3langid' not in sys.modules and 'numpy' not in sys.modules; "
        "assert detect('Wer hat den Vertrag unterschrieben?') == 'de' and 'py3langid' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_scripts() -> None:
    assert [script_of(char) for char in "aяעشあア漢한ก1 。é\u0301"] == (
        ["Latn", "Cyrl", "Hebr", "Arab", "Kana", "Kana", "Hani", "Hang", "Thai", "", "", "", "Latn", ""]
    )
    assert count_scripts("nvidia 時価総額 2024") == {"Latn": 6, "Hani": 4}
    assert keep_script("iPhone 15 обзор!", "Cyrl") == "       15 обзор!"


@pytest.mark.shared
def test_floors_on_tatoeba(shared: Path) -> None:
    """What benchmarks/language.py measures on all of Tatoeba holds on every tenth sentence of each language."""
    floors = {
        "ara": 0.97, "deu": 0.95, "eng": 0.88, "spa": 0.80, "hin": 0.93, "vie": 0.98, "cmn": 0.88, "jpn": 0.98,
        "kor": 0.98, "fra": 0.93, "rus": 0.80, "tha": 0.98, "ell": 0.98, "heb": 0.98, "pes": 0.94, "urd": 0.96,
    }  # fmt: skip
    called = right = 0
    with zipfile.ZipFile(shared / "data/eval/tatoeba.zip") as archive:
        for code, floor in floors.items():
            name = "deu-eng.eng" if code == "eng" else f"{code}-eng.{code}"
            lines = archive.read(f"tatoeba/tatoeba.{name}").decode("utf-8").splitlines()[::10]
            found = detect_many(lines)
            hits = sum(matches(lang, code) for lang in found)
            assert hits >= floor * len(lines), (code, hits, len(lines))
            called += sum(lang != "und" for lang in found)
            right += hits
    assert right >= 0.98 * called
