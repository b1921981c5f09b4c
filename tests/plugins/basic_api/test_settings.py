"""User settings: their table, their conversions, their description."""

import math

import pytest

from swarmkernel import StartupError
from swarmkernel.settings import SettingsSource
from swarmkernel_basic_api import BasicSettings
from swarmkernel_basic_api.settings import SettingError, describe
from swarmkernel_basic_api.user_settings import ALIASES, DEFAULTS, GROUPS, SETTINGS, TREE

KNOWN = {
    "themes": (("modern_dark", "Modern Dark"),),
    "languages": (("de", "Deutsch"), ("en", "English")),
    "sounds": (("", "None"),),
    "word_lists": (("", "None"), ("tags.csv", "tags.csv")),
}
#: Ids and defaults as the protocol's page lists them.
EXPECTED = {
    "outpathbuilder.format": "raw/[year]-[month]-[day]/[hour][minute][request_time_inc]-[prompt]-[model]",
    "outpathbuilder.maxlenperpart": 40,
    "outpathbuilder.modelpathsskipfolders": False,
    "fileformat.imageformat": "PNG",
    "fileformat.imagequality": 100,
    "fileformat.savemetadata": True,
    "fileformat.stealthmetadata": "false",
    "fileformat.dpi": 0,
    "fileformat.savetextfilemetadata": False,
    "fileformat.reformattransientimages": False,
    "ui.tagmovehotkeyenabled": False,
    "ui.checkifsurebeforedelete": True,
    "ui.presetlistdetailsfields": "",
    "ui.copytriggerphrasewithtrailingcomma": False,
    "ui.removeinterruptedgens": False,
    "ui.hideerrormessages": "",
    "ui.deleteimagebehavior": "next",
    "ui.imageshiftingcycles": "true",
    "ui.defaulthidemetadatainfullview": False,
    "paramparsing.allowlorastacking": True,
    "savefiles": True,
    "starnofolders": False,
    "roles": ["owner"],
    "theme": "modern_dark",
    "centerimagealwaysgrow": False,
    "autoswapimagesincludesfullview": False,
    "buttonsundermainimages": "",
    "imagemetadataformat": "auto",
    "resetbatchsizetoone": False,
    "hintformat": "BUTTON",
    "hoverdelayseconds": 0.5,
    "maxpromptlines": 10,
    "vaes.defaultsdxlvae": "None",
    "vaes.defaultsdv1vae": "None",
    "vaes.defaultsvdvae": "None",
    "vaes.defaultfluxvae": "None",
    "vaes.defaultflux2vae": "None",
    "vaes.defaultsd3vae": "None",
    "vaes.defaultmochivae": "None",
    "vaes.defaultqwenvae": "None",
    "maximagesinminigrid": 1,
    "maximagesinhistory": 1000,
    "maximagesscannedinhistory": 10000,
    "imagehistoryusepreviews": True,
    "maxsimulpreviews": 1,
    "enterkeygenerates": True,
    "generateforeverdelay": 0.1,
    "generateforeverqueuesize": 1,
    "parametermemorydurationhours": 6,
    "language": "en",
    "reuseparamexcludelist": "wildcardseed",
    "audio.completionsound": "",
    "audio.volume": 0.5,
    "audio.videoaudiobehavior": "last",
    "autocomplete.source": "",
    "autocomplete.escapeparens": True,
    "autocomplete.suffix": "",
    "autocomplete.matchmode": "Bucketed",
    "autocomplete.sortmode": "Active",
    "autocomplete.spacingmode": "None",
}


def test_ids_and_defaults():
    """There are exactly the settings of the protocol, with their defaults, in their order."""
    assert EXPECTED == DEFAULTS
    assert list(EXPECTED) == list(DEFAULTS)


def test_defaults_fit_their_settings():
    """Every default is a value that its own setting accepts as it stands."""
    assert DEFAULTS == {key: setting.read(setting.default, KNOWN) for key, setting in SETTINGS.items()}


def test_aliases_lead_somewhere():
    """Old ids stand for settings that exist, and none hides one."""
    assert set(ALIASES.values()) <= set(SETTINGS)
    assert not set(ALIASES) & set(SETTINGS)


@pytest.mark.parametrize(
    ("expected", "key", "value"),
    [
        (7, "maxpromptlines", "7"),
        (2, "maxpromptlines", 2.5),
        (4, "maxpromptlines", 3.5),
        (0.25, "audio.volume", "0.25"),
        (1, "audio.volume", 1),
        (True, "savefiles", " TRUE "),
        (False, "savefiles", 0),
        ("5", "autocomplete.suffix", 5),
        ("true", "autocomplete.suffix", True),
        ("false", "fileformat.stealthmetadata", False),
        ("JPG", "fileformat.imageformat", "jpg"),
        ("my_vae", "vaes.defaultfluxvae", "my_vae"),
        ("tags.csv", "autocomplete.source", "tags.csv"),
        (["a", "b"], "roles", "a, b,"),
        (["a", "1"], "roles", ["a", 1]),
    ],
)
def test_conversions(expected, key, value):
    """Values are converted as leniently as clients expect."""
    read = SETTINGS[key].read(value, KNOWN)

    assert expected == read
    assert type(expected) is type(read) or key == "audio.volume"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("maxpromptlines", "abc"),
        ("maxpromptlines", None),
        ("maxpromptlines", True),
        ("maxpromptlines", 0),
        ("maxpromptlines", 10**400),
        ("maxpromptlines", math.nan),
        ("fileformat.imagequality", 101),
        ("audio.volume", "Infinity"),
        ("audio.volume", -0.1),
        ("savefiles", "yes"),
        ("savefiles", None),
        ("fileformat.imageformat", "GIF"),
        ("fileformat.imageformat", ["PNG"]),
        ("autocomplete.source", "../../etc/passwd"),
        ("autocomplete.suffix", "x" * 10_001),
        ("autocomplete.suffix", {}),
        ("roles", 5),
        ("roles", [[]]),
    ],
)
def test_bad_values(key, value):
    """A value that does not fit is refused."""
    with pytest.raises(SettingError):
        SETTINGS[key].read(value, KNOWN)


def test_description_has_every_field():
    """Every entry has the fields that front ends read; what is restricted is not there."""
    settings = describe(TREE, DEFAULTS, KNOWN)

    assert "roles" not in settings
    groups = {key for key, entry in settings.items() if entry["type"] == "group"}
    assert GROUPS == groups
    leaves = [e for e in settings.values() if e["type"] != "group"]
    leaves += [e for g in groups for e in settings[g]["value"].values()]
    assert len(SETTINGS) - 1 == len(leaves)
    for entry in leaves:
        assert {
            "type",
            "name",
            "value",
            "description",
            "values",
            "value_names",
            "is_secret",
            "default_value",
        } == set(entry)
        assert (entry["type"] == "dropdown") == (entry["values"] is not None)
        assert entry["type"] != "dropdown" or len(entry["values"]) == len(entry["value_names"])
        assert entry["description"]


def test_description_of_one():
    """A described setting tells its value, its default and its options with their names."""
    values = {**DEFAULTS, "hintformat": "HOVER"}
    expected = {
        "type": "dropdown",
        "name": "HintFormat",
        "value": "HOVER",
        "description": SETTINGS["hintformat"].description,
        "values": ["BUTTON", "HOVER", "HOVER_DELAY", "NONE"],
        "value_names": ["Button", "Hover", "Hover With Delay", "None"],
        "is_secret": False,
        "default_value": "BUTTON",
    }

    assert expected == describe(TREE, values, KNOWN)["hintformat"]


def _load(tmp_path, text):
    file = tmp_path / "swarmkernel.toml"
    file.write_text(text)
    return SettingsSource(file, {}).load("basic_api", BasicSettings)


def test_operators_defaults(tmp_path):
    """An operator's defaults may be nested tables or dotted ids, and are converted."""
    table = (
        '[basic_api.default_user]\ntheme = "solarized"\nfileformat.DPI = "72"\n"UI.HideErrorMessages" = "x"\n'
    )

    expected = {"theme": "solarized", "fileformat.dpi": 72, "ui.hideerrormessages": "x"}
    assert expected == _load(tmp_path, table).default_user


@pytest.mark.parametrize(
    ("line", "named"), [("nonsense = 1", "nonsense"), ('audio.volume = "loud"', "audio.volume")]
)
def test_operators_bad_default(tmp_path, line, named):
    """A bad default stops the server with an error that names the file, the table and the id."""
    with pytest.raises(StartupError, match=rf"swarmkernel.toml: \[basic_api\] default_user.*{named}"):
        _load(tmp_path, f"[basic_api.default_user]\n{line}\n")
