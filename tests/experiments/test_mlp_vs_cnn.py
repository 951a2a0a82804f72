"""MLP against CNN: what is counted, moved, permuted and refused, and what a study leaves behind."""

import dataclasses
import io
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tfds_set import write_set

import models
from experiments import mlp_vs_cnn, mlp_vs_cnn_findings, mlp_vs_cnn_networks, mlp_vs_cnn_probes
from experiments.mlp_vs_cnn import DIGITS, FASHION_MNIST
from experiments.mlp_vs_cnn_findings import Accuracy, Count, Findings
from experiments.mlp_vs_cnn_networks import LECTURE, Flatten
from experiments.mlp_vs_cnn_probes import permutation, permuted
from models.classification.mlp import MLP
from train import cli
from train.data.arrays import Arrays
from train.data.named import Splits
from train.data.source import About
from train.mesh import make_mesh
from train.refusal import Refused
from train.stop import Stop, Stopped
from train.study import Diverged
from train.tasks import adapt

ABOUT = About(
    "drawn", "test", ("a", "b", "c"), mirror=False, shape=(8, 8, 1), mean=(127.0,), std=(70.0,)
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A whole study of 8x8 images in few steps: its directory and what it printed."""
    root = tmp_path_factory.mktemp("study")
    labels = [i % 3 for i in range(48)]
    across = np.tile(np.arange(8) * 25, (8, 1))
    kinds = (across, across.T, 175 * np.eye(8))  # from left to right, from top to bottom, a line
    rng = np.random.default_rng(0)
    images = [np.uint8(kinds[k][..., None] + rng.integers(0, 80, (8, 8, 1))) for k in labels]
    splits = {"train": labels, "test": labels[:21]}
    write_set(root, "tiny", splits=splits, shape=(8, 8, 1), images=images)
    path = root / "run"
    arguments = (
        "--data", "tiny", "--steps", 12, "--batch-size", 8, "--warmup-steps", 2, "--validation",
        0, "--channels", 4, 6, "--shifts", 0, 1, "--angles", 0, 30, "--sizes", 8, 12,
        "--devices", 1, "--workdir", path,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(root))
        code = cli.command_line("experiments.mlp_vs_cnn", [str(one) for one in arguments])
    assert code == 0
    return path


def found(path):
    """What a study wrote, as (network, change, amount) -> accuracy."""
    rows = json.loads((path / "findings.json").read_text())["accuracies"]
    return {(row["network"], row["change"], row["amount"]): row["accuracy"] for row in rows}


def test_a_study_is_five_runs_a_figure_and_tables(study):
    for name in ("mlp", "cnn", "flatten", "mlp_permuted", "cnn_permuted"):
        assert json.loads((study / name / "config.json").read_text())["model"] == name
        assert (study / name / "report.html").exists()
    with Image.open(study / "figure.png") as picture:
        assert len({*picture.convert("RGB").resize((60, 40)).get_flattened_data()}) > 10
    text = (study / "tables.md").read_text()
    assert "19,349,176,320,000" in text
    clean = found(study)["mlp", "none", 0]
    assert f"| none | {100 * clean:.2f} |" in text


def test_accuracies_are_those_of_the_runs(study):
    """The transformed evaluation at the identity is the ordinary one, to the last example."""
    accuracies = found(study)
    for name in ("mlp", "cnn", "flatten"):
        clean = json.loads((study / name / "summary.json").read_text())["test/accuracy"]
        assert accuracies[name, "none", 0] == clean
        assert accuracies[name, "shift", 0] == clean
        assert accuracies[name, "rotation", 0] == clean
    for name in ("mlp", "cnn"):  # so it is the permutation that was trained on
        summary = json.loads((study / f"{name}_permuted" / "summary.json").read_text())
        assert accuracies[name, "permuted", 0] == summary["test/accuracy"]
    assert accuracies["mlp", "none", 0] > 0.5


def test_only_a_mean_over_positions_takes_another_size(study):
    accuracies = found(study)
    assert accuracies["mlp", "size", 12] is None
    assert accuracies["flatten", "size", 12] is None
    assert accuracies["cnn", "size", 12] is not None
    assert accuracies["adaptive", "size", 12] is not None
    for name, same in (
        ("mlp", "mlp"),
        ("cnn", "cnn"),
        ("flatten", "flatten"),
        ("adaptive", "flatten"),
    ):
        assert accuracies[name, "size", 8] == accuracies[same, "none", 0]
    assert "| MLP | " in (study / "tables.md").read_text()
    assert "refused" in (study / "tables.md").read_text()


def test_parameters_by_hand():
    about = dataclasses.replace(ABOUT, classes=tuple("0123456789"), shape=(28, 28, 1))
    counts = mlp_vs_cnn_networks.counts((8, 16, 32), about)
    counted = {(count.network, count.image): count.parameters for count in counts}
    upper = 256 * 128 + 128 + 128 * 100 + 100 + 100 * 10 + 10
    for side in (28, 56, 112, 224):
        image = (side, side, 1)
        convolutions = 9 * (8 + 8 * 16 + 16 * 32) + 2 * (8 + 16 + 32)
        assert counted["mlp", image] == side**2 * 256 + 256 + upper
        assert counted["cnn", image] == convolutions + 32 * 10 + 10
        assert counted["flatten", image] == convolutions + (side // 4) ** 2 * 32 * 10 + 10
        assert counted["half", image] == side**2 * (side**2 // 2)
    assert counted["mlp", LECTURE] == 6_220_800 * 256 + 256 + upper
    assert counted["cnn", LECTURE] == counted["cnn", (28, 28, 1)] + 2 * 9 * 8  # of two more colours
    assert counted["half", LECTURE] == 6_220_800 * 3_110_400 == 19_349_176_320_000


# --- the permutation --------------------------------------------------------------------------


def test_the_permutation_is_one_and_stays_the_same():
    order = permutation(784, 0)
    assert sorted(order) == list(range(784))
    assert np.mean(order == np.arange(784)) < 0.02
    assert np.array_equal(order, permutation(784, 0))
    assert not np.array_equal(order, permutation(784, 1))


def test_every_image_is_permuted_alike_and_channels_stay_together():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2)).astype(np.float32)
    moved = np.asarray(jax.jit(permuted(7))(images))
    order = permutation(20, 7)
    for image, result in zip(images, moved, strict=True):
        for place, source in enumerate(order):
            np.testing.assert_array_equal(result[divmod(place, 5)], image[divmod(source, 5)])


def test_the_seed_of_a_run_has_no_part_in_the_permutation():
    batch = {"image": np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)}
    inputs = [
        mlp_vs_cnn.build(
            dataclasses.replace(DIGITS, model="mlp_permuted", seed=seed), ABOUT
        ).task.inputs(batch)
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*inputs)
    expected = (permutation(64, 0).reshape(1, 8, 8, 1) - 127) / np.float32(70)
    np.testing.assert_allclose(inputs[0], expected, rtol=1e-6)


def test_an_mlp_does_not_care():
    """Its first weights in the same order give the same logits: x[p] W[p] = x W."""
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))
    network = MLP(3, widths=(16,))
    variables = network.init(jax.random.key(1), x, train=False)
    order = permutation(36, 0)
    values = (order[:, None] * 2 + np.arange(2)).ravel()
    first = variables["params"]["hidden1"]
    ordered = {**first, "kernel": first["kernel"][values]}
    other = {"params": {**variables["params"], "hidden1": ordered}}
    one = network.apply(variables, x, train=False)
    np.testing.assert_allclose(network.apply(other, permuted(0)(x), train=False), one, atol=1e-5)
    assert np.abs(network.apply(variables, permuted(0)(x), train=False) - one).max() > 0.1


# --- geometry ---------------------------------------------------------------------------------


def test_a_rotation_is_about_the_centre_and_clockwise():
    corners = mlp_vs_cnn_probes.rotation(90, 8) @ np.array([[0, 8, 4], [0, 0, 4], [1, 1, 1]])
    np.testing.assert_allclose(corners[:2], [[8, 8, 4], [0, 8, 4]], atol=1e-12)
    third = mlp_vs_cnn_probes.rotation(30, 8) @ [4 + 2, 4, 1]
    np.testing.assert_allclose(third[:2], [4 + 3**0.5, 4 + 1], rtol=1e-12)
    np.testing.assert_array_equal(mlp_vs_cnn_probes.rotation(0, 7), np.eye(3))


def shifted(images, x, y):
    """By NumPy: black comes in."""
    moved = np.zeros_like(images)
    height, width = images.shape[1:3]
    moved[:, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = images[
        :, max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
    ]
    return moved


@pytest.fixture(scope="module")
def probing():
    """images -> (map -> accuracy), of one random MLP; and the images, 20 in batches of 8."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, 20)
    network = MLP(3, widths=(64, 64))
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)

    def on(images, stop=None):
        source = Arrays({"image": images, "label": labels}, ABOUT)
        of = mlp_vs_cnn_probes.probe(ABOUT, source, make_mesh(jax.devices()[:1]), 8, stop or Stop())
        return of((network, variables), adapt.as_it_is)

    return on, images


def test_every_change_is_what_its_name_says(probing):
    on, images = probing
    accuracy, same = on(images), np.eye(3)
    config = dataclasses.replace(DIGITS, shifts=(3,), angles=(90,))
    expected = {
        "none": [images],
        "shift": [shifted(images, *by) for by in ((3, 0), (-3, 0), (0, 3), (0, -3))],
        "rotation": [np.rot90(images, -1, (1, 2)), np.rot90(images, 1, (1, 2))],
        "mirrored": [images[:, :, ::-1]],
        "upside down": [images[:, ::-1]],
    }
    seen = []
    for change, _, maps in mlp_vs_cnn_probes.changes(config, 8):
        assert len(maps) == len(expected[change])
        for matrix, moved in zip(maps, expected[change], strict=True):
            seen.append(accuracy(matrix))
            assert seen[-1] == on(np.ascontiguousarray(moved))(same), change
    assert len({*seen}) > 3  # so that one could be taken for another


def test_a_signal_is_heard_between_two_measurements(probing):
    on, images = probing
    stop = Stop()
    accuracy = on(images, stop)
    stop.signal = 15
    with pytest.raises(Stopped):
        accuracy(np.eye(3))


# --- networks ---------------------------------------------------------------------------------


def test_flattened_maps_take_one_size_and_averaged_ones_any():
    backbone = models.create("plain_cnn", num_classes=3, stages=(1, 1), channels=(4, 6)).backbone
    network = Flatten(backbone, MLP(3, widths=()))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(1), x)
    assert mlp_vs_cnn_probes.takes((network, variables), (8, 8, 1))
    assert not mlp_vs_cnn_probes.takes((network, variables), (10, 10, 1))
    with pytest.raises(ValueError, match="weights are for 96"):  # 4 x 4 x 6
        network.apply(variables, jnp.zeros((1, 10, 10, 1)), train=False)
    pooled, same = mlp_vs_cnn_networks.adaptive((network, variables), 8)
    both = [jax.jit(partial(one.apply, train=False)) for one in (pooled, network)]
    np.testing.assert_array_equal(both[0](same, x), both[1](variables, x))
    assert mlp_vs_cnn_probes.takes((pooled, same), (13, 10, 1))


# --- the study --------------------------------------------------------------------------------


FOUND = Findings(
    data="digits",
    side=32,
    test=355,
    counts=[Count(n, LECTURE, 10) for n in ("mlp", "cnn", "flatten", "half")],
    accuracies=[
        Accuracy(network, change, amount, 0.5)
        for network in ("mlp", "cnn", "flatten")
        for change, amount in (("none", 0), ("shift", 1), ("rotation", 5), ("mirrored", 0))
    ]
    + [Accuracy(n, c, 0, 0.25) for n in ("mlp", "cnn") for c in ("upside down", "permuted")]
    + [Accuracy("flatten", "upside down", 0, 1.0), Accuracy("mlp", "size", 28, None)],
)


@pytest.fixture
def without_work(monkeypatch):
    """Nothing is trained or measured; the models that would have been trained."""
    trained = []

    def train(config, name, path):
        trained.append((name, path))
        (path / "summary.json").write_text('{"seed": 0}')

    monkeypatch.setattr(mlp_vs_cnn, "train", train)
    monkeypatch.setattr(mlp_vs_cnn_probes, "measure", lambda config, test, path: FOUND)
    return trained


def test_what_is_finished_is_not_trained_again(without_work, tmp_path):
    for name in ("mlp", "flatten"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
    config = dataclasses.replace(DIGITS, workdir=tmp_path)
    assert mlp_vs_cnn.main(config) == FOUND
    left = ("cnn", "mlp_permuted", "cnn_permuted")
    assert without_work == [(name, tmp_path / name) for name in left]
    with pytest.raises(Refused, match="steps: 400 there, 401 asked"):
        mlp_vs_cnn.main(dataclasses.replace(config, steps=401))


def test_what_a_training_refuses_leaves_no_directory(without_work, tmp_path):
    for change, words in (
        ({"batch_size": 63, "accumulation": 2}, "batch_size=63 can't be divided into 8 slices"),
        ({"corrupt_limit": 0.5}, "corrupt_limit=0.5 has no effect"),
        ({"seed": 3, "seeds": (0, 1)}, "seed=3 has no effect"),
        ({"seeds": (0, 1), "seeds_as": "vmap"}, "a seed is several trainings here"),
    ):
        new = tmp_path / "new"
        with pytest.raises(Refused, match=words):
            mlp_vs_cnn.main(dataclasses.replace(DIGITS, workdir=new, **change))
        assert not new.exists()


def test_a_training_that_diverges_is_not_measured(without_work, monkeypatch, tmp_path):
    """Its best weights before that would pass for trained ones."""

    def diverges(config, name, path):
        without_work.append((name, path))
        said = "diverged" if name == "cnn" and config.seed == 3 else "summary"
        (path / f"{said}.json").write_text(
            '{"error": "not finite"}' if said == "diverged" else '{"seed": 0}'
        )

    monkeypatch.setattr(mlp_vs_cnn, "train", diverges)
    for _ in range(2):  # made, and found
        with pytest.raises(Diverged, match="nothing is measured, since cnn diverged"):
            mlp_vs_cnn.main(dataclasses.replace(DIGITS, seed=3, workdir=tmp_path / "one"))
    assert len(without_work) == len(mlp_vs_cnn.TRAININGS)
    several = tmp_path / "several"
    summary = mlp_vs_cnn.main(dataclasses.replace(DIGITS, seeds=(3, 4), workdir=several))
    assert summary.tables["seeds"][3] == {}
    assert summary.scalars["accuracy (mlp, shift 1)"] == 0.5
    assert json.loads((several / "summary.json").read_text())["diverged"] == [3]


def test_one_training_alone(without_work, monkeypatch, tmp_path):
    alone = []
    monkeypatch.setattr(mlp_vs_cnn, "run", lambda module, config: alone.append((module, config)))
    config = dataclasses.replace(DIGITS, model="cnn", workdir=tmp_path)
    mlp_vs_cnn.main(config)
    assert alone == [(mlp_vs_cnn, config)]
    assert not without_work
    assert not list(tmp_path.iterdir())


def test_a_figure_that_fails_costs_no_study(without_work, monkeypatch, tmp_path, capsys):
    def broken(draw):
        raise RuntimeError("no font")

    monkeypatch.setattr(mlp_vs_cnn, "png", broken)
    assert mlp_vs_cnn.main(dataclasses.replace(DIGITS, workdir=tmp_path)) == FOUND
    assert "The figure could not be drawn: RuntimeError: no font." in capsys.readouterr().out
    assert (tmp_path / "tables.md").exists()


def test_the_study_of_two_seeds(without_work, tmp_path):
    summary = mlp_vs_cnn.main(dataclasses.replace(DIGITS, seeds=(3, 4), workdir=tmp_path))
    assert [path for _, path in without_work] == [
        tmp_path / seed / name for seed in ("seed_3", "seed_4") for name in mlp_vs_cnn.TRAININGS
    ]
    found = json.loads((tmp_path / "seed_4" / "summary.json").read_text())
    assert found["test/accuracy (flatten, upside down)"] == 1.0
    assert found["test/accuracy (mlp, shift 1)"] == 0.5
    assert "test/accuracy (mlp, size 28)" not in found  # refused
    assert summary.scalars["accuracy (flatten, upside down)"] == 1.0


@pytest.mark.parametrize("error", [Stopped(15), KeyboardInterrupt()])
def test_a_stopped_study_says_how_to_go_on(without_work, monkeypatch, tmp_path, capsys, error):
    def stopped(config, name, path):
        raise error

    monkeypatch.setattr(mlp_vs_cnn, "train", stopped)
    with pytest.raises(type(error)):
        mlp_vs_cnn.main(dataclasses.replace(DIGITS, workdir=tmp_path))
    assert f"--workdir {tmp_path}\n" in capsys.readouterr().out


def test_tables():
    counted, changed, sized = mlp_vs_cnn_findings.tables(FOUND)
    assert counted.rows == [["1080x1920x3", "10", "10", "10", "10"]]
    assert changed.rows == [
        ["none", "50.00", "50.00", "50.00"],
        ["shifted by 1 px", "50.00", "50.00", "50.00"],
        ["rotated by 5 degrees", "50.00", "50.00", "50.00"],
        ["mirrored", "50.00", "50.00", "50.00"],
        ["upside down", "25.00", "25.00", "100.00"],
        ["pixels permuted, in training too", "25.00", "25.00", ""],
    ]
    assert sized.rows[0] == ["MLP", "refused"]
    assert mlp_vs_cnn_findings.markdown(sized).splitlines()[2:5] == [
        "| network | 28x28 |",
        "| --- | ---: |",
        "| MLP | refused |",
    ]


def test_the_largest_count_stands_whole_in_80_columns():
    half = Count("half", LECTURE, 19_349_176_320_000)
    most = [Count("mlp", LECTURE, 1_592_571_862), Count("cnn", LECTURE, 10_000)]
    counts = [*most, Count("flatten", LECTURE, 10_368_010), half]
    table = mlp_vs_cnn_findings.tables(dataclasses.replace(FOUND, counts=counts))[0]
    console = Console(width=80, file=io.StringIO())
    console.print(mlp_vs_cnn_findings.printable(table))
    assert "19,349,176,320,000" in console.file.getvalue()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "resnet20"}, "model='resnet20'"),
        ({"channels": ()}, "channels=()"),
        ({"sizes": (28, 0)}, "sizes=(28, 0)"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"permutation": -1}, "permutation=-1"),
    ],
)
def test_a_bad_request_is_refused(wrong, words):
    with pytest.raises(Refused) as refused:
        dataclasses.replace(DIGITS, **wrong)
    assert words in str(refused.value)


def test_images_of_one_square_size_alone(monkeypatch):
    about = dataclasses.replace(ABOUT, shape=(8, 9, 1))
    source = Arrays({"image": np.zeros((2, 8, 9, 1), np.uint8), "label": [0, 1]}, about)
    splits = Splits(source, source, source)
    monkeypatch.setattr("train.trained.named", lambda *which, **how: splits)
    with pytest.raises(Refused, match=r"\(8, 9, 1\)"):
        mlp_vs_cnn.splits(DIGITS)


def test_recipes(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/nonexistent")
    assert mlp_vs_cnn.recipe() == DIGITS
    assert mlp_vs_cnn.recipe("fashion_mnist") == FASHION_MNIST
    assert mlp_vs_cnn.recipe("mnist", "cnn") == dataclasses.replace(
        FASHION_MNIST, data="mnist", model="cnn"
    )
