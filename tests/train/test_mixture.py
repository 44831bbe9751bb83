"""Several sources in one run, and what a stored teacher says of each of their pictures."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import CLASSES, DIM

from spikeclip.config import DataConfig, ImageFormat, LossConfig, RunConfig, TargetConfig, from_dict
from spikeclip.data import Pictures
from spikeclip.data.mixture import class_keys, join, load_sources, split_sources
from spikeclip.data.prompts import load_prompts, text_key
from spikeclip.data.sources import rename_classes
from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher
from spikeclip.train.pictures import load_run_pictures


def part(name: str, labels: list[int], classnames: list[str]) -> Pictures:
    images = np.full((len(labels), 4, 4, 3), len(name), np.uint8)
    ids = [f"{i}.png" for i in range(len(labels))]
    return Pictures(name, "train", images, ids, name, np.array(labels), classnames)


@pytest.mark.parametrize("names", [{"cat": "Dog"}, {"cat": "pet", "dog": "pet"}], ids=str)
def test_two_classes_of_one_source_never_get_one_name(names):
    parts = [part("other", [0], ["cow"]), part("pets", [0, 1], ["cat", "dog"])]
    with pytest.raises(
        InputError, match=r"'cat' as '(Dog|pet)': pets has another class of that name: choose"
    ):
        rename_classes(parts, names)
    assert rename_classes(parts, {"cat": "dog", "dog": "cat"})[1].classnames == ["dog", "cat"]


def test_classes_of_equal_name_are_one_and_pictures_keep_their_class():
    parts = [part("one", [1, 0], ["sea_slug", "dog"]), part("three", [0, 1, 2], ["cat", "Dog", "sea slug"])]
    whole = join(parts)
    assert whole.classnames == ["sea_slug", "dog", "cat"]
    assert [whole.classnames[i] for i in whole.labels] == ["dog", "sea_slug", "cat", "dog", "sea_slug"]
    assert whole.images[:][:, 0, 0, 0].tolist() == [3, 3, 5, 5, 5]
    assert len(set(whole.ids)) == 5
    assert join(parts[:1]) is parts[0]
    assert join(parts[::-1]).fingerprint != whole.fingerprint


def test_labels_and_captions_do_not_mix():
    captioned = dataclasses.replace(part("two", [0], []), labels=None, captions=[["a dog"]])
    with pytest.raises(InputError, match="one has labels, two has captions"):
        join([part("one", [0], ["dog"]), captioned])


def test_wordnet_ids_come_before_names(tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps([{"wnid": "n1"}, {"wnid": "n2"}]))
    data = DataConfig(source=[str(tmp_path), "somewhere"])
    keys = class_keys(data, [part("a", [0], ["crane", "dog"]), part("b", [0], ["dog", "cat"])])
    assert keys == {"crane": ["n1", "crane"], "dog": ["n2", "dog"], "cat": ["cat"]}
    with pytest.raises(InputError, match=r"classes\.json has 2 classes, names\.json 1"):
        class_keys(data, [part("a", [0], ["crane"]), part("b", [0], ["dog"])])

    prompts = load_prompts("tinyimagenet")
    keys = class_keys(DataConfig(source="tinyimagenet"), [part("a", [0], prompts.classnames)])
    assert len(prompts.ids) == 200
    assert [keys[text_key(name)][0] for name in prompts.classnames] == prompts.ids


def test_a_source_of_several_may_have_nothing_to_validate_on(tmp_path):
    for name, count in {"single/cat": 1, "single/dog": 1, "more/cat": 4, "more/cow": 4}.items():
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / name / f"{i}.png")
    single, more = str(tmp_path / "single"), str(tmp_path / "more")
    data = DataConfig(source=[single, more], val_fraction=0.25, cache=str(tmp_path / "cache"))
    pictures = load_run_pictures(from_dict(RunConfig, {"data": vars(data), "stages": []}), ImageFormat(8))
    assert [len(part) for part in pictures.sources["train"]] == [2, 6]
    assert [len(part) for part in pictures.sources["val"]] == [0, 2]
    assert pictures.classnames == ["cat", "dog", "cow"]
    assert sorted(pictures.labels["val"].tolist()) == [0, 2]
    for source, message in (
        (single, "2 pictures of 'train' leave none for validation"),
        ([single, single], "no source leaves a picture for validation: raise data.val_fraction"),
    ):
        with pytest.raises(InputError, match=message):
            split_sources(dataclasses.replace(data, source=source), ImageFormat(8), 0)


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """Recipe changes: two sources, three classes each; a table with pictures of the first, classes of the second.

    The table also knows every picture's path in split "test", with embeddings of its own.
    """
    folder = tmp_path_factory.mktemp("two")
    first, second = folder / "first", folder / "second"
    for i, name in enumerate(sorted(CLASSES)):
        for split in ("train", "test"):
            shutil.copytree(root / "pictures" / split / name, (first if i < 3 else second) / split / name)
    names = sorted(CLASSES)
    paths = [f"train/{name}/{i:02}.png" for name in names[:2] for i in range(0, 30, 2)]
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2 * len(paths), DIM))
    np.savez(
        folder / "stored.npz",
        images=paths * 2,
        splits=["train"] * len(paths) + ["test"] * len(paths),
        image_embeddings=images,
        classes=names[2:],
        class_embeddings=rng.normal(size=(4, DIM)),
    )
    return {
        "data": {"source": [str(first), str(second)]},
        "teacher": {"path": [str(folder / "stored.npz"), str(root / "table.npz")], "logit_scale": 10.0},
    }


def test_a_picture_aligns_to_itself_then_to_its_class(two, prepared):
    made = prepared({"stage": "align_image"}, **two)
    train = made.pictures.splits["train"]
    assert train.classnames == sorted(CLASSES)
    wanted = made.stage().batch(torch.arange(len(train)), 0)[1]["image"]
    stored = open_teacher(two["teacher"]["path"])
    own = stored.find_images(
        dataclasses.replace(train, ids=[key.split("/", 1)[1] for key in train.ids], name="")
    )
    has_own = np.isfinite(own).all(1)
    assert 20 < has_own.sum() < 30  # half of two classes, less validation
    torch.testing.assert_close(wanted[has_own], torch.from_numpy(own[has_own]))
    classes = stored.find_classes([[name] for name in train.classnames])
    for i in range(len(CLASSES)):
        rest = torch.from_numpy((train.labels == i) & ~has_own)
        mean = own[(train.labels == i) & has_own].sum(0)  # of the run's own training pictures
        expected = classes[i] if np.isfinite(classes[i]).all() else mean / np.linalg.norm(mean)
        torch.testing.assert_close(wanted[rest], torch.from_numpy(expected).expand(int(rest.sum()), -1))


def test_targets_mix_by_their_weights(two, prepared):
    made = prepared({"stage": "align_image"}, **two)
    material = made.lessons
    known = material.teacher_images["train"].isfinite().all(1).nonzero()[:3, 0]
    label = made.pictures.labels["train"][known]
    said = torch.stack(
        [
            material.teacher_images["train"][known],
            material.prototypes_KD[label],
            material.teacher_texts_ND[material.text_of["train"][known, 0]],
        ]
    )
    for weights in ((0, 1, 0), (0, 0, 1), (2, 0, 1), (1, 2, 3)):
        stage = made.stage(target=TargetConfig(*map(float, weights)))
        wanted = stage.batch(known, 0)[1]["image"]
        mixed = (torch.tensor(weights)[:, None, None] * said).sum(0)
        torch.testing.assert_close(wanted, mixed / mixed.norm(dim=1, keepdim=True))


def test_the_terms_over_prototypes_and_texts_are_least_at_the_target(two, prepared):
    made = prepared({"stage": "align_image"}, **two)
    model, material = made.model, made.lessons
    stage = made.stage(loss=LossConfig(cosine=0, prototype=1.0, texts=1.0))
    rows = torch.tensor([0, 60, 100, 150])
    wanted = stage.batch(rows, 0)[1]
    right = stage.loss(model, {"image": material.prototypes_KD[wanted["label"]]}, wanted)
    wrong = stage.loss(model, {"image": material.prototypes_KD[(wanted["label"] + 1) % 6]}, wanted)
    assert right["prototype"] < wrong["prototype"]
    exact = stage.loss(model, {"image": wanted["image"]}, wanted)
    assert exact["texts"].abs() < 1e-5 < wrong["texts"]


def test_two_sources_train(two, run):
    result, folder = run(
        {"stage": "align_text", "epochs": 1},
        {"stage": "align_image", "epochs": 20, "loss": {"prototype": 1.0}},
        test=True,
        **two,
    )
    assert result["stages"][1]["best"] > 0.5
    assert result["test"]["dataset"] == "first+second"
    assert (folder / "model" / "config.json").is_file()


def test_a_class_that_nothing_tells_of_is_named(two, prepared, root, tmp_path):
    with np.load(root / "table.npz") as table:
        keep = [i for i, text in enumerate(table["texts"]) if "green ring" not in str(text)]
        np.savez(tmp_path / "less.npz", embeddings=table["embeddings"][keep], texts=table["texts"][keep])
    with pytest.raises(InputError, match=r"no embedding of 1 of the texts: 'a photo of a green ring\.'"):
        prepared({"stage": "align_image"}, teacher={"path": str(tmp_path / "less.npz")})
    stored = [two["teacher"]["path"][0], str(tmp_path / "less.npz")]
    made = prepared({"stage": "finetune"}, data=two["data"], teacher={"path": stored})
    assert made.lessons.class_prompts[made.pictures.classnames.index("green ring")] == []
    with pytest.raises(InputError, match="text embedding of every class; 1 have none"):
        made.stage()


def test_renaming_reaches_the_source_that_has_the_class(two):
    data = DataConfig(**two["data"], classnames={"red ring": "crimson ring"})
    names = [name for p in load_sources(data, "train", ImageFormat(32)) for name in p.classnames]
    assert "crimson ring" in names
    assert "red ring" not in names
    with pytest.raises(InputError, match=r"unknown class of .* and .* 'red rings'; did you mean 'red ring'"):
        load_sources(dataclasses.replace(data, classnames={"red rings": "x"}), "train", ImageFormat(32))


def test_withheld_classes_are_never_trained_on_or_selected_by(prepared, root):
    stage, withheld = {"stage": "finetune"}, ["Red_ring", "green bar"]
    data = {"withhold": withheld}
    made = prepared(stage, data=data)
    everything = prepared(stage)
    for split in ("train", "val"):
        own, whole = made.pictures.splits[split], everything.pictures.splits[split]
        assert own.classnames == whole.classnames
        kept = ~np.isin(whole.labels, [whole.classnames.index(name) for name in ("red ring", "green bar")])
        assert own.ids == [key for key, keep in zip(whole.ids, kept, strict=True) if keep]
    assert not {"a photo of a red ring.", "a photo of a green bar."} & {
        p for ps in made.lessons.class_prompts for p in ps
    }
    assert len(made.lessons.class_prompts) == len(CLASSES) - 2
    with pytest.raises(InputError, match=r"unknown withheld class of .*did you mean 'red ring'"):
        prepared(stage, data={"withhold": ["red rings"]})
    with pytest.raises(InputError, match=r"data\.withhold leaves no pictures"):
        prepared(stage, data={"withhold": CLASSES})
