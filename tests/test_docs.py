"""README and docs/: links lead somewhere, commands and options exist, Python is Python."""

import ast
import dataclasses
import importlib
import importlib.util
import pathlib
import re
import shlex

import pytest
import yaml

import models

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

TAKING = {"experiments.ablate", "experiments.lr_range"}
"""Programs whose first word is an experiment."""

page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(text):
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def prose(text):
    """What is outside of fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def spans(text):
    """Contents of inline code."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def links(text):
    """(what is shown, target) of each link and, with a "!" in front, of each picture."""
    return re.findall(r"(!?\[[^\]]*\])\(([^)\s]+)\)", prose(text))


def slug(heading):
    """The anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(text):
    """Words of each command, from inline code and from blocks without a language."""
    lines = list(spans(text))
    for language, content in blocks(text):
        if not language:
            lines += content.replace("\\\n", " ").splitlines()
    for line in lines:
        for one in line.split(" && "):
            one = re.sub(r"\s+#.*$|^([A-Z_]+=\S+ )+", "", one)
            if re.match(r"(python|make|pip) ", one):
                yield shlex.split(one)


def program(words):
    """Name and file of the module that a command runs, or None."""
    if words[0] != "python":
        return None
    if words[1] != "-m":
        file = ROOT / words[1]
        return ".".join(file.relative_to(ROOT).with_suffix("").parts), file
    file = ROOT.joinpath(*words[2].split("."))
    if file.is_dir():
        return f"{words[2]}.__main__", file / "__main__.py"
    return words[2], file.with_suffix(".py")


def options(name, file):
    """Names of a program's options, without dashes in front."""
    module = importlib.import_module(name)
    if hasattr(module, "Config"):
        fields = {field.name.replace("_", "-") for field in dataclasses.fields(module.Config)}
        return fields | {"help"}
    return set(re.findall(r'"--([a-z-]+)"', file.read_text())) | {"help"}


def taken(words, name, file):
    """Options of a command: those of the experiment that it names too, where it takes one."""
    known = options(name, file)
    experiment = ROOT / "experiments" / f"{words[2] if len(words) > 2 else ''}.py"
    if name in TAKING and experiment.is_file():
        known |= options(f"experiments.{experiment.stem}", experiment)
    return known


def scripts():
    """Files of experiments/ that are run."""
    files = sorted((ROOT / "experiments").glob("*.py"))
    return [file for file in files if '__name__ == "__main__"' in file.read_text()]


def test_the_readme_is_short_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 185
    assert {f"docs/{one.name}" for one in PAGES[1:]} <= {target for _, target in links(text)}


@page
def test_links_and_pictures_lead_somewhere(page):
    for shown, target in links(page.read_text()):
        if re.match("https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(file.read_text()), re.M)
            assert anchor in map(slug, headings), target
        if shown.startswith("!"):
            assert file.stat().st_size < 400_000, target
            assert len(shown) > len("![]"), f"{target} is not described"


def test_every_picture_is_shown():
    shown = {page.parent / target for page in PAGES for _, target in links(page.read_text())}
    assert {file for file in (ROOT / "docs").iterdir() if file.suffix != ".md"} <= shown


@page
def test_lines_outside_of_tables_and_blocks_are_of_one_length(page):
    lines = prose(page.read_text()).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@page
def test_named_paths_exist(page):
    for span in spans(page.read_text()):
        if re.fullmatch(r"(models|train|experiments|tests|docs)/[\w./-]*", span):
            assert (ROOT / span).exists(), span


@page
def test_commands_run_what_there_is(page):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M)
    for words in commands(page.read_text()):
        if words[0] == "make":
            assert words[1] in targets, words
        if found := program(words):
            name, file = found
            assert file.exists(), words
            if given := {word[2:] for word in words if word.startswith("--")}:
                assert given <= taken(words, name, file), words
        if "--model" in words and (model := words[words.index("--model") + 1]) != "…":
            assert model in models.names(), words


@page
def test_options_on_their_own_are_those_of_some_experiment(page):
    known = set().union(*(options(f"experiments.{file.stem}", file) for file in scripts()))
    for name in ("experiments.benchmark", "models.inspect", "train.runs"):
        known |= options(*program(["python", "-m", name]))
    for span in spans(page.read_text()):
        assert set(re.findall(r"--([a-z][a-z-]+)", span)) <= known, span


def test_every_experiment_is_described():
    text = "".join(page.read_text() for page in PAGES)
    assert [file.name for file in scripts() if f"experiments/{file.name}" not in text] == []


@page
def test_snippets_are_python_and_import_what_there_is(page):
    for language, content in blocks(page.read_text()):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    assert hasattr(module, alias.name) or importlib.util.find_spec(name), name


def test_the_table_of_models_is_that_of_the_networks():
    spec = importlib.util.spec_from_file_location("counts", ROOT / "tests/models/test_models.py")
    counts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counts)
    text = (ROOT / "docs" / "models.md").read_text()
    shown = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+\d)", text, re.M))
    assert shown == {name: f"{count:,}" for name, _, _, count in counts.ROWS}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`python experiments/a.py --b 1`", [["python", "experiments/a.py", "--b", "1"]]),
        ("```\nmake train    # makes\n```\n", [["make", "train"]]),
        ("```\nA=1 python a.py \\\n    --b\n```\n", [["python", "a.py", "--b"]]),
        ("`pip install x && python -m y`", [["pip", "install", "x"], ["python", "-m", "y"]]),
        ("```python\nmake = 1\n```\n", []),
        ("make it", []),
    ],
)
def test_commands_are_found(text, found):
    assert list(commands(text)) == found


@pytest.mark.parametrize("file", ["slurm.sh", "jobset.yaml"])
def test_jobs_give_options_that_exist(file):
    text = (ROOT / "docs" / file).read_text()
    if file.endswith(".yaml"):
        job = yaml.safe_load(text)["spec"]["replicatedJobs"][0]
        pods = job["template"]["spec"]
        (container,) = pods["template"]["spec"]["containers"]
        text = container["command"][-1]
        name = f"imagenet-{job['name']}-0-0.imagenet:{container['ports'][0]['containerPort']}"
        assert f"--coordinator {name}" in text
        assert f"--processes {pods['completions']}" in text
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "srun --"))]
    given = set(re.findall(r"--([a-z-]+)", "\n".join(lines)))
    given |= set(re.findall(r"python \S+ .*?--([a-z-]+)", text))
    config = importlib.import_module("experiments.resnet_imagenet").Config
    fields = {field.name.replace("_", "-") for field in dataclasses.fields(config)}
    assert {"data", "workdir"} <= given <= fields
