from __future__ import annotations

import pytest

from xsearch.corpus.decode import clean, decode, detect_encoding
from xsearch.errors import UnreadableError

ES = "Mañana iremos a la biblioteca porque José olvidó su libro de matemáticas."
DE = "Die Bäuerin fährt jeden Morgen mit dem Fahrrad über die schmale Brücke – auch bei Glätte."
FR = "L’été dernier, les élèves ont visité le musée ; l’entrée coûtait 5 €."
ZH = "今年春天，村里的老人们决定在河边种一百棵柳树。"
ZHT = "今年春天，村裡的老人們決定在河邊種一百棵柳樹。"
JA = "今年の春、村のお年寄りたちは川のそばに柳の木を植えることにしました。"
RU = "Этой весной старики деревни решили посадить у реки сто ив."
KO = "올해 봄 마을 어르신들은 강가에 버드나무 백 그루를 심기로 했습니다."
AR = "قرر شيوخ القرية هذا الربيع أن يزرعوا مئة شجرة صفصاف على ضفة النهر."
TH = "ห้องสมุดเปิดพรุ่งนี้เวลาเก้าโมงเช้า"

LEGACY = [
    (ES, "cp1252"),
    ("¿Dónde está el niño?", "cp1252"),
    (DE, "cp1252"),
    ("Schöne Grüße aus Köln", "cp1252"),
    ("Name;Ort\nMüller;Köln\n", "cp1252"),
    (FR, "cp1252"),
    ("The café opens at nine. " * 10, "cp1252"),
    (ZH, "gb18030"),
    ("你好", "gb18030"),
    ("# 说明\n\n安装后运行 `xsearch index`，然后再搜索。\n", "gb18030"),
    ("人工智能的发展很快，𠮷字也在这里。", "gb18030"),
    (ZHT, "big5"),
    (JA, "shift_jis"),
    ("東京", "shift_jis"),
    ("①髙橋さんはメモを書きました。", "cp932"),
    (JA, "euc_jp"),
    (KO, "euc_kr"),
    (RU, "cp1251"),
    ("Привет, мир", "cp1251"),
    (RU, "koi8_r"),
    ("Łódź płynie powoli, żeby nie obudzić dzieci.", "cp1250"),
    ("Η βιβλιοθήκη ανοίγει αύριο στις εννέα.", "cp1253"),
    (AR, "cp1256"),
    ("הספרייה נפתחת מחר בתשע בבוקר.", "cp1255"),
    (TH, "cp874"),
]


@pytest.mark.parametrize(("text", "encoding"), LEGACY, ids=lambda value: value[:12])
def test_legacy_encodings_are_detected(text: str, encoding: str) -> None:
    """Pitfall 19: files in the encodings of old systems come out as what was written."""
    assert decode(text.encode(encoding), source="x.txt") == text


@pytest.mark.parametrize("text", [ES, DE, ZH, JA, RU, AR, TH, "plain", "e\u0301 é 😀 ﬁ"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_comes_back_as_it_was_and_without_its_mark(text: str, encoding: str) -> None:
    """Pitfalls 18 and 19: no byte-order mark in the text, and no normalisation: NFD stays NFD."""
    assert decode(text.encode(encoding), source="x.txt") == text


@pytest.mark.parametrize("text", [ES, DE, f"{ZH}\n{ZH}", f"{JA}\n", RU, f"{AR}\n", "Hello world"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_known_by_its_pattern(text: str, encoding: str) -> None:
    """Pitfall 19: UTF-16 as some Windows programs write it, without saying so."""
    assert decode(text.encode(encoding), source="x.txt") == text


def test_the_encoding_given_goes_before_detection() -> None:
    assert decode("Größe".encode("cp1252"), source="x.txt", encoding="cp1250") == "Größe"
    assert decode("ñ".encode("cp1252"), source="x.txt", encoding="cp1252") == "ñ"
    with pytest.raises(UnreadableError, match=r"x\.txt: byte 2 is not valid utf-8"):
        decode("Größe".encode("cp1252"), source="x.txt", encoding="utf-8")


def test_one_damaged_byte_costs_one_character_of_utf8() -> None:
    """A download cut inside a character must not turn the whole file into another encoding's gibberish."""
    assert decode(RU.encode()[:-2], source="x.txt") == RU[:-2] + "\ufffd"


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", bytes(range(256)) * 40, b"one\0two\0three\0", b"\0" * 5000],
    ids=["png", "all bytes", "list parted by NULs", "NULs"],
)
def test_binary_data_is_no_text(data: bytes) -> None:
    assert detect_encoding(data, complete=True) is None
    with pytest.raises(UnreadableError, match="binary data or text in an unknown encoding"):
        decode(data, source="x.txt")


def test_a_stray_nul_costs_one_character() -> None:
    assert decode((ES * 3 + "\0" + ES).encode(), source="x.txt") == ES * 3 + "\ufffd" + ES


def test_line_ends_become_newlines() -> None:
    assert decode(b"one\r\ntwo\rthree\nfour", source="x.txt") == "one\ntwo\nthree\nfour"


def test_clean_replaces_what_cannot_be_stored_and_moves_nothing() -> None:
    assert clean("a\ud800b\0c😀") == "a\ufffdb\ufffdc😀"


def test_a_sample_may_end_inside_a_character() -> None:
    assert detect_encoding("Größe".encode()[:4], complete=False) == "utf-8"
    assert detect_encoding(ZH.encode()[:-1], complete=False) == "utf-8"
