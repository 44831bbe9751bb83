import json
import warnings

import numpy as np
import pytest

from spikeclip.data import Pictures, build_prompts, load_prompts
from spikeclip.data.prompts import with_classnames
from spikeclip.data.shapes import PAIRS
from spikeclip.errors import InputError

FOLDERS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "caltech101": "caltech101",
    "tinyimagenet": "tinyimagenet32",
    "mnist": "mnist_small",
}


@pytest.mark.parametrize(("name", "folder"), FOLDERS.items())
def test_class_names_stand_in_the_order_of_the_labels(shared, name, folder):
    names = json.loads((shared / folder / "names.json").read_text())
    assert load_prompts(name).classnames == [old.replace("_", " ") for old in names]


def test_pets_are_in_the_order_of_their_labels(shared):
    names = np.load(shared / "clip_teacher/oxford_pets.npz")["classnames"].tolist()
    ours = [name.lower().replace(" ", "_") for name in load_prompts("pets").classnames]
    assert [(a, b) for a, b in zip(ours, names, strict=True) if a != b] == [
        ("german_shorthaired_pointer", "german_shorthaired")
    ]


def test_imagenet_is_in_the_order_of_wordnet_ids(shared):
    prompts = load_prompts("imagenet1k")
    stored = np.load(shared / "clip_teacher/imagenet1k_prototypes.npz")
    assert prompts.ids == stored["wnid"].tolist() == sorted(set(prompts.ids))
    words = [str(name).replace("_", " ").lower() for name in stored["name"]]
    assert sum(a.lower() == b for a, b in zip(prompts.classnames, words, strict=True)) > 950
    assert len(set(prompts.classnames)) == 1000


def test_tinyimagenet_names_what_imagenet_names(shared):
    tiny, whole = load_prompts("tinyimagenet"), load_prompts("imagenet1k")
    classes = json.loads((shared / "tinyimagenet32/classes.json").read_text())
    assert tiny.ids == [entry["wnid"] for entry in classes] == sorted(tiny.ids)
    names = dict(zip(whole.ids, whole.classnames, strict=True))
    other = {
        ours: names[i]
        for i, ours in zip(tiny.ids, tiny.classnames, strict=True)
        if names.get(i, ours) != ours
    }
    assert other == {
        "lesser panda": "red panda",
        "crane": "construction crane",
        "monarch": "monarch butterfly",
        "teddy": "teddy bear",
    }


@pytest.mark.parametrize(
    ("name", "landmarks"),
    [
        ("imagenet1k", {0: "tench", 207: "golden retriever", 281: "tabby", 404: "airliner", 980: "volcano"}),
        # The set's own numbers count from 1: petunia, the largest class, is 51.
        (
            "flowers102",
            {
                0: "pink primrose",
                50: "petunia",
                72: "water lily",
                76: "passion flower",
                101: "blackberry lily",
            },
        ),
        ("stl10", {0: "airplane", 6: "horse", 7: "monkey", 9: "truck"}),
    ],
)
def test_landmarks_of_published_label_orders(name, landmarks):
    classnames = load_prompts(name).classnames
    assert {label: classnames[label] for label in landmarks} == landmarks
    if name == "stl10":
        assert classnames == sorted(classnames)


def test_shapes_names_are_its_pairs():
    assert load_prompts("shapes").classnames == PAIRS


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_has_the_18_templates_of_clips_release(name, classes):
    prompts = load_prompts(name)
    assert len(prompts.classnames) == classes
    assert len(set(prompts.templates)) == 18
    assert prompts.templates[0] == "a photo of a {c}."
    assert prompts.templates[-1] == "a photo of the big {c}."
    assert sum("contrast" in template for template in prompts.templates) == 4


def test_one_list_of_texts_per_class_with_spaces_for_underscores():
    texts = build_prompts(["sea_horse", "a{c}b"], ["a {c}.", "{c} or {c} {0}"])
    assert texts == [["a sea horse.", "sea horse or sea horse {0}"], ["a a{c}b.", "a{c}b or a{c}b {0}"]]


@pytest.mark.parametrize("template", ["a photo", "a photo of a {}", "{C}"])
def test_a_template_without_a_place_for_the_name_is_an_error(template):
    with pytest.raises(InputError, match=r"lacks \{c\}"):
        build_prompts(["cat"], ["a {c}", template])


@pytest.mark.parametrize(
    ("names", "templates"), [([], ["{c}"]), (["a"], []), ("cat", ["{c}"]), (["a"], "{c}")]
)
def test_nothing_to_build_from_is_an_error(names, templates):
    with pytest.raises(InputError, match="neither empty"):
        build_prompts(names, templates)


def test_the_hash_changes_with_names_templates_and_order(tmp_path):
    def hash_of(names, templates):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({"classnames": names, "templates": templates}))
        return load_prompts(str(path)).hash

    contents = [(["a", "b"], ["{c}"]), (["b", "a"], ["{c}"]), (["a", "b"], ["a {c}"]), (["a"], ["{c}"])]
    assert len({hash_of(*content) for content in contents}) == 4
    assert hash_of(["a", "b"], ["{c}"]) == hash_of(["a", "b"], ["{c}"])


def test_mistakes(tmp_path):
    with pytest.raises(InputError, match=r"unknown prompts 'cifar1O'; did you mean 'cifar10'\?"):
        load_prompts("cifar1O")
    (tmp_path / "mine.json").write_text('{"classnames": ["a"]}')
    with pytest.raises(InputError, match=r"mine\.json: expected JSON with classnames and templates"):
        load_prompts(str(tmp_path / "mine.json"))
    with pytest.raises(InputError, match=r"missing\.json"):
        load_prompts(str(tmp_path / "missing.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classnames": [0, 1], "templates": ["{c}"]}, "must be lists of texts, names in quotes"),
        ({"classnames": {"a": 1}, "templates": ["{c}"]}, "must be lists of texts"),
        ([1], "expected JSON with classnames and templates"),
    ],
)
def test_files_of_prompts_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"mine\.json: .*{message}"):
        load_prompts(str(tmp_path / "mine.json"))


@pytest.mark.parametrize("data", [b'{"classnames": ["caf\xe9"]}', b"[" * 10_000])
def test_files_of_prompts_that_cannot_be_read(tmp_path, data):
    (tmp_path / "mine.json").write_bytes(data)
    with pytest.raises(InputError, match=r"mine\.json: its (text is not UTF-8|JSON is nested too deeply)"):
        load_prompts(str(tmp_path / "mine.json"))


def test_a_name_that_is_no_text_is_an_error():
    with pytest.raises(InputError, match="are texts, got 0: write it in quotes"):
        build_prompts([0, 1], ["{c}"])


@pytest.mark.parametrize(("names", "codes"), [(["0", "1"], "0, 1"), (["cat", "n01440764"], "n01440764")])
def test_numbers_and_wordnet_ids_are_warned_of(names, codes):
    with pytest.warns(
        UserWarning, match=rf"class names are numbers or WordNet ids \({codes}\), which say nothing"
    ):
        build_prompts(names, ["a photo of a {c}."])


def test_names_and_templates_that_ask_for_a_number_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_prompts(["cat", "747 airliner", "n95 mask"], ["a photo of a {c}."])
        load_prompts("mnist")


def pictures(*classnames):
    labels = np.arange(len(classnames))
    images = np.zeros((len(classnames), 2, 2, 3), np.uint8)
    return Pictures("mine", "test", images, [str(i) for i in labels], "", labels, list(classnames))


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"classnames": ["cat", "dog", "cow"], "templates": ["{c}"]}))
    return str(tmp_path / "p.json")


def test_prompts_that_match_the_names_or_their_numbers_are_taken_in_silence(prompts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for names in (("Cat", "dog", "bull"), ("0", "1", "2"), ("01", "02", "03")):
            assert with_classnames(pictures(*names), prompts).classnames == ["cat", "dog", "cow"]


def test_numbers_that_are_not_the_places_of_the_prompts_are_refused(prompts):
    with pytest.raises(
        InputError, match=r"mine numbers its classes 0, 1, 10: label by label these are not the names"
    ):
        with_classnames(pictures("0", "1", "10"), prompts)


def test_names_of_which_none_matches_are_warned_of(prompts):
    with pytest.warns(
        UserWarning, match=r"no class of mine \(oak, elm, ash\) is among the names .* in the same order"
    ):
        with_classnames(pictures("oak", "elm", "ash"), prompts)
