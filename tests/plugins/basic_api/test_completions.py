"""Lists of words."""

import pytest

from swarmkernel_basic_api.completions import Style, WordLists


@pytest.fixture(name="words")
def _words(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "tags.csv").write_text(
        '# comment\n1girl,0,500,"girl,woman"\n\nred_hair (long),12\nplain\n', encoding="utf-8"
    )
    (tmp_path / "more" / "a.txt").write_text("\ufeffone\n", encoding="utf-8")
    (tmp_path / "other.exe").write_text("no")
    return WordLists(tmp_path, 1000)


def test_names(words):
    """Text and CSV files are found, in folders too, and nothing else."""
    assert ["more/a.txt", "tags.csv"] == words.names()


def test_lines(words):
    """Each usable line becomes the text to insert and its fields; two columns are word and count."""
    expected = [
        "1girl\n1girl\n0\n500\ngirl,woman",
        "red_hair \\(long\\)\nred_hair (long)\n0\n12\n",
        "plain\nplain",
    ]
    assert expected == words.lines("tags.csv", Style())
    assert ["one\none"] == words.lines("more/a.txt", Style())


@pytest.mark.parametrize(
    ("expected", "style"),
    [
        ("red hair \\(long\\), ", Style(suffix=", ", spacing="Spaces")),
        ("red_hair_(long)", Style(escape_parens=False, spacing="Underscores")),
        ("red_hair \\(long\\)\\)", Style(suffix=")")),
    ],
)
def test_styles(words, expected, style):
    """The completed word has the spaces, the suffix and the backslashes that the user wants."""
    assert expected == words.lines("tags.csv", style)[1].split("\n")[0]


@pytest.mark.parametrize("name", ["", "gone.txt", "../tags.csv", "/etc/passwd", "other.exe"])
def test_no_such_list(words, name):
    """What is not one of the lists is nothing, and no way out of the folder."""
    assert words.lines(name, Style()) is None


def test_too_large(words):
    """A list over the limit is not read."""
    (words.folder / "big.txt").write_text("x\n" * 501)

    assert words.lines("big.txt", Style()) is None


def test_changed_file_is_read_again(words):
    """A list that was changed gives its new words."""
    words.lines("more/a.txt", Style())
    (words.folder / "more" / "a.txt").write_text("two\nthree\n")

    assert ["two\ntwo", "three\nthree"] == words.lines("more/a.txt", Style())
