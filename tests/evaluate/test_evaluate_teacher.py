"""A teacher is evaluated by the code that evaluates a student, against transformers' own logits."""

import dataclasses

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from spikeclip.encode.classify import classify
from spikeclip.energy.account import teacher_cost
from spikeclip.errors import InputError
from spikeclip.evaluate import evaluate_model
from spikeclip.open import open_encoder
from spikeclip.teacher import Teacher, open_teacher
from spikeclip.teacher.macs import count_macs


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer.save(folder)
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="<|pad|>"
    ).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 32}
    text |= {"eos_token_id": tokenizer.eos_id, "projection_dim": 16}
    vision = {**sizes, "image_size": 32, "patch_size": 8, "projection_dim": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval().save_pretrained(
        folder
    )
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def test_a_folder_of_another_type_is_a_teacher(folder, pictures):
    teacher = open_encoder(folder)
    assert isinstance(teacher, Teacher)
    assert teacher.image_format.image_size == 32
    record = evaluate_model(teacher, pictures)
    assert record["spikes"] is None
    assert record["provenance"]["weights"] == teacher.fingerprint
    assert 0 <= record["metrics"]["acc1"] <= record["metrics"]["acc5"] <= 1


def test_scores_equal_transformers(folder, pictures):
    teacher, labels = open_encoder(folder), ["red circle", "blue bar", "white star"]
    opened = [Image.fromarray(image) for image in pictures.images[:4]]
    results = classify(teacher, opened, labels)
    reference = CLIPModel.from_pretrained(folder).eval()
    tokens = teacher._tokenizer(
        [f"a photo of a {label}." for label in labels], padding=True, return_tensors="pt"
    )
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=opened, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = reference(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
        ).logits_per_image.softmax(1)
    for result, scores in zip(results, expected, strict=True):
        for entry in result:
            assert entry["score"] == pytest.approx(scores[labels.index(entry["label"])].item(), abs=1e-4)


def test_its_energy_is_counted_on_a_picture_and_the_prompts_of_the_first_template(folder, pictures):
    cost = teacher_cost(str(folder), pictures, ["a photo of a {c}.", "a {c}"], "small CLIP")
    prompts = [f"a photo of a {name}." for name in pictures.classnames]
    expected = count_macs(open_teacher(folder), pictures.images[0], prompts)
    assert (cost.name, cost.image_macs, cost.text_macs) == ("small CLIP", *expected)
    with pytest.raises(InputError, match="names no classes"):
        teacher_cost(str(folder), dataclasses.replace(pictures, classnames=[]), ["a {c}"])
