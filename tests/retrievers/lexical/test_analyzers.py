"""Languages: what their analyzers make equal, what is refused, and the warning of a script that an analyzer lacks."""

import re

import pytest

from harness.retrievers.errors import InputError
from harness.retrievers.lexical import analyzers
from harness.retrievers.lexical.analyzers import Analyzer, other_script
from harness.retrievers.lexical.bm25 import BM25, BM25Options
from harness.retrievers.types import Query
from tests.support.datasets import opened, write_beir


def found(tmp_path, job, docs, query, **options):
    """The ids that BM25 finds of `docs`, a text each, best first."""
    rows = [(f"d{n}", "", text) for n, text in enumerate(docs)]
    folder = write_beir(tmp_path / "c", docs=rows, queries=[("q", query)], qrels={"test": [("q", "d0", 1)]})
    retriever = BM25(BM25Options(**options))
    retriever.check()
    run = retriever.search(opened(folder, job), [Query("q", query)], 10, job)
    return [doc_id.decode() for doc_id in run.rows(0)[0]]


# language, two texts, and a query that shares with the first a stem, not a word, and nothing with the second
LANGUAGES = [
    ("de", ["Die Häuser der alten Städte", "Der Hund liest Zeitung"], "Haus Stadt"),
    ("ar", ["السيارات الكبيرة في المدينة", "يقرأ الولد الكتاب"], "سيارة"),
    ("ru", ["на улицах Москвы много машин", "собака читает газету"], "улица"),
    ("fr", ["les chevaux galopaient dans la plaine", "le chien lit un journal"], "cheval"),
]


@pytest.mark.parametrize(("language", "docs", "query"), LANGUAGES)
def test_stems_of_a_language(tmp_path, job, capsys, language, docs, query):
    assert found(tmp_path, job, docs, query, language=language) == ["d0"]
    assert "letters" not in capsys.readouterr().err
    assert found(tmp_path, job, docs, query) == []  # English stems none of them


def test_chinese_is_found_by_pairs_of_characters(tmp_path, job):
    """京东 shares both of its characters with 东京, and no pair; the analyzer of English splits into single ones."""
    docs = ["东京是日本的首都", "北京是中国的首都"]
    assert found(tmp_path, job, docs, "京东", language="zh") == []
    assert found(tmp_path, job, docs, "东京", language="zh") == ["d0"]
    assert found(tmp_path, job, docs, "京东") == ["d0", "d1"]


def test_stemmer_and_stop_words(tmp_path, job):
    docs = ["the cars were running", "a dog"]
    assert found(tmp_path, job, docs, "car") == ["d0"]
    assert found(tmp_path, job, docs, "car", stemmer="none") == []
    assert found(tmp_path, job, docs, "runs") == ["d0"]
    assert found(tmp_path, job, docs, "runs", stemmer="krovetz") == []  # it knows no such form of "running"
    assert found(tmp_path, job, docs, "the") == []
    assert found(tmp_path, job, docs, "the", stopwords="none") == ["d0"]
    words = tmp_path / "words.txt"
    words.write_text("dog\n")
    assert found(tmp_path, job, docs, "dog", stopwords=str(words)) == []
    assert found(tmp_path, job, docs, "the", stopwords=str(words)) == ["d0"]
    words.write_text("the\n")  # another index, although the name of the file is the same
    assert found(tmp_path, job, docs, "dog", stopwords=str(words)) == ["d1"]
    names = {path.name.rsplit("-", 1)[0] for path in (job.cache / "bm25").iterdir() if path.is_dir()}
    assert {"flat", "flat-none", "flat-krovetz", "flat-stop-none"} < names
    assert len(names) == 6


def test_feedback_keeps_letters_of_other_scripts(tmp_path, job):
    """RM3 of English leaves out terms that are not of a to z; of another language none."""
    docs = ["кошка мурлыка усы", "кошка усы", "усы хвост", *(f"x{n} y{n} z{n}" for n in range(40))]
    assert set(found(tmp_path, job, docs, "мурлыка", language="ru", rm3=True, fb_docs=1)) == {"d0", "d1", "d2"}
    assert set(found(tmp_path, job, docs, "мурлыка", rm3=True, fb_docs=1)) == {"d0"}


@pytest.mark.parametrize(
    ("text", "language", "says"),
    [
        (
            "السيارات الكبيرة",
            "en",
            "100% of the letters of the first documents are Arabic, .* give --language ar or fa",
        ),
        ("東京は日本の首都です", "en", "are CJK, .* give --language ja"),
        ("东京是日本的首都", "en", "are CJK, .* give --language zh"),
        ("서울은 한국의 수도", "de", "are Hangul, .* language de; give --language ko"),
        ("Αθήνα είναι", "en", "are Greek, .* Anserini has no analyzer for it"),
        ("a plain text", "ar", "are Latin, .* give --language da or de or en"),
        ("a plain text", "en", None),
        ("İstanbul'da çocuklar", "tr", None),
        ("東京は日本の首都です", "ja", None),
        ("12 + 7", "en", None),
        ("half ascii текст", "en", None),
    ],
)
def test_a_script_that_the_analyzer_lacks(text, language, says):
    message = other_script([text], language)
    assert message is None if says is None else re.search(says, message)


def test_the_warning_is_kept_in_the_job(tmp_path, job, capsys):
    found(tmp_path, job, ["السيارات الكبيرة"], "السيارات")
    assert "give --language ar or fa" in capsys.readouterr().err
    assert any("--language ar" in message for message in job.warnings)


def test_every_language_can_be_made(job):
    """Anserini's own map, and what we say of it; Thai needs a part of Java that a small runtime lacks."""
    pyclass = analyzers.java.start()
    there = {str(key) for key in pyclass.autoclass("io.anserini.analysis.AnalyzerMap").analyzerMap.keySet().toArray()}
    assert there | {"en", "sw"} == set(analyzers.LANGUAGES)
    for language in sorted(there - {"th"}):
        Analyzer(language).check()
        assert Analyzer(language)._of_java() is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "xx"}, "language is 'xx'; Anserini has ar, bn, "),
        ({"language": "de", "stemmer": "none"}, "stemmer: of English alone; the analyzer of de has its own"),
        ({"language": "de", "stopwords": "none"}, "stopwords: of English alone"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        BM25Options(**options)


def test_stop_words_that_cannot_be_read(tmp_path):
    for name, content in (("none-there", None), ("binary", b"\xff\xfe")):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="neither default nor none nor a readable UTF-8 file"):
            BM25(BM25Options(stopwords=str(tmp_path / name))).check()


def test_a_language_that_this_java_lacks(monkeypatch):
    class Broken:
        @staticmethod
        def getLanguageSpecificAnalyzer(_):  # the name that Java has
            raise RuntimeError("no Thai segmentation")

    class Module:
        autoclass = staticmethod(lambda _: Broken)

    monkeypatch.setattr(analyzers.java, "start", lambda: Module)
    with pytest.raises(
        InputError, match=r"language th: this Java has no analyzer for it .* Set JAVA_HOME to a whole JDK"
    ):
        Analyzer("th").check()
