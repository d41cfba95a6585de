"""Language tags: every style of code people write, turned into one BCP-47 tag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from xsearch.errors import InvalidArgumentError

UND = "und"

# script a language is written in unless its tag says otherwise: "two-letter ISO-639-3 Name; three-letter Name; ..."
# Holds all of ISO 639-1, FLORES-200, the Tatoeba test set and what the detector knows. Scripts are ISO 15924.
_TABLE = {
    "Arab": """
        ar ara Arabic; fa fas Persian; ks kas Kashmiri; ps pus Pashto; sd snd Sindhi; ug uig Uyghur; ur urd Urdu; acm
        Mesopotamian Arabic; acq Ta'izzi-Adeni Arabic; aeb Tunisian Arabic; ajp South Levantine Arabic; apc North
        Levantine Arabic; arq Algerian Arabic; ars Najdi Arabic; ary Moroccan Arabic; arz Egyptian Arabic; azb South
        Azerbaijani; ckb Central Kurdish; glk Gilaki; lrc Northern Luri; mzn Mazanderani; pnb Western Panjabi; sdh
        Southern Kurdish; skr Saraiki
    """,
    "Armn": "hy hye Armenian",
    "Avst": "ae ave Avestan",
    "Beng": "as asm Assamese; bn ben Bengali; bpy Bishnupriya; mni Manipuri",
    "Cans": "cr cre Cree; iu iku Inuktitut",
    "Cher": "chr Cherokee",
    "Copt": "cop Coptic",
    "Cyrl": """
        ab abk Abkhazian; av ava Avaric; ba bak Bashkir; be bel Belarusian; bg bul Bulgarian; ce che Chechen; cu chu
        Church Slavic; cv chv Chuvash; kk kaz Kazakh; kv kom Komi; ky kir Kyrgyz; mk mkd Macedonian; mn mon Mongolian;
        os oss Ossetic; ru rus Russian; sr srp Serbian; tg tgk Tajik; tt tat Tatar; uk ukr Ukrainian; ady Adyghe; alt
        Southern Altai; bua Buriat; inh Ingush; kbd Kabardian; koi Komi-Permyak; kpv Komi-Zyrian; krc Karachay-Balkar;
        kum Kumyk; lez Lezghian; mdf Moksha; mhr Eastern Mari; mrj Western Mari; myv Erzya; orv Old Russian; rue Rusyn;
        sah Yakut; tyv Tuvinian; udm Udmurt; xal Kalmyk
    """,
    "Deva": """
        hi hin Hindi; mr mar Marathi; ne nep Nepali; sa san Sanskrit; awa Awadhi; bho Bhojpuri; dty Dotyali; gom Goan
        Konkani; hne Chhattisgarhi; mag Magahi; mai Maithili; new Newari
    """,
    "Ethi": "am amh Amharic; ti tir Tigrinya; wal Wolaytta",
    "Geor": "ka kat Georgian; xmf Mingrelian",
    "Goth": "got Gothic",
    "Grek": "el ell Greek; grc Ancient Greek",
    "Gujr": "gu guj Gujarati",
    "Guru": "pa pan Punjabi",
    "Hans": "zh zho Chinese; gan Gan Chinese; hsn Xiang Chinese; wuu Wu Chinese",
    "Hant": "hak Hakka Chinese; lzh Literary Chinese; nan Min Nan Chinese; yue Cantonese",
    "Hebr": "he heb Hebrew; yi yid Yiddish; arc Aramaic; hbo Ancient Hebrew; lad Ladino",
    "Jpan": "ja jpn Japanese",
    "Khmr": "km khm Khmer",
    "Knda": "kn kan Kannada; tcy Tulu",
    "Kore": "ko kor Korean",
    "Laoo": "lo lao Lao",
    "Latn": """
        aa aar Afar; af afr Afrikaans; ak aka Akan; an arg Aragonese; ay aym Aymara; az aze Azerbaijani; bi bis Bislama;
        bm bam Bambara; br bre Breton; bs bos Bosnian; ca cat Catalan; ch cha Chamorro; co cos Corsican; cs ces Czech;
        cy cym Welsh; da dan Danish; de deu German; ee ewe Ewe; en eng English; eo epo Esperanto; es spa Spanish; et est
        Estonian; eu eus Basque; ff ful Fula; fi fin Finnish; fj fij Fijian; fo fao Faroese; fr fra French; fy fry
        Western Frisian; ga gle Irish; gd gla Scottish Gaelic; gl glg Galician; gn grn Guarani; gv glv Manx; ha hau
        Hausa; ho hmo Hiri Motu; hr hrv Croatian; ht hat Haitian Creole; hu hun Hungarian; hz her Herero; ia ina
        Interlingua; id ind Indonesian; ie ile Interlingue; ig ibo Igbo; ik ipk Inupiaq; io ido Ido; is isl Icelandic;
        it ita Italian; jv jav Javanese; kg kon Kongo; ki kik Kikuyu; kj kua Kuanyama; kl kal Kalaallisut; kr kau
        Kanuri; ku kur Kurdish; kw cor Cornish; la lat Latin; lb ltz Luxembourgish; lg lug Ganda; li lim Limburgish; ln
        lin Lingala; lt lit Lithuanian; lu lub Luba-Katanga; lv lav Latvian; mg mlg Malagasy; mh mah Marshallese; mi mri
        Maori; ms msa Malay; mt mlt Maltese; na nau Nauru; nb nob Norwegian Bokmal; nd nde North Ndebele; ng ndo Ndonga;
        nl nld Dutch; nn nno Norwegian Nynorsk; no nor Norwegian; nr nbl South Ndebele; nv nav Navajo; ny nya Nyanja; oc
        oci Occitan; oj oji Ojibwe; om orm Oromo; pi pli Pali; pl pol Polish; pt por Portuguese; qu que Quechua; rm roh
        Romansh; rn run Rundi; ro ron Romanian; rw kin Kinyarwanda; sc srd Sardinian; se sme Northern Sami; sg sag
        Sango; sh hbs Serbo-Croatian; sk slk Slovak; sl slv Slovenian; sm smo Samoan; sn sna Shona; so som Somali; sq
        sqi Albanian; ss ssw Swati; st sot Southern Sotho; su sun Sundanese; sv swe Swedish; sw swa Swahili; tk tuk
        Turkmen; tl tgl Tagalog; tn tsn Tswana; to ton Tongan; tr tur Turkish; ts tso Tsonga; tw twi Twi; ty tah
        Tahitian; uz uzb Uzbek; ve ven Venda; vi vie Vietnamese; vo vol Volapuk; wa wln Walloon; wo wol Wolof; xh xho
        Xhosa; yo yor Yoruba; za zha Zhuang; zu zul Zulu; ace Acehnese; ang Old English; ast Asturian; ban Balinese; bar
        Bavarian; bcl Central Bikol; bem Bemba; ber Berber languages; bjn Banjar; bug Buginese; cbk Chavacano; ceb
        Cebuano; chy Cheyenne; cjk Chokwe; crh Crimean Tatar; csb Kashubian; dsb Lower Sorbian; dtp Central Dusun; dyu
        Dyula; eml Emilian; ext Extremaduran; fon Fon; frp Arpitan; frr Northern Frisian; fur Friulian; gag Gagauz; gcf
        Guadeloupean Creole French; gcr Guianese Creole French; gsw Swiss German; guw Gun; hif Fiji Hindi; hmn Hmong;
        hsb Upper Sorbian; ilo Iloko; jam Jamaican Creole English; jbo Lojban; kab Kabyle; kac Kachin; kam Kamba; kbp
        Kabiye; kea Kabuverdianu; kmb Kimbundu; ksh Colognian; lfn Lingua Franca Nova; lij Ligurian; lmo Lombard; ltg
        Latgalian; lua Luba-Lulua; luo Luo; lus Mizo; max North Moluccan Malay; min Minangkabau; mos Mossi; mwl
        Mirandese; nap Neapolitan; nds Low German; nog Nogai; nov Novial; nso Northern Sotho; nus Nuer; olo Livvi; pag
        Pangasinan; pam Pampanga; pap Papiamento; pcm Nigerian Pidgin; pdc Pennsylvania German; pfl Palatine German; pms
        Piedmontese; rmy Vlax Romani; scn Sicilian; sgs Samogitian; sma Southern Sami; smn Inari Sami; stq Saterland
        Frisian; swg Swabian; szl Silesian; taq Tamasheq; tok Toki Pona; tpi Tok Pisin; tum Tumbuka; tzl Talossan; tzm
        Central Atlas Tamazight; umb Umbundu; vec Venetian; vep Veps; vls West Flemish; war Waray; zea Zeelandic; zza
        Zaza
    """,
    "Mlym": "ml mal Malayalam",
    "Mymr": "my mya Burmese; shn Shan",
    "Nkoo": "nqo Nko",
    "Olck": "sat Santali",
    "Orya": "or ori Odia",
    "Sinh": "si sin Sinhala",
    "Syrc": "syc Classical Syriac; syr Syriac",
    "Taml": "ta tam Tamil",
    "Telu": "te tel Telugu",
    "Tfng": "zgh Standard Moroccan Tamazight",
    "Thaa": "dv div Divehi",
    "Thai": "th tha Thai",
    "Tibt": "bo bod Tibetan; dz dzo Dzongkha",
    "Yiii": "ii iii Sichuan Yi",
}

# Retired codes, members of a macrolanguage that stand for it, bibliographic ISO 639-2, and country codes so often
# written for the language that refusing them helps nobody (only those that are no language's code themselves).
_ALIAS_PAIRS = """
    iw=he in=id ji=yi jw=jv mo=ro mol=ro bh=bho bih=bho hbs=sh srl=sr-Latn kzj=dtp fil=tl prs=fa-AF uzs=uz-Arab
    arb=ar pes=fa cmn=zh nob=nb npi=ne swh=sw zsm=ms zlm=ms lvs=lv ekk=et als=sq khk=mn uzn=uz azj=az kmr=ku gaz=om
    pbt=ps pbu=ps plt=mg ydd=yi ory=or quy=qu quz=qu gug=gn ayr=ay fuv=ff ike=iu knc=kr dik=din bcc=bal cld=syr
    alb=sq arm=hy baq=eu bur=my chi=zh cze=cs dut=nl fre=fr geo=ka ger=de gre=el ice=is mac=mk mao=mi may=ms per=fa
    rum=ro slo=sk tib=bo wel=cy scr=hr scc=sr jp=ja cn=zh cz=cs dk=da gr=el ua=uk
    mandarin=zh farsi=fa punjabi=pa panjabi=pa burmese=my myanmar=my oriya=or flemish=nl valencian=ca moldovan=ro
    filipino=tl kurmanji=ku sorani=ckb gaelic=gd bokmal=nb bokmål=nb nynorsk=nn sinhalese=si bangla=bn uighur=ug
    kirghiz=ky castilian=es khalkha=mn
"""
_ALIASES = dict(pair.split("=") for pair in _ALIAS_PAIRS.split())
_NAMES = {
    "simplified chinese": "zh",
    "traditional chinese": "zh-Hant",
    "brazilian portuguese": "pt-BR",
    "norwegian bokmål": "nb",
    "haitian": "ht",
}
_UNKNOWN = frozenset(
    {"", "und", "unk", "unknown", "mis", "mul", "zxx", "none", "null", "other", "c", "posix", "xx", "??"}
)

# A wanted "ar" is met by "arz": languages (left) that a wider code (right) takes in.
_MACRO_PAIRS = """
    acm<ar acq<ar aeb<ar ajp<ar apc<ar arq<ar ars<ar ary<ar arz<ar yue<zh wuu<zh gan<zh hak<zh hsn<zh nan<zh lzh<zh
    nb<no nn<no bs<sh hr<sh sr<sh azb<az sdh<ku ckb<ku tw<ak gom<kok max<ms kpv<kv koi<kv mhr<chm mrj<chm kab<ber
    tzm<ber zgh<ber taq<ber ltg<lv sgs<lt
"""
_MACRO = dict(pair.split("<") for pair in _MACRO_PAIRS.split())

# Scripts that say no more than the language already does.
_IMPLIED = {"ja": {"Jpan", "Hira", "Kana", "Hrkt", "Hani"}, "ko": {"Kore", "Hang"}, "zh": {"Hans", "Hani"}}
_NO_SCRIPT = frozenset({"Zyyy", "Zinh", "Zzzz", "Zxxx"})
_HANT_REGIONS = frozenset({"TW", "HK", "MO"})

_SUBTAG = re.compile(r"[a-z0-9]{1,32}")  # 8 in BCP-47; longer words are names we do not know


@dataclass(frozen=True, slots=True)
class _Language:
    """A row of the table: shortest code, ISO 639-3 code, usual script, English name."""

    code: str
    iso639_3: str
    script: str
    name: str


@lru_cache(maxsize=1)
def _languages() -> dict[str, _Language]:
    """Every row under its shortest code, its ISO 639-3 code and its lower-case English name."""
    found: dict[str, _Language] = {}
    for script, block in _TABLE.items():
        for entry in block.split(";"):
            code, *words = entry.split()
            iso = words.pop(0) if len(code) == 2 else code
            language = _Language(code, iso, script, " ".join(words))
            for key in (code, iso, language.name.lower()):
                found.setdefault(key, language)
    return found


@lru_cache(maxsize=4096)
def canonical_tag(code: str) -> str:
    """The one BCP-47 tag xsearch stores for a language code of any style, or ``und``.

    Takes ISO 639-1, -2 and -3 (``de``, ``ger``, ``deu``), mteb's ``zho-Hans``, FLORES's ``eng_Latn``, locales
    (``pt_BR.UTF-8``), retired and macrolanguage codes (``iw``, ``cmn``) and English names (``German``).
    The shortest code is taken; a script stays only where it is not the usual one (``sr-Latn``, ``zh-Hant``);
    a region stays (``pt-BR``), but Chinese of Taiwan is ``zh-Hant`` and of China ``zh``. Variants and
    extensions are dropped. A three-letter code that is not in our table is kept: ISO 639-3 has 7,900.

    Raises:
        InvalidArgumentError: ``code`` cannot be a language code at all (``"12"``, ``"not a language"``).
    """
    text = code.strip().split(".")[0].split("@")[0].lower()
    if text in _UNKNOWN:
        return UND
    named = _NAMES.get(text.replace("_", " ")) or _languages().get(text.replace("_", " "))
    if isinstance(named, str):
        return named
    if named is not None:
        return named.code
    subtags = re.split(r"[-_]", text)
    well_formed = subtags[0].isalpha() and all(_SUBTAG.fullmatch(subtag) for subtag in subtags)
    if not well_formed and text not in _ALIASES:
        raise _malformed(code)
    return _compose(subtags)


@lru_cache(maxsize=4096)
def is_language_code(code: str) -> bool:
    """Whether :func:`canonical_tag` takes this code; ``und`` is one, and so is one that no language has."""
    try:
        canonical_tag(code)
    except InvalidArgumentError:
        return False
    return True


@lru_cache(maxsize=4096)
def known_tag(code: str) -> str:
    """:func:`canonical_tag` for what a person typed: a code that no language has is refused, but ``und`` itself.

    Raises:
        InvalidArgumentError: there is no such language.
    """
    tag = canonical_tag(code)
    if tag == UND and code.strip().lower() != UND:
        raise InvalidArgumentError(
            f"The language {code!r} is not known",
            "A language code such as de, deu, zh-Hant or eng_Latn, or 'und' for passages of unknown language",
            "Check the spelling; see an index's languages with: xsearch info NAME",
        )
    return tag


def matches(tag: str, wanted: str) -> bool:
    """Whether a text tagged ``tag`` is one that a filter for ``wanted`` asks for.

    The wider tag takes in the narrower, never the other way: ``zh-Hant`` and ``yue`` match ``zh``, ``pt-BR``
    matches ``pt``, ``nb`` matches ``no``. ``und`` matches only ``und``.
    """
    tag_language, *tag_rest = canonical_tag(tag).split("-")
    language, *rest = canonical_tag(wanted).split("-")
    if language not in (tag_language, _MACRO.get(tag_language)):
        return False
    return set(rest) <= set(tag_rest)


def to_iso639_3(tag: str, *, script: bool = False) -> str:
    """The ISO 639-3 code of a tag: ``zh-Hant`` gives ``zho``; with ``script`` it is mteb's ``zho-Hant``.

    A script is added only where one is known.
    """
    language, *rest = canonical_tag(tag).split("-")
    known = _languages().get(language)
    iso = known.iso639_3 if known else language
    written = next((part for part in rest if len(part) == 4), known.script if known else "")
    return f"{iso}-{written}" if script and written else iso


def language_name(tag: str) -> str:
    """The English name of a tag's language, for people: ``zh-Hant`` gives ``Chinese (Hant)``; else the tag itself."""
    canonical = canonical_tag(tag)
    language, *rest = canonical.split("-")
    known = _languages().get(language)
    if known is None:
        return canonical
    return f"{known.name} ({', '.join(rest)})" if rest else known.name


def _compose(subtags: list[str]) -> str:
    """The canonical tag from lower-case subtags, the language first."""
    first, *rest = subtags
    alias = _ALIASES.get(first, first)
    if "-" in alias:  # an alias may bring its own script or region
        first, implied = alias.split("-")
        rest = [implied.lower(), *rest]
    else:
        first = alias
    script = region = ""
    for subtag in rest:
        if len(subtag) == 1:  # an extension or private use follows
            break
        inner = _languages().get(_ALIASES.get(subtag, subtag))
        if len(subtag) == 3 and subtag.isalpha() and inner is not None:
            if inner.code == first or _MACRO.get(inner.code) == first:  # zh-yue, zh-cmn
                first = inner.code
        elif len(subtag) == 4 and subtag.isalpha():
            script = script or subtag.title()
        elif (len(subtag) == 2 and subtag.isalpha()) or (len(subtag) == 3 and subtag.isdigit()):
            region = region or subtag.upper()
    known = _languages().get(first)
    if known is None:
        if len(first) != 3:
            return UND
        language, usual = first, ""
    else:
        language, usual = known.code, known.script
    if language == "zh":
        if not script and region in _HANT_REGIONS:
            script = "Hant"
        if region in ("CN", "TW"):
            region = ""
    if script == usual or script in _IMPLIED.get(language, ()) or script in _NO_SCRIPT:
        script = ""
    return "-".join(part for part in (language, script, region) if part)


def _malformed(code: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{code!r} is not a language code",
        'a code such as "de", "deu", "zh-Hant", "eng_Latn" or an English name was expected',
        'Pass one of those, or "und" where the language is not known',
    )
