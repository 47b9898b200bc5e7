"""Configurations: strict, whole through JSON, and no way in for parts from elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from brainvq import config as configs
from brainvq.config import from_json, kinds, override, part_config, paths, to_json
from brainvq.errors import InputError
from brainvq.presets import PRESETS, preset
from brainvq.training.experiment import TokenizerExperiment

DEMO = preset("demo")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name: str) -> None:
    values = json.loads(json.dumps(to_json(preset(name))))
    back = from_json(type(preset(name)), values)
    assert back == preset(name)
    assert to_json(back) == values
    assert back.preset == name


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_the_keys_that_users_set(name: str) -> None:
    names = ["steps", "epochs", "batch_size", "learning_rate", "checkpoint_every", "seed"]
    assert {f"train.{key}" for key in names} <= set(paths(to_json(preset(name))))


def test_every_key_can_be_set_to_what_it_holds() -> None:
    values = to_json(DEMO)
    for path in paths(values):
        value: Any = values
        for name in path.split("."):
            value = value[name]
        assert override(DEMO, [f"{path}={json.dumps(value)}"]) == DEMO


def test_an_unknown_preset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'keras_f8'"):
        preset("keras_f9")


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ('train.steps="3"', ["train.steps", "integer", "'3'"]),
        ("train.steps=3.0", ["train.steps", "integer", "3.0"]),
        ("train.steps=true", ["train.steps", "integer", "True"]),
        ("train.learning_rate=fast", ["train.learning_rate", "number", "'fast'"]),
        ("train.learning_rate=NaN", ["train.learning_rate", "finite"]),
        ("train.epochs=Infinity", ["train.epochs", "finite"]),
        ("train.precision=fp16", ["train.precision", "'bf16'", "'fp16'"]),
        ("preset=3", ["preset", "string", "got 3"]),
        ("task.divide_by_variance=1", ["task.divide_by_variance", "boolean"]),
        ("tokenizer.quantizer.entries=0", ["tokenizer.quantizer.entries", "greater than 0", "got 0"]),
        ("tokenizer.network.widths=[]", ["tokenizer.network.widths", "at least 1"]),
        ("task.optimiser.average=1", ["task.optimiser.average", "less than 1"]),
        ("train.stepz=3", ["unknown key 'train.stepz'", "did you mean 'train.steps'"]),
        ("tokenizer.quantiser.entries=3", ["did you mean 'tokenizer.quantizer.entries'"]),
        ("learning_rate=3", ["did you mean 'train.learning_rate'"]),
        ("train.steps.more=3", ["unknown key 'train.steps.more'"]),
        ("train..steps=3", ["unknown key"]),
        ("=3", ["unknown key"]),
        ("train.steps", ["no '='", "train.steps=100"]),
        ("train=3", ["'train' is a group", "train.steps"]),
        ("tokenizer.quantizer=quantizers.vq", ["is a group", "tokenizer.quantizer.entries"]),
        ('tokenizer.quantizer={"kind": "quantizers.vq", "entrys": 4}', ["tokenizer.quantizer.entrys"]),
        ('tokenizer.quantizer={"entries": 4}', ["tokenizer.quantizer", 'needs a "kind"']),
        ('tokenizer.quantizer={"kind": 4}', ["tokenizer.quantizer", 'needs a "kind"']),
        ('tokenizer.quantizer={"kind": "networks.keras_conv"}', ["tokenizer.quantizer", "another sort of part"]),
        ('tokenizer.network={"kind": "quantizers.vq"}', ["tokenizer.network", "another sort of part"]),
        ('tokenizer.quantizer={"kind": "quantizers.vk"}', ["did you mean 'quantizers.vq'"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_that_names_it(assignment: str, said: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        override(DEMO, [assignment])
    message = str(refused.value)
    assert all(part in message for part in said), message
    assert "\n" not in message
    assert "pydantic" not in message


def test_lists_null_text_and_numbers_can_be_set() -> None:
    changed = override(
        DEMO,
        [
            "train.steps=null",
            "train.epochs = 3",
            "tokenizer.network.widths=[4, 8]",
            r"data.subject_pattern=sub-(\d+)=[ab]",
            "train.precision=fp32",
            "train.learning_rate=1e-4",
        ],
    )
    assert changed.train.steps is None
    assert changed.train.epochs == 3.0
    assert to_json(changed)["tokenizer"]["network"]["widths"] == [4, 8]
    assert changed.data.subject_pattern == r"sub-(\d+)=[ab]"
    assert (changed.train.precision, changed.train.learning_rate) == ("fp32", 1e-4)


def test_override_changes_only_what_it_names_and_the_last_one_wins() -> None:
    changed = to_json(override(DEMO, ["train.seed=1", "train.seed=2"]))
    expected = to_json(DEMO)
    expected["train"]["seed"] = 2
    assert changed == expected
    assert override(DEMO, []) == DEMO
    assert preset("demo") == DEMO, "the experiment given is left alone"


def test_a_part_can_be_replaced_as_a_whole() -> None:
    changed = override(DEMO, ['tokenizer.quantizer={"kind": "quantizers.vq", "entries": 4}'])
    assert to_json(changed)["tokenizer"]["quantizer"]["entries"] == 4
    assert to_json(changed)["tokenizer"]["network"] == to_json(DEMO)["tokenizer"]["network"]


def test_unknown_keys_in_a_file_are_refused() -> None:
    values = to_json(DEMO)
    values["train"]["stepz"] = 3
    with pytest.raises(InputError, match=r"train\.stepz"):
        from_json(TokenizerExperiment, values)


def test_every_part_is_found_by_its_file() -> None:
    for folder in configs.FOLDERS:
        assert kinds(folder), folder
        for kind in kinds(folder):
            config = part_config(kind)
            assert config.model_fields["kind"].default == kind
            assert config.__module__ == f"brainvq.{kind}"


@pytest.mark.parametrize(
    "kind",
    [
        "os.path",
        "os",
        "",
        "quantizers",
        "quantizers.",
        "quantizers.base",
        "quantizers.search",
        "quantizers.__init__",
        "quantizers..vq",
        "quantizers.../../x",
        "quantizers./vq",
        "quantizers.vq.Config",
        "quantizers.vq\n",
        "brainvq.quantizers.vq",
        "training.loop",
        "training.experiment",
        "training.optimise",
        "data.cohort",
        "pipeline",
    ],
)
def test_only_parts_resolve(kind: str) -> None:
    with pytest.raises(InputError, match="unknown part"):
        part_config(kind)


def test_a_strangers_config_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    values = to_json(DEMO)
    for kind in ("trap", "quantizers.trap", "..trap", "quantizers...trap"):
        values["tokenizer"] = {"kind": kind}
        with pytest.raises(InputError):
            from_json(TokenizerExperiment, values)
    assert not (tmp_path / "sprung").exists()
