"""What `spikeclip train FOLDER` plans: sizes, splits, teacher, and what it says of them."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from spikeclip.config import TeacherConfig
from spikeclip.data.pictures import validation_split
from spikeclip.data.sources import load_pictures
from spikeclip.errors import InputError
from spikeclip.teacher import choose
from spikeclip.teacher.choose import choose_teacher
from spikeclip.train.plan import plan_folder, sized
from spikeclip.train.recipe import read_model_config, recipe_values

FOLDERS = [[10, 10], [41, 41, 41, 40], [500] * 10, [5] * 100, [400, 3, 1], [2, 1], [1] * 9 + [3], [3, 3]]


@pytest.fixture
def pictures(tmp_path):
    """Write a folder of small pictures: {"train/cat": 3, ...} -> its path."""

    def pictures(**classes):
        for place, count in classes.items():
            folder = tmp_path / "mine" / place
            folder.mkdir(parents=True)
            for i in range(count):
                colour = np.full((9, 7, 3), 10 * i + 5 * len(place), np.uint8)
                Image.fromarray(colour).save(folder / f"{i}.png")
        return tmp_path / "mine"

    return pictures


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Plan where no table and no sentence encoder is."""
    monkeypatch.delenv("SPIKECLIP_DATA", raising=False)
    monkeypatch.setattr(choose, "installed_encoder", lambda: None)
    return lambda folder, *changes: plan_folder(folder, [f"data.cache={tmp_path / 'cache'}", *changes])


@pytest.fixture
def table(tmp_path):
    def table(*names, dim=8):
        path = tmp_path / "nouns.npz"
        rows = np.random.default_rng(0).standard_normal((len(names), dim), np.float32)
        np.savez(path, names=np.array(names), embeddings=rows)
        return path

    return table


@pytest.mark.parametrize("classes", FOLDERS, ids=str)
def test_every_class_keeps_pictures_and_some_validate(classes):
    sizes = sized(classes, validation=None)
    held = [round(sizes.val_fraction * n) for n in classes]
    assert all(n - h >= 1 for n, h in zip(classes, held, strict=True))
    learned = sum(classes) - sum(held)
    assert sum(held) >= 1
    assert 1 <= sizes.batch_size <= learned
    assert learned // sizes.batch_size * sizes.epochs >= min(100, 20 * learned)


def test_more_pictures_take_larger_batches_and_fewer_epochs():
    sizes = [sized([n] * 10, validation=None) for n in (4, 30, 500, 5000)]
    assert sorted(s.batch_size for s in sizes) == [s.batch_size for s in sizes]
    assert sorted((s.epochs for s in sizes), reverse=True) == [s.epochs for s in sizes]
    assert sizes[0].batch_size < sizes[-1].batch_size
    assert sizes[0].epochs > sizes[-1].epochs


def test_few_validation_pictures_choose_no_weights(pictures, plan):
    assert [sized([n, n], None).select for n in (10, 247, 248)] == ["last", "last", "best"]
    assert [sized([9, 9], validation=n).select for n in (99, 100)] == ["last", "best"]
    folder = pictures(cat=9, dog=9)
    found = plan(folder)
    assert found.config.stages[0].select == "last"
    assert "so few cannot choose among" in "\n".join(found.lines)
    chosen = plan(folder, "stages.*.select=best")
    assert "they choose the epoch whose weights are kept" in "\n".join(chosen.lines)
    assert "4 validation pictures and too high, for they chose the weights" in chosen.caution


def test_the_folder_says_which_pictures(pictures, plan):
    folder = pictures(cat=8, dog=8)
    for change in ("data.source=cifar10", "data={source: ./others}"):
        with pytest.raises(InputError, match=r"the pictures are those of .*mine: leave out data.source="):
            plan(folder, change)


def test_single_pictures_need_a_validation_split():
    with pytest.raises(InputError, match="no class has a second picture"):
        sized([1, 1, 1], validation=None)
    assert sized([1, 1, 1], validation=3).batch_size == 3


def test_class_folders_alone(pictures, plan):
    found = plan(pictures(sea_horse=12, **{"n02084071": 12, "2": 4}))
    config = found.config
    assert set(found.classnames) == {"2", "n02084071", "sea_horse"}
    assert (config.data.test_split, config.teacher.path) == (None, None)
    assert [stage.stage for stage in config.stages] == ["contrastive"]
    assert config.data.source.endswith("/mine")
    text = "\n".join(found.lines)
    assert "28 to train with, 3 classes" in text
    assert "few pictures of 1 classes: 2 (4)" in text
    assert "validation  5 of them, 20% of each class" in text
    assert (
        "test        none: there is no test/, so the accuracy is that of the 5 validation pictures: where"
        in text
    )
    assert "90 %, 46% to 99% of other such pictures may be right (95 % interval)" in text
    assert found.caution in text
    assert "teacher     none: no table was found, and no sentence encoder is installed" in text


def test_what_the_plan_says_is_held_out_is_held_out(pictures, plan):
    found = plan(pictures(cat=11, dog=6, bee=2))
    config = found.config
    train = load_pictures(
        config.data.source, "train", read_model_config(config.model).image.format, cache=config.data.cache
    )
    learned, held = validation_split(train, config.data.val_fraction, config.seed)
    assert f"validation  {len(held)} of them" in "\n".join(found.lines)
    assert f"of {len(learned)} pictures in batches" in found.lines[-1]
    assert "too few to hold one out: bee" in "\n".join(found.lines)


def test_splits_of_its_own_are_used(pictures, plan):
    folder = pictures(**{f"{split}/{name}": 4 for split in ("train", "valid", "test") for name in "ab"})
    found = plan(folder)
    assert found.config.data.test_split == "test"
    assert "validation  8 pictures of its own split; the weights of the last epoch are kept" in "\n".join(
        found.lines
    )
    assert "test        8 pictures of test/, read once at the end" in found.lines
    assert found.lines[-1].startswith(f"training    {found.config.stages[0].epochs} epochs of 8 pictures")


def test_a_plan_is_repeated_and_changes_go_on_top(pictures, plan):
    folder = pictures(cat=8, dog=8)
    assert plan(folder) == plan(folder)
    changed = plan(folder, "stages.contrastive.epochs=3", "seed=4", "data.val_fraction=0.5", "model.T=2")
    assert (changed.config.stages[0].epochs, changed.config.seed, changed.config.model.T) == (3, 4, 2)
    assert "validation  8 of them, 50% of each class" in "\n".join(changed.lines)
    assert json.dumps(recipe_values(changed.config))
    with pytest.raises(InputError, match="epochz"):
        plan(folder, "stages.contrastive.epochz=3")


def test_renamed_and_withheld_classes(pictures, plan):
    folder = pictures(a=4, b=4, c=4)
    assert plan(folder, "data.classnames={a: ant}").classnames == ["ant", "b", "c"]
    assert plan(folder, "data.withhold=[b]").classnames == ["a", "c"]


def test_a_saved_model_starts_with_small_steps(pictures, plan, folder_of_a_model):
    found = plan(pictures(cat=8, dog=8), f"model.pretrained={folder_of_a_model}")
    assert found.config.model.given() == {"pretrained": str(folder_of_a_model)}
    assert found.config.stages[0].optimizer.lr < plan(pictures(), "seed=1").config.stages[0].optimizer.lr


@pytest.fixture
def folder_of_a_model(small, tmp_path):
    small("spikeclip-tiny").float().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_table_teaches_where_it_has_all_names(pictures, plan, table):
    nouns = table("cat", "sea horse", "bee")
    found = plan(pictures(Cat=8, sea_horse=8), f"teacher.path={nouns}")
    config = found.config
    assert [stage.stage for stage in config.stages] == ["align_text", "finetune"]
    assert (config.teacher.path, config.teacher.encoder) == (str(nouns), None)
    assert config.data.templates == ["a {c}"]
    assert "teacher     nouns.npz, which has all class names" in found.lines


def test_a_given_table_that_lacks_names_is_refused_or_helped(pictures, plan, table):
    nouns, folder = table("cat", "bee"), pictures(cat=8, panda=8)
    with pytest.raises(
        InputError, match=r"nouns.npz lacks 1 of 2 class names: 'panda'; .*data.classnames.*teacher.encoder"
    ):
        plan(folder, f"teacher.path={nouns}")
    assert plan(folder, f"teacher.path={nouns}", "data.classnames={panda: bee}").config.teacher.path
    helped = plan(folder, f"teacher.path={nouns}", "teacher.encoder=minilm")
    assert helped.config.teacher.encoder == "minilm"
    assert "it lacks 1 of the class names ('panda'), which minilm places" in "\n".join(helped.lines)


@pytest.mark.parametrize("made_with", [["a photo of a {c}."], ["{c}", "one {c} on its own"]])
def test_a_table_made_with_other_prompts_teaches_by_those(made_with, pictures, plan, tmp_path):
    names = ["cat", "sea horse", "catfish"]
    texts = [template.replace("{c}", name) for name in names for template in made_with]
    path = tmp_path / "made.npz"
    rows = np.random.default_rng(0).standard_normal((len(texts), 8), np.float32)
    np.savez(path, texts=np.array(texts), text_embeddings=rows)
    folder = pictures(Cat=8, sea_horse=8, catfish=8)
    found = plan(folder, f"teacher.path={path}")
    assert found.config.data.templates == made_with
    assert f"which has all class names, in the prompts {made_with[0]!r}" in "\n".join(found.lines)
    with pytest.raises(InputError) as error:
        plan(folder, f"teacher.path={path}", 'data.templates=["a {c}"]')
    assert "made.npz does not hold 'a {c}' with 3 of 3 class names" in str(error.value)
    assert str(error.value).endswith(f"data.templates='{json.dumps(made_with)}'")


def test_the_order_of_teachers(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKECLIP_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    table("cat", "dog").rename(tmp_path / "text" / "nouns.npz")
    monkeypatch.setattr(choose, "installed_encoder", lambda: None)
    assert choose_teacher(["cat", "dog"]).path == str(tmp_path / "text" / "nouns.npz")
    alone = choose_teacher(["cat", "panda"])
    assert alone.path is None
    assert alone.why.startswith("none: nouns.npz lacks class names, and no sentence encoder is installed; ")
    monkeypatch.setattr(choose, "installed_encoder", lambda: "/lib/minilm/model")
    helped = choose_teacher(["cat", "panda"])
    assert (helped.path, helped.encoder) == (str(tmp_path / "text" / "nouns.npz"), "/lib/minilm/model")
    assert choose_teacher(["emu", "panda"]).path == "/lib/minilm/model"
    assert choose_teacher(["cat", "dog"], TeacherConfig()).path is None
    assert choose_teacher(["cat", "dog"], TeacherConfig(path="owner/clip")).path == "owner/clip"


def test_an_installed_encoder_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / choose.ENCODER
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert choose.installed_encoder() is None
    (package / "model" / "modules.json").write_text("[]")
    assert choose.installed_encoder() == str(package / "model")
    assert choose.ENCODER not in sys.modules


def test_what_no_plan_can_be_made_for(pictures, plan, tmp_path):
    with pytest.raises(InputError, match="class"):
        plan(pictures(cat=3))
    for name in ("cat", "dog"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of the 2 pictures of 'train' can be read"):
        plan(tmp_path / "bad")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found neither"):
        plan(tmp_path / "empty")
