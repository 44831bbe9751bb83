from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeclip.encode.classify import check_labels, classify, classify_files
from spikeclip.encode.embed import embed_pictures, preprocess, zero_shot_classifier
from spikeclip.encode.pictures import find_pictures
from spikeclip.errors import InputError
from spikeclip.evaluate.describe import describe_graphs, describe_layers, describe_model
from spikeclip.graph.saved import lowered, save_graphs
from spikeclip.open import open_encoder

LABELS = ["red circle", "blue bar", "white star"]


def test_scores_are_the_softmax_of_the_logits(model, encoder, pictures):
    opened = [Image.fromarray(image) for image in pictures.images[:3]]
    results = classify(encoder, opened, LABELS)
    classes = zero_shot_classifier(encoder, LABELS, ["a photo of a {c}."])
    logits = model.logit_scale.detach() * torch.from_numpy(embed_pictures(encoder, pictures)[:3] @ classes.T)
    for result, expected in zip(results, logits.softmax(1), strict=True):
        scores = [entry["score"] for entry in result]
        assert scores == sorted(scores, reverse=True)
        assert {entry["label"] for entry in result} == set(LABELS)
        for entry in result:
            assert entry["score"] == pytest.approx(expected[LABELS.index(entry["label"])].item(), rel=1e-3)
    assert [len(result) for result in classify(encoder, opened, LABELS, top=2)] == [2, 2, 2]
    assert classify(encoder, [], LABELS) == []


def test_files_in_order_with_unreadable_ones_between(encoder, pictures, tmp_path):
    for i in range(2):
        Image.fromarray(pictures.images[i]).save(tmp_path / f"{i}.png")
    (tmp_path / "0-bad.jpg").write_text("not a picture")
    files, missing, others = find_pictures(
        [str(tmp_path), str(tmp_path / "*.png"), str(tmp_path / "no*.png")]
    )
    assert [file.name for file in files] == ["0-bad.jpg", "0.png", "1.png"]
    assert missing == {str(tmp_path / "no*.png"): "no such picture"}
    assert not others
    results = dict(classify_files(encoder, files, LABELS, top=1))
    assert results[files[0]].startswith("not a picture of a format that is read")
    (alone,) = classify(encoder, [Image.open(files[1])], LABELS, top=1)[0]
    assert results[files[1]] == [{"score": pytest.approx(alone["score"], rel=1e-4), "label": alone["label"]}]


def test_files_pictures_and_pixels_are_one_to_every_encoder(model, pictures, tmp_path):
    model.save_pretrained(tmp_path / "model")
    save_graphs(model, tmp_path / "model")
    images = pictures.images[:3]
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file)
    opened = [Image.open(file) for file in files]
    for engine in (None, "fp32", "int8"):
        encoder = open_encoder(tmp_path / "model", engine)
        rows = encoder.encode_image(np.asarray(images))
        np.testing.assert_array_equal(encoder.encode_image([str(files[0]), opened[1], files[2]]), rows)
        np.testing.assert_array_equal(preprocess(encoder, opened), np.asarray(images))
        assert encoder.encode_image([]).shape == (0, encoder.dim)
        assert classify(encoder, files, LABELS) == classify(encoder, opened, LABELS)
        for wrong, message in (
            ([tmp_path / "none.png"], "none.png cannot be read: no such file"),
            (str(files[0]), "expected a list of pictures, got one"),
            ([3], "a picture is a file or a PIL picture, got int"),
        ):
            with pytest.raises(InputError, match=message):
                encoder.encode_image(wrong)


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    file = tmp_path / "cat[1].png"
    file.write_bytes(b"")
    assert find_pictures([str(file)]) == ([file], {}, {})
    assert find_pictures(["no such file.png"]) == ([], {"no such file.png": "no such picture"}, {})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labels"),
        (["cat"], "'cat' is the only label, .* give at least two"),
        (["cat", " "], "an empty label"),
        (["cat", "dog", "Cat "], "label 'Cat' is given twice"),
    ],
)
def test_labels_that_cannot_be_meant(labels, message):
    with pytest.raises(InputError, match=message):
        check_labels(labels)


def test_description_counts_every_parameter_once(model):
    facts = describe_model(model)
    assert facts["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    layers = {layer["name"]: layer for layer in describe_layers(lowered(model))}
    assert layers["image.whiten_spike"]["output"] == (1, 1, 24, 31, 31)
    assert not model.training


def test_graphs_alone_describe_a_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    save_graphs(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    facts, towers = describe_graphs(tmp_path)
    expected = describe_model(model)
    expected.pop("parameters")
    stored = facts.pop("stored")
    assert facts == {**expected, "logit_scale": pytest.approx(expected["logit_scale"])}
    layers = describe_layers(towers)
    assert layers == describe_layers(lowered(model))
    assert stored["total"] == sum(layer["parameters"] for layer in layers)


def test_a_run_stands_for_its_model(model, tmp_path):
    model.save_pretrained(tmp_path / "run" / "model")
    opened = open_encoder(tmp_path / "run").model
    torch.testing.assert_close(opened.state_dict(), model.state_dict())
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "recipe.json").write_text("{}")
    with pytest.raises(InputError, match="has not finished"):
        open_encoder(tmp_path / "stopped")
    for missing in (tmp_path / "nothing", Path("nothing/of-this-name/here"), tmp_path):
        with pytest.raises(InputError):
            open_encoder(missing)
