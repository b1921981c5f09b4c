"""The parameters as data: what clients of the wire expect, row by row."""

import pytest

from swarmkernel_t2i_api import Group, Param
from swarmkernel_t2i_api.params import PARAMS
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.types import clean_id

KEYS = [
    "id",
    "name",
    "type",
    "default",
    "ignore",
    "min",
    "max",
    "view_min",
    "view_max",
    "step",
    "flags",
    "view_type",
    "priority",
    "feature_flag",
    "subtype",
    "group",
    "permission",
]
#: The rows of the wire. Flags: Advanced, Toggleable, Hidden, Sectionalizable, Retained, not Previewed, Not saved,
#: Unreusable, hidden from Metadata.
# fmt: off
ROWS = [
    ("prompt", "Prompt", "text", "", None, 0, 0, 0, 0, 0, "H", "prompt", -100, None, None, None, None),
    ("negativeprompt", "Negative Prompt", "text", "", "", 0, 0, 0, 0, 0, "H", "prompt", -90, None, None, None, None),
    ("model", "Model", "model", "", None, 0, 0, 0, 0, 0, "H", "small", 0, None, "Stable-Diffusion", None, "model_params"),
    ("images", "Images", "integer", "1", "1", 1, 10000, 0, 0, 1, "R", "small", -50, None, None, "Core Parameters", None),
    ("seed", "Seed", "integer", "-1", None, -1, 9223372036854775807, 0, 0, 1, "", "seed", -30, None, None, "Core Parameters", None),
    ("steps", "Steps", "integer", "20", None, 0, 500, 0, 60, 1, "S", "slider", -20, None, None, "Core Parameters", None),
    ("cfgscale", "CFG Scale", "decimal", "7", None, 0, 100, 0, 20, 0.5, "S", "slider", -18, None, None, "Core Parameters", None),
    ("variationseed", "Variation Seed", "integer", "-1", None, -1, 4294967295, 0, 0, 1, "S", "seed", -17, "variation_seed", None, "Variation Seed", None),
    ("variationseedstrength", "Variation Seed Strength", "decimal", "0", "0", 0, 1, 0, 0, 0.05, "S", "slider", -17, "variation_seed", None, "Variation Seed", None),
    ("aspectratio", "Aspect Ratio", "dropdown", "1:1", None, 0, 0, 0, 0, 0, "", "small", -11, None, None, "Resolution", None),
    ("width", "Width", "integer", "512", None, 64, 16384, 256, 2048, 32, "", "pot_slider", -10, None, None, "Resolution", None),
    ("height", "Height", "integer", "512", None, 64, 16384, 256, 2048, 32, "", "pot_slider", -9, None, None, "Resolution", None),
    ("sidelength", "Side Length", "integer", "1024", None, 64, 16384, 256, 4096, 32, "T", "pot_slider", -8, None, None, "Resolution", None),
    ("initimage", "Init Image", "image", None, None, 0, 0, 0, 0, 0, "", "small", -5, None, None, "Init Image", None),
    ("initimagecreativity", "Init Image Creativity", "decimal", "0.6", None, 0, 1, 0, 0, 0.05, "", "slider", -4.5, None, None, "Init Image", None),
    ("maskimage", "Mask Image", "image", None, None, 0, 0, 0, 0, 0, "", "small", -4, None, None, "Init Image", None),
    ("maskblur", "Mask Blur", "integer", "4", "0", 0, 64, 0, 0, 0, "", "small", -3.6, None, None, "Init Image", None),
    ("sampler", "Sampler", "dropdown", "euler", None, 0, 0, 0, 0, 0, "TS", "small", -5, "comfyui", None, "Sampling", None),
    ("scheduler", "Scheduler", "dropdown", "normal", None, 0, 0, 0, 0, 0, "TS", "small", -4, "comfyui", None, "Sampling", None),
    ("vae", "VAE", "model", "None", "None", 0, 0, 0, 0, 0, "AT", "small", 0, None, "VAE", "Advanced Model Addons", "model_params"),
    ("automaticvae", "Automatic VAE", "boolean", "false", "false", 0, 0, 0, 0, 0, "ATHU", "small", 0, None, None, "Advanced Model Addons", "model_params"),
    ("loras", "LoRAs", "list", "", "", 0, 0, 0, 0, 0, "AH", "small", 0, None, "LoRA", "Advanced Model Addons", None),
    ("loraweights", "LoRA Weights", "list", "", "", -10, 10, 0, 0, 0.1, "AH", "small", 0, None, None, "Advanced Model Addons", None),
    ("batchsize", "Batch Size", "integer", "1", "1", 1, 100, 1, 10, 1, "A", "slider", -20, None, None, "Swarm Internal", None),
    ("rawresolution", "Raw Resolution", "text", "1024x1024", None, 0, 0, 0, 0, 0, "AT", "small", -18, None, None, "Swarm Internal", None),
    ("donotsave", "Do Not Save", "boolean", "false", "false", 0, 0, 0, 0, 0, "AR", "small", -15, None, None, "Swarm Internal", None),
    ("nopreviews", "No Previews", "boolean", "false", "false", 0, 0, 0, 0, 0, "AR", "small", -14, None, None, "Swarm Internal", None),
    ("continueaftererrors", "Continue After Errors", "boolean", "false", "false", 0, 0, 0, 0, 0, "AR", "small", -12, None, None, "Swarm Internal", None),
    ("internalbackendtype", "[Internal] Backend Type", "dropdown", "Any", "Any", 0, 0, 0, 0, 0, "AR", "small", -10, None, None, "Swarm Internal", "param_backend_type"),
    ("exactbackendid", "Exact Backend ID", "dropdown", "0", None, 0, 0, 0, 0, 0, "ATR", "big", -9, None, None, "Swarm Internal", "param_backend_id"),
    ("noseedincrement", "No Seed Increment", "boolean", "false", "false", 0, 0, 0, 0, 0, "AR", "small", -4, None, None, "Swarm Internal", None),
    ("forwardswarmdata", "Forward Swarm Data", "boolean", "false", "false", 0, 0, 0, 0, 0, "AHRM", "small", 0, None, None, "Swarm Internal", None),
    ("forwardrawbackenddata", "Forward Raw Backend Data", "boolean", "false", "false", 0, 0, 0, 0, 0, "AHRM", "small", 0, None, None, "Swarm Internal", None),
    ("personalnote", "Personal Note", "text", "", "", 0, 0, 0, 0, 0, "AR", "big", 0, None, None, "Swarm Internal", None),
    ("imageformat", "Image Format", "dropdown", "PNG", None, 0, 0, 0, 0, 0, "ATR", "small", 1, None, None, "Swarm Internal", None),
    ("colordepth", "Color Depth", "dropdown", "8bit", "8bit", 0, 0, 0, 0, 0, "A", "small", 1.5, None, None, "Swarm Internal", None),
    ("overrideoutpathformat", "Override Outpath Format", "text", "raw/[year]-[month]-[day]/[hour][minute][request_time_inc]-[prompt]-[model]", None, 0, 0, 0, 0, 0, "AT", "small", 3, None, None, "Swarm Internal", None),
    ("clipstopatlayer", "CLIP Stop At Layer", "integer", "-1", None, -24, -1, 0, 0, 1, "AT", "small", -10, None, None, "Advanced Sampling", None),
]
# fmt: on
FLAGS = {
    "A": "advanced",
    "T": "toggleable",
    "S": "can_sectionalize",
    "R": "always_retain",
    "P": "do_not_preview",
    "N": "do_not_save",
    "U": "nonreusable",
    "M": "hidden_from_metadata",
}
WIRE_KEYS = {
    "name", "id", "description", "type", "subtype", "default", "min", "max", "view_min", "view_max", "step", "values",
    "value_names", "examples", "visible", "advanced", "feature_flag", "toggleable", "priority", "group",
    "always_retain", "do_not_save", "do_not_preview", "view_type", "extra_hidden", "can_sectionalize", "nonreusable",
    "depend_non_default",
}  # fmt: skip
BY_ID = {param.id: param for param in PARAMS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_rows(row):
    """Each parameter has the id, type, default, range, flags and place that the wire gives it."""
    expected = dict(zip(KEYS, row, strict=True))
    param = BY_ID[expected["id"]]
    flags = expected.pop("flags")
    assert [letter for letter in FLAGS if letter in flags] == [
        k for k, v in FLAGS.items() if getattr(param, v)
    ]
    assert ("H" not in flags) == param.visible
    assert expected.pop("group") == (param.group and param.group.name)
    assert expected.pop("permission") == (param.permission and param.permission.id)
    assert expected == {key: getattr(param, key) for key in expected}


def test_rows_are_all():
    """There is no parameter beside those of the table."""
    assert {row[0] for row in ROWS} == set(BY_ID)


@pytest.mark.parametrize("param", PARAMS, ids=lambda param: param.id)
def test_wire_keys(param):
    """A parameter shows every key on the wire, always, and a name for every option."""
    shown = param.to_wire()
    assert WIRE_KEYS == set(shown)
    assert len(shown["values"] or ()) == len(shown["value_names"] or ())
    assert (param.type == "image") == (shown["default"] is None)
    assert shown["description"]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("CFG Scale", "cfgscale"),
        ("cfg_scale", "cfgscale"),
        ("SD3 TextEncs", "sdtextencs"),
        ("T5-XXL Model", "txxlmodel"),
        ("[Internal] Backend Type", "internalbackendtype"),
        ("123", ""),
        ("ÅÄÖ", ""),
    ],
)
def test_clean_id(name, cleaned):
    """An id is the letters a to z of a name, lower case."""
    assert cleaned == clean_id(name)


def test_look_up():
    """A parameter is found by id, by name in any spelling, and by an older id."""
    registry = ParamRegistry({**BY_ID, "videofps": Param("Video FPS", "integer")})
    assert "cfgscale" == registry.get("CFG-Scale").id
    assert "videofps" == registry.get("textvideofps").id
    assert registry.get("nothing") is None


def test_live_options():
    """Options that follow the backends are asked for each time."""
    options = [("Any", "Any")]
    registry = ParamRegistry(dict(BY_ID), {"internalbackendtype": lambda: options})
    assert ("Any",) == registry.get("internalbackendtype").values
    options.append(("torch", "Torch"))
    shown = next(param.to_wire() for param in registry if param.id == "internalbackendtype")
    assert ["Any", "torch"] == shown["values"]
    assert ["Any", "Torch"] == shown["value_names"]


def test_added_options():
    """What backends take beside a dropdown's own values is shown behind those, once."""
    registry = ParamRegistry(dict(BY_ID))
    registry.added = lambda param: ["uni_pc", "euler", "uni_pc"] if param == "sampler" else []
    shown = registry.get("sampler").to_wire()
    assert [*BY_ID["sampler"].values, "uni_pc"] == shown["values"]
    assert [*BY_ID["sampler"].value_names, "uni_pc"] == shown["value_names"]
    assert BY_ID["scheduler"].values == registry.get("scheduler").values


def test_groups():
    """Groups that occur are listed once, with those above them, by priority."""
    above = Group("Above", 3)
    registry = ParamRegistry({"a": Param("A", "text", group=Group("Below", 1, parent=above)), **BY_ID})
    ids = [group.id for group in registry.groups()]
    assert {"above", "below", "coreparameters", "sampling", "swarminternal"} <= set(ids)
    assert len(ids) == len(set(ids))
    priorities = [group.priority for group in registry.groups()]
    assert sorted(priorities) == priorities
    keys = {"name", "id", "toggles", "open", "priority", "description", "advanced", "can_shrink", "parent"}
    assert keys == set(above.to_wire())
