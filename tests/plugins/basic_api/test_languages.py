"""Languages: ours and the operator's."""

import json
import re
from pathlib import Path

import pytest

import swarmkernel_basic_api
from swarmkernel_basic_api.languages import Languages
from swarmkernel_basic_api.permissions import UNROUTED
from swarmkernel_basic_api.routes import NO_STATUS, ROUTES
from swarmkernel_basic_api.user_settings import TREE

OURS = ["de", "en", "es", "fr", "ja", "zh"]


def test_ours(tmp_path):
    """The languages of the package are there, every text translated; English is the list of texts."""
    languages = Languages.load(tmp_path / "none")

    assert OURS == [language.code for language in languages]
    texts = languages.find("en").keys
    for code in set(OURS) - {"en"}:
        keys = languages.find(code).keys
        assert set(texts) == set(keys)
        assert [] == [text for text, translated in keys.items() if not translated.strip()]
    assert "Deutsch" == languages.find("de").local_name
    assert "German" == languages.find("de").name


def test_names_are_translated(tmp_path):
    """Every permission and setting of this package, and the status without backends, can be translated."""
    texts = Languages.load(tmp_path).find("en").keys
    permissions = {
        r.permission.name for r in ROUTES if hasattr(r.permission, "name") and r.name != "GetNewSession"
    }
    settings = {entry.name for entry in TREE}
    settings |= {s.name for entry in TREE for s in getattr(entry, "settings", ())}

    wanted = permissions | {p.name for p in UNROUTED} | (settings - {"Roles"})
    assert set() == wanted - set(texts)
    assert NO_STATUS["backend_status"]["message"] in texts


def test_plain_error_texts_are_translated(tmp_path):
    """Every error text of this package that has no changing part can be translated."""
    folder = Path(swarmkernel_basic_api.__file__).parent
    code = "\n".join(path.read_text() for path in folder.glob("*.py"))
    raised = set(re.findall(r'(?:RouteError|PresetError|PictureError)\("([^"]+)"', code))

    assert len(raised) >= 8
    assert set() == raised - set(Languages.load(tmp_path).find("en").keys)


def test_operator_adds_and_replaces(tmp_path):
    """A file in the data directory adds a language, or texts to one of ours."""
    (tmp_path / "sv.json").write_text(
        json.dumps({"name_en": "Swedish", "name_local": "Svenska", "keys": {"Language": "Språk"}})
    )
    (tmp_path / "de.json").write_text(
        json.dumps(
            {"name_en": "German", "name_local": "Deutsch", "keys": {"Language": "Zunge", "New": "Neu"}}
        )
    )
    languages = Languages.load(tmp_path)

    assert [*OURS[:5], "sv", "zh"] == [language.code for language in languages]
    assert {"Language": "Språk"} == languages.find("sv").keys
    german = languages.find("de").keys
    assert ("Zunge", "Neu", "Design") == (german["Language"], german["New"], german["Theme"])


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"name_en": "X", "name_local": "X"}', '{"name_en":"X","name_local":"X","keys":{"a":1}}'],
)
def test_bad_file_is_left_out(tmp_path, caplog, content):
    """A file that is no language is left out, and the log names it; the others are there."""
    (tmp_path / "xx.json").write_text(content)

    assert OURS == [language.code for language in Languages.load(tmp_path)]
    assert "xx.json" in caplog.text
