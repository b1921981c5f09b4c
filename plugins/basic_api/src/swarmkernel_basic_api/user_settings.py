"""The user settings: their names, types, defaults and meanings, as clients of the API know them."""

from typing import Any, Final

from swarmkernel_basic_api.settings import Group, Setting, Tree, by_id


def _text(name: str, default: str, description: str) -> Setting:
    return Setting(name, "text", default, description)


def _switch(name: str, default: bool, description: str) -> Setting:
    return Setting(name, "boolean", default, description)


def _integer(name: str, default: int, description: str, low: float, high: float) -> Setting:
    return Setting(name, "integer", default, description, low=low, high=high)


def _decimal(name: str, default: float, description: str, high: float) -> Setting:
    return Setting(name, "decimal", default, description, high=high)


def _choice(name: str, default: str, description: str, *options: str, **more: Any) -> Setting:
    """Make a dropdown; an option is its value, or value and display name joined by ``=``."""
    pairs = [option.partition("=") for option in options]
    named = tuple((value, shown or value) for value, _, shown in pairs)
    return Setting(name, "dropdown", default, description, options=named, **more)


def _vae(family: str, title: str) -> Setting:
    return _choice(f"Default{family}VAE", "None", f"VAE for {title} models.", "None", open=True)


OUT_PATH_BUILDER: Final = Group(
    "OutPathBuilder",
    "Where generated files go.",
    (
        _text(
            "Format",
            "raw/[year]-[month]-[day]/[hour][minute][request_time_inc]-[prompt]-[model]",
            "Path of a generated file, without its extension.\n"
            "Words in square brackets are replaced, among them [year], [month], [day], [hour], [minute], "
            "[second], [prompt], [negative_prompt], [seed], [steps], [cfg_scale], [width], [height], [model], "
            "[user_name], [batch_id] and [number].",
        ),
        _integer("MaxLenPerPart", 40, "How many characters any one placeholder may take.", 1, 1000),
        _switch("ModelPathsSkipFolders", False, "Leave folders out of model names in paths."),
    ),
)

FILE_FORMAT: Final = Group(
    "FileFormat",
    "How generated files are saved.",
    (
        _choice("ImageFormat", "PNG", "File type of still images.", "PNG", "JPG", "WEBP_LOSSLESS", "WEBP"),
        _integer("ImageQuality", 100, "Quality of JPG and WEBP, from 1 to 100.", 1, 100),
        _switch("SaveMetadata", True, "Store the generation parameters in the file."),
        _choice(
            "StealthMetadata",
            "false",
            "Hide the generation parameters in the pixels as well.",
            "false",
            "Alpha",
            "RGB",
        ),
        _integer("DPI", 0, "Dots per inch noted in the file; 0 leaves it out.", 0, 10_000),
        _switch(
            "SaveTextFileMetadata", False, "Write the parameters to a .swarm.json file beside the image."
        ),
        _switch(
            "ReformatTransientImages",
            False,
            "Apply format and metadata to images that are not saved as well.",
        ),
    ),
)

UI: Final = Group(
    "UI",
    "How the page behaves.",
    (
        _switch(
            "TagMoveHotkeyEnabled", False, "Alt and the arrow keys move parts of a prompt between commas."
        ),
        _switch("CheckIfSureBeforeDelete", True, "Ask before anything is deleted."),
        _text(
            "PresetListDetailsFields",
            "",
            "Columns of the preset list: name, path, description, params. Empty means path,description,params.",
        ),
        _switch("CopyTriggerPhraseWithTrailingComma", False, "Add a comma after a copied trigger phrase."),
        _switch("RemoveInterruptedGens", False, "Remove unfinished images from the batch when interrupted."),
        _text(
            "HideErrorMessages", "", "Errors that contain one of these texts, separated by |, are not shown."
        ),
        _choice(
            "DeleteImageBehavior",
            "next",
            "What to show after the shown image is deleted.",
            "nothing=Nothing",
            "next=Next (Right/Down)",
            "previous=Previous (Left/Up)",
        ),
        _choice(
            "ImageShiftingCycles",
            "true",
            "Whether moving past the last image leads back to the first.",
            "true=Enabled",
            "false=Disabled",
            "only_arrows=Only Arrow Keys",
        ),
        _switch("DefaultHideMetadataInFullview", False, "Hide the metadata when the full view opens."),
    ),
)

VAES: Final = Group(
    "VAEs",
    "Which VAE a model uses by default.",
    (
        _vae("SDXL", "SDXL"),
        _vae("SDv1", "Stable Diffusion 1.x"),
        _vae("SVD", "Stable Video Diffusion"),
        _vae("Flux", "Flux"),
        _vae("Flux2", "Flux.2"),
        _vae("SD3", "Stable Diffusion 3"),
        _vae("Mochi", "Mochi"),
        _vae("Qwen", "Qwen Image"),
    ),
)

AUDIO: Final = Group(
    "Audio",
    "Sounds.",
    (
        _choice("CompletionSound", "", "Sound to play when a generation is done.", source="sounds"),
        _decimal("Volume", 0.5, "Volume from 0 to 1.", 1),
        _choice(
            "VideoAudioBehavior",
            "last",
            "Whether videos start with sound.",
            "last=Remember Last",
            "play=Autoplay",
            "silent=Default to Silent",
        ),
    ),
)

AUTO_COMPLETE: Final = Group(
    "AutoComplete",
    "Completion of words in prompts.",
    (
        _choice("Source", "", "List of words to complete from.", source="word_lists"),
        _switch("EscapeParens", True, "Put a backslash before parentheses."),
        _text("Suffix", "", "Text after each completed word."),
        _choice(
            "MatchMode", "Bucketed", "How words are found.", "Bucketed", "Contains", "StartsWith=Starts With"
        ),
        _choice(
            "SortMode", "Active", "Order of the found words.", "Active", "Alphabetical", "Frequency", "None"
        ),
        _choice("SpacingMode", "None", "What to write between words.", "None", "Spaces", "Underscores"),
    ),
)

TREE: Final[Tree] = (
    OUT_PATH_BUILDER,
    FILE_FORMAT,
    UI,
    Group(
        "ParamParsing",
        "How parameters are read.",
        (
            _switch(
                "AllowLoraStacking", True, "Allow the same LoRA more than once; otherwise the first counts."
            ),
        ),
    ),
    _switch("SaveFiles", True, "Save generated files on the server."),
    _switch("StarNoFolders", False, "Put all starred images into one folder."),
    Setting("Roles", "list", ["owner"], "Roles of the user.", restricted=True),
    _choice("Theme", "modern_dark", "Colours of the page.", source="themes"),
    _switch("CenterImageAlwaysGrow", False, "Always enlarge the main image to fill its room."),
    _switch("AutoSwapImagesIncludesFullView", False, "Show new images in the full view as well."),
    _text(
        "ButtonsUnderMainImages",
        "",
        "Buttons under the main image, separated by commas. "
        "Empty means Use As Init,Edit Image,Star,Reuse Parameters.",
    ),
    _choice("ImageMetadataFormat", "auto", "Where metadata is shown.", "auto", "below", "side"),
    _switch("ResetBatchSizeToOne", False, "Set the batch size to one whenever parameters are loaded."),
    _choice(
        "HintFormat",
        "BUTTON",
        "How hints about parameters are shown.",
        "BUTTON=Button",
        "HOVER=Hover",
        "HOVER_DELAY=Hover With Delay",
        "NONE=None",
    ),
    _decimal("HoverDelaySeconds", 0.5, "Delay of hints, in seconds.", 60),
    _integer("MaxPromptLines", 10, "How many lines the prompt box shows before it scrolls.", 1, 1000),
    VAES,
    _integer("MaxImagesInMiniGrid", 1, "Batches of up to this many images also give a grid of them.", 1, 100),
    _integer("MaxImagesInHistory", 1000, "How many images the history lists.", 1, 1_000_000),
    _integer(
        "MaxImagesScannedInHistory",
        10_000,
        "How many files the history looks at before it sorts.",
        1,
        10_000_000,
    ),
    _switch("ImageHistoryUsePreviews", True, "Show small previews in the history."),
    _integer("MaxSimulPreviews", 1, "How many live previews are requested at once.", 1, 100),
    _switch("EnterKeyGenerates", True, "The Enter key in the prompt box starts a generation."),
    _decimal("GenerateForeverDelay", 0.1, "Seconds between the starts of Generate Forever.", 86_400),
    _integer("GenerateForeverQueueSize", 1, "How many generations Generate Forever keeps waiting.", 1, 1000),
    _decimal(
        "ParameterMemoryDurationHours", 6, "How long the page remembers parameters, in hours.", 1_000_000
    ),
    _choice("Language", "en", "Language of the page.", source="languages"),
    _text(
        "ReuseParamExcludeList",
        "wildcardseed",
        "Parameters that Reuse Parameters leaves out, with commas between.",
    ),
    AUDIO,
    AUTO_COMPLETE,
)

#: Every setting by its id: dotted path in lower case.
SETTINGS: Final = by_id(TREE)

#: Ids of groups; no value can be given to one.
GROUPS: Final = frozenset(entry.name.lower() for entry in TREE if isinstance(entry, Group))

#: Ids of earlier versions.
ALIASES: Final = {
    "autocompletionssource": "autocomplete.source",
    "autocompleteescapeparens": "autocomplete.escapeparens",
    "autocompletesuffix": "autocomplete.suffix",
}

DEFAULTS: Final = {setting_id: setting.default for setting_id, setting in SETTINGS.items()}
