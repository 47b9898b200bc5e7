"""What the documents say is there: links, commands, tests, messages, settings, definitions, the worked example."""

import ast
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer

import laws
from brainvq import config as configs
from brainvq.cli import app
from brainvq.config import override, part_config, paths, to_json
from brainvq.describe import draw
from brainvq.metrics import usage
from brainvq.metrics.definitions import MEASURES
from brainvq.presets import preset
from brainvq.quantizers.base import Quantizer, QuantizerConfig
from brainvq.training.prior_experiment import PriorExperiment

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "walkthrough.ipynb"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """Markdown of a page; of a notebook, that of its text cells."""
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose_of(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def commands_of(page: Path) -> Iterator[str]:
    """Command lines in fenced blocks, and those in the text between backticks."""
    for language, block in FENCE.findall(text_of(page)):
        if language != "python":
            yield from re.findall(r"^(brainvq [a-z].*)$", block, re.MULTILINE)
    yield from re.findall(r"`(brainvq [a-z][^`]*)`", prose_of(page))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def rows_under(page: Path, heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head; tables of results are made elsewhere."""
    section = text_of(page).split(heading, 1)[1].split("\n## ", 1)[0]
    section = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", section, flags=re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert found.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in commands_of(page):
        _, name, *words = shlex.split(line, comments=True)
        assert name in known, f"{page.name}: {line}"
        parameters = known[name].params
        options = {option for each in parameters for option in (*each.opts, *each.secondary_opts)} | {"--help"}
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in options, f"{page.name}: {line}"
            if name == "describe" and word == words[0]:
                preset(word)
        if name == "train" and words:
            if words[0].islower():
                is_prior = isinstance(preset(words[0]), PriorExperiment)
                assert ("--tokenizer" in words) is is_prior, f"{page.name}: {line}"
            given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            fits = [setting for setting in given if "quantizers.fixed" not in setting and "..." not in setting]
            if words[0].islower():
                override(preset(words[0]), fits)


def test_commands_are_found_at_all() -> None:
    names = {line.split()[1] for page in PAGES for line in commands_of(page)}
    assert {"check", "cohort", "describe", "evaluate", "presets", "report", "sample", "train"} <= names
    assert {line.split()[2] for page in PAGES for line in commands_of(page) if line.startswith("brainvq train")} >= {
        *("keras_f8", "resnet_f4_ema", "dcgan", "pixelcnn")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", text_of(page)):
        tree = ast.parse((ROOT / file).read_text())
        assert not name or name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_measures_are_defined_word_for_word() -> None:
    page = ROOT / "docs" / "measures.md"
    told = rows_under(page, "## Distance of a reconstruction")
    assert told == [[f"`{name}`", m.label, m.unit, m.better, m.definition] for name, m in MEASURES.items()]
    told = rows_under(page, "## Use and price")
    assert told == [[f"`{name}`", definition] for name, definition in usage.DEFINITIONS.items()]


@pytest.mark.parametrize(("page", "name"), [("system-a.md", "keras_f8"), ("system-b.md", "resnet_f4")])
def test_the_two_presets_differ_in_what_the_page_says_and_in_nothing_else(page: str, name: str) -> None:
    exact, cured = (to_json(preset(each)) for each in (name, f"{name}_ema"))

    def at(values: dict, path: str) -> object:
        for key in path.split("."):
            values = values[key]
        return values

    keys = [key for key in paths(exact) if at(exact, key) != at(cured, key) and key != "preset"]
    told = rows_under(ROOT / "docs" / page, f"## What `{name}_ema` changes")
    expected = {f"`{key}`": [f"`{json.dumps(at(side, key))}`" for side in (exact, cured)] for key in keys}
    assert {row[0]: row[1:3] for row in told} == expected


def test_the_layer_table_adds_up() -> None:
    rows = rows_under(ROOT / "docs" / "system-a.md", "## The network")
    counts = {row[0]: int(row[2].strip("*").replace(",", "")) for row in rows if row[2]}
    model = preset("keras_f8").tokenizer.build()  # type: ignore[attr-defined]
    real = {f"*{name}*": sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    layers = [[p.numel() for p in part.parameters()] for part in (model.encoder, model.decoder)]
    single = [sum(pair) for part in layers for pair in zip(part[::2], part[1::2], strict=True)]
    codebook = next(count for name, count in counts.items() if name.startswith("codebook"))
    told = [int(row[2].replace(",", "")) for row in rows if "conv" in row[0]]
    assert (told, codebook) == (single, real["*quantizer*"])
    assert all(counts[name] == real[name] for name in ("*encoder*", "*decoder*"))


def test_the_layer_table_of_system_b_adds_up() -> None:
    rows = rows_under(ROOT / "docs" / "system-b.md", "## The tokenizer")
    told = [int(row[2].strip("*").replace(",", "")) for row in rows if row[2]]
    model = preset("resnet_f4").tokenizer.build()  # type: ignore[attr-defined]
    real = []
    for side in (model.encoder, model.decoder):
        layers = [sum(p.numel() for p in layer.parameters()) for layer in side.layers]
        real += [*filter(None, layers), sum(layers)]
        real += [model.quantizer.codebook.numel()] if side is model.encoder else []
    assert told == real
    outputs = {"128 x 128 x 256", "64 x 64 x 256", "256 x 256 x 1", ""}
    assert {row[1] for row in rows} == outputs


FIGURES = [
    (words[2], page.parent / words[words.index("--figure") + 1])
    for page in PAGES
    for words in map(str.split, commands_of(page))
    if "--figure" in words
]


@pytest.mark.parametrize(("name", "file"), FIGURES, ids=[name for name, _ in FIGURES])
def test_figures_say_what_their_command_would_draw_today(name: str, file: Path, tmp_path: Path) -> None:
    """Matplotlib writes each text as a comment beside its shapes."""
    draw(preset(name), (256, 256), tmp_path / file.name)
    told, now = (re.findall(r"<!-- (.*?) -->", path.read_text()) for path in (file, tmp_path / file.name))
    assert told == now != []


@pytest.mark.parametrize("name", ["SYSTEM_B", "ABLATION", "GENERATION"])
def test_tables_have_their_place(name: str) -> None:
    """What `benchmarks/tables.py` fills, and nothing else."""
    page = (ROOT / "docs" / "system-b.md").read_text()
    assert page.count(f"<!-- {name} -->\n") == page.count(f"<!-- /{name} -->\n") == 1


def test_quoted_messages_are_those_of_the_code() -> None:
    """Each piece between dots stands in some string of the package."""
    said = [
        node.value
        for file in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    quoted = [row[0].strip("`") for row in rows_under(ROOT / "docs" / "data.md", "## What each error means")]
    assert len(quoted) > 15
    for message in quoted:
        for piece in message.split("..."):
            assert any(piece.strip() in text for text in said), message


def test_known_subject_patterns_are_listed() -> None:
    from brainvq.data.subjects import SUBJECT_PATTERNS

    told = [row[0].strip("`").replace("\\|", "|") for row in rows_under(ROOT / "docs" / "data.md", "## Subjects")]
    assert tuple(told) == SUBJECT_PATTERNS


@pytest.fixture
def fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The worked example of CONTRIBUTING.md, as if it lay in the folder of quantizers."""
    blocks = [
        block for language, block in FENCE.findall((ROOT / "CONTRIBUTING.md").read_text()) if language == "python"
    ]
    file = tmp_path / "fixed.py"
    file.write_text(blocks[0])
    spec = importlib.util.spec_from_file_location("brainvq.quantizers.fixed", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    kinds = configs.kinds
    more = {"quantizers": ["quantizers.fixed"]}
    monkeypatch.setattr(configs, "kinds", lambda folder: sorted({*kinds(folder), *more.get(folder, [])}))
    return module


@pytest.fixture
def example(fixed: ModuleType) -> Quantizer:
    found = part_config("quantizers.fixed")()
    assert isinstance(found, QuantizerConfig)
    return found.build(laws.DIM)


LAWS = [
    laws.z_q_is_what_the_codes_stand_for,
    laws.quantizing_twice_is_quantizing_once,
    laws.reading_changes_nothing,
    laws.the_gradient_passes_straight_through,
    laws.losses_are_named_finite_and_not_negative,
    laws.autocast_changes_nothing,
    laws.neighbours_in_the_batch_do_not_matter,
    laws.the_layout_in_memory_does_not_matter,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_example_of_a_quantizer_keeps_the_contract(law, example: Quantizer) -> None:
    law(example, laws.latents(6, 5))


def test_the_example_handles_empty_batches_and_large_codebooks(fixed: ModuleType, example: Quantizer) -> None:
    laws.an_empty_batch_has_no_codes(example)
    many = fixed.Config(entries=2048).build(laws.DIM)
    laws.no_table_of_vectors_by_entries_is_made(many, laws.latents(64, 64, batch=2))


def test_the_example_takes_the_place_of_a_presets_quantizer(fixed: ModuleType) -> None:
    line = next(line for line in commands_of(CONTRIBUTING) if "quantizers.fixed" in line)
    words = shlex.split(line)
    experiment = override(preset(words[2]), [words[words.index("--set") + 1]])
    model = experiment.tokenizer.build()  # type: ignore[attr-defined]
    assert isinstance(model.quantizer, fixed.FixedCodebook)
    x = torch.rand(1, 1, 16, 24) * 2 - 1
    codes = model.encode(x)
    assert codes[0].shape == (1, *model.spec.grids((16, 24))[0])
    assert model.decode(codes).shape == x.shape
