"""The four stages: what each learns, what it leaves alone and what it asks for."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_run import CLASSES, DIM, rows, with_images

from spikeclip.config import AugmentConfig, LossConfig, ModelSettings
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.model import from_pretrained
from spikeclip.train.build import build_model
from spikeclip.train.feed import Feed
from spikeclip.train.stages.stage import trim

CPU = torch.device("cpu")
CAPTIONS = {"source": "shapes", "limit": 300, "val_fraction": 0.2}


def state_of(model, part: str) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if name.split(".")[0] == part}


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("stage", "moves", "stays"),
    [
        ({"stage": "align_text", "batch_size": 31}, {"text"}, {"image", "log_scale", "logit_bias"}),
        ({"stage": "align_image"}, {"image"}, {"text", "log_scale", "logit_bias"}),
        (
            {"stage": "align_image", "loss": {"relational": 1.0}},
            {"image", "log_scale"},
            {"text", "logit_bias"},
        ),
        ({"stage": "finetune"}, {"image", "log_scale"}, {"text", "logit_bias"}),
        ({"stage": "finetune", "logit_scale": 20.0}, {"image"}, {"text", "logit_bias"}),
        ({"stage": "contrastive"}, {"image", "text", "log_scale"}, {"logit_bias"}),
        (
            {"stage": "contrastive", "loss": {"contrastive": "sigmoid"}},
            {"image", "text", "log_scale", "logit_bias"},
            set(),
        ),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_a_stage_moves_its_own_parts_only(stage, moves, stays, prepared, run):
    """Weights and the running statistics of BatchNorm: a frozen tower gives the same embeddings afterwards."""
    before = prepared(stage).model
    after = from_pretrained(run(stage)[1] / "model")
    if "logit_scale" in stage:
        assert after.logit_scale.item() == pytest.approx(20)
    for part in stays:
        assert same(state_of(before, part), state_of(after, part))
    for part in moves:
        assert not same(state_of(before, part), state_of(after, part))
    running = {name: value for name, value in before.state_dict().items() if "running_mean" in name}
    for name, value in running.items():
        assert torch.equal(value, after.state_dict()[name]) == (name.split(".")[0] not in moves)


def test_the_three_stages_teach_a_student(run, prepared):
    stages = [
        {"stage": "align_text", "epochs": 60, "batch_size": 31, "optimizer": {"lr": 0.01}},
        {"stage": "align_image", "epochs": 8, "relu_first": 0.5},
        {"stage": "finetune", "epochs": 4},
    ]
    result, folder = run(*stages)
    text, image, tuned = (stage["best"] for stage in result["stages"])
    assert text > 0.5  # what is not the mean of all texts
    assert image > 0.9
    assert tuned > 0.9
    pictures = prepared(*stages).pictures
    model = from_pretrained(folder / "model")
    made = embed_pictures(Student(model), pictures.splits["val"])
    classes = zero_shot_classifier(Student(model), sorted(CLASSES), ["a photo of a {c}."])
    assert zero_shot_metrics(made, pictures.labels["val"], classes)["acc1"] == tuned


@pytest.mark.parametrize("kind", ["infonce", "sigmoid"])
def test_contrastive_learns_from_captions_without_a_teacher(kind, run):
    stage = {"stage": "contrastive", "batch_size": 48, "epochs": 13, "loss": {"contrastive": kind}}
    _, folder = run({**stage, "optimizer": {"lr": 1e-2}}, data=CAPTIONS, teacher=False)
    losses = [row[kind] for row in rows(folder) if kind in row]
    assert losses[-1] < 0.6 * losses[0]


def test_captions_without_labels_are_tested_by_retrieval(root, run, tmp_path):
    files = sorted((root / "pictures").glob("t*/*/*.png"))
    for split in ("train", "test"):
        own = [file for file in files if file.parent.parent.name == split]
        columns = {"image": [{"bytes": file.read_bytes(), "path": str(file)} for file in own]}
        table = pa.table({**columns, "captions": [[f"a {file.parent.name}", "a picture"] for file in own]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    data = {"source": str(tmp_path), "val_fraction": 0.2}
    result, _ = run({"stage": "contrastive", "epochs": 1}, data=data, teacher=False, test=True)
    assert result["test"]["task"] == "zeroshot_retrieval"
    assert 0 < result["test"]["metrics"]["image_retrieval_recall@10"] <= 1


def test_images_align_to_a_teacher_that_only_reads(prepared):
    made = prepared({"stage": "align_image"})
    assert made.lessons.teacher_images == {"train": None, "val": None}
    indices = torch.tensor([0, 50, 100])
    wanted = made.stage().batch(indices, 0)[1]
    assert torch.equal(wanted["image"], wanted["text"])
    train = made.pictures.splits["train"]
    names = [train.classnames[i] for i in train.labels[indices]]
    assert [made.lessons.texts[i] for i in wanted["id"]] == [f"a photo of a {name}." for name in names]


def test_images_align_to_captions_of_a_teacher_that_only_reads(prepared, tmp_path):
    captions = prepared({"stage": "contrastive"}, data=CAPTIONS, teacher=False).lessons.texts
    vectors = np.random.default_rng(0).normal(size=(len(captions), DIM))
    np.savez(tmp_path / "captions.npz", embeddings=vectors, texts=captions)
    made = prepared({"stage": "align_image"}, data=CAPTIONS, teacher={"path": str(tmp_path / "captions.npz")})
    own = made.pictures.splits["train"].captions
    wanted = made.stage().batch(torch.arange(len(own)), 0)[1]
    drawn = [own[i].index(made.lessons.texts[row]) for i, row in enumerate(wanted["id"].tolist())]
    assert set(drawn) == {0, 1, 2}  # each of a picture's captions has its turn


def test_a_teacher_of_images_is_the_target_of_images(prepared):
    made = prepared({"stage": "align_image"})
    lessons = with_images(made.lessons)
    wanted = made.replace(lessons=lessons).stage().batch(torch.tensor([3, 1]), 0)[1]
    torch.testing.assert_close(wanted["image"], lessons.teacher_images["train"][[3, 1]])


def test_picture_and_caption_of_a_pair_belong_together(prepared):
    """Inputs and targets of a contrastive batch are of the same caption."""
    made = prepared({"stage": "contrastive"}, data=CAPTIONS, teacher=False)
    lessons, captions = made.lessons, made.pictures.splits["train"].captions
    stage, indices = made.stage(), torch.randperm(200)
    for epoch in range(3):
        inputs, targets = stage.batch(indices, epoch)
        ids = targets["id"]
        expected = lessons.tokenizer([lessons.texts[i] for i in ids], 77)
        assert torch.equal(inputs["tokens"], expected)
        assert all(lessons.texts[text] in captions[i] for text, i in zip(ids, indices, strict=True))


@pytest.mark.parametrize("kind", ["align_image", "finetune", "contrastive"])
def test_what_is_drawn_for_a_sample_depends_on_its_index_alone(kind, prepared):
    """A process that prepares a share of a batch prepares what one that prepares it all has there."""
    changes = {"data": CAPTIONS, "teacher": False} if kind == "contrastive" else {}
    stage = prepared({"stage": kind}, **changes).stage()
    indices = torch.randperm(60)
    feed = Feed(stage, CPU)
    whole, again = feed.batch(1, indices), feed.batch(1, indices)
    parts = [Feed(stage, CPU, share=(rank, 2)).batch(1, indices) for rank in range(2)]
    for whole_side, again_side, *sides in zip(whole, again, *parts, strict=True):
        for name, value in whole_side.items():
            assert torch.equal(value, again_side[name])
            if name != "tokens":  # trimmed to the longest text of the part
                torch.testing.assert_close(value, torch.cat([side[name] for side in sides]))
    other = feed.batch(2, indices)
    assert not torch.equal(whole[0]["images"], other[0]["images"])


def test_the_loss_of_a_batch_seen_twice_is_the_same(prepared):
    made = prepared({"stage": "finetune"}, data={"val_fraction": 0.2})
    settings = {
        "augment": AugmentConfig(crop=0, flip="none"),
        "loss": LossConfig(kl=2.0, label_smoothing=0.1),
    }
    model = made.model.eval()
    for kind in ("finetune", "align_image"):
        stage = made.stage(stage=kind, **settings)

        def loss(indices, stage=stage):
            inputs, targets = Feed(stage, CPU).batch(0, indices)
            return stage.loss(model, stage.features(model, inputs), targets)

        once, twice = loss(torch.arange(20)), loss(torch.arange(20).repeat(2))
        assert once.keys() == twice.keys() == ({"ce", "kl"} if kind == "finetune" else {"cosine"})
        for name in once:
            torch.testing.assert_close(once[name], twice[name])


def test_texts_without_a_picture_cost_nothing_in_the_interactive_term(prepared):
    """Of 64 texts in the table 6 are prompts of classes that have pictures."""
    made = prepared({"stage": "align_text", "loss": {"interactive": 1.0}})
    model, stage = made.model.eval(), made.replace(lessons=with_images(made.lessons)).stage()

    def interactive(indices):
        inputs, targets = stage.batch(indices, 0)
        return stage.loss(model, stage.features(model, inputs), targets)["interactive"]

    prompts = torch.arange(6)
    assert interactive(prompts).item() > 0
    torch.testing.assert_close(interactive(torch.arange(40)), interactive(prompts))
    assert interactive(torch.arange(10, 30)).item() == 0


def test_validation_texts_are_not_learned(prepared):
    made = prepared({"stage": "align_text"})
    material, stage = made.lessons, made.stage()
    learned = stage.batch(torch.arange(stage.samples), 0)[0]["tokens"]
    texts = {material.tokenizer.decode(row) for row in learned.tolist()}
    held = set(material.texts) - texts
    assert len(held) == len(material.texts) - stage.samples > 0
    assert not held & {prompt for prompts in material.class_prompts for prompt in prompts}


def test_a_text_tower_is_scored_on_what_it_never_saw_and_on_the_class_names(prepared):
    ready = prepared({"stage": "align_text"})
    material, model = ready.lessons, ready.model
    made = torch.nn.functional.normalize(model.encode_text(model.tokenize(material.texts)), dim=-1).detach()
    everything = torch.arange(len(material.texts))
    prompts, held = material.prompt_rows, material.held_texts
    others = everything[~torch.isin(everything, torch.cat([prompts, held]))]
    teacher = material.teacher_texts_ND

    def score(known):
        mixed = teacher.clone()
        mixed[known] = made[known]
        lessons = dataclasses.replace(material, teacher_texts_ND=mixed)
        return ready.replace(lessons=lessons).stage().score(model)

    nothing = score(others[:0])
    assert score(prompts) > nothing + 0.1
    assert score(held) > nothing + 0.1
    assert abs(score(others[:5]) - nothing) < 0.1


def test_keep_costs_nothing_before_a_network_moves_and_holds_it_back(prepared, run):
    align, tune = {"stage": "align_image", "epochs": 4}, {"stage": "finetune", "epochs": 3}
    loss = {"ce": 1.0, "kl": 0.0}
    ready = prepared(align, {**tune, "loss": {**loss, "keep": 10.0}})
    pictures = ready.pictures.splits
    start = from_pretrained(run(align, out="start")[1] / "model")
    stage = ready.replace(model=start).stage(1)
    wanted = stage.batch(torch.arange(40), 0)[1]
    made = torch.from_numpy(embed_pictures(Student(start), pictures["train"])[:40])
    assert stage.loss(start, {"image": made}, wanted)["keep"].item() == pytest.approx(0, abs=1e-4)
    assert stage.loss(start, {"image": made.flip(0)}, wanted)["keep"].item() > 0.1

    def said(model):
        return (
            torch.from_numpy(embed_pictures(Student(model), pictures["val"]))
            @ ready.lessons.teacher_texts_ND.T
        )

    kept, free = (
        from_pretrained(run(align, {**tune, "loss": {**loss, "keep": keep}}, out=str(keep))[1] / "model")
        for keep in (10.0, 0.0)
    )
    assert (said(kept) - said(start)).abs().mean() < 0.7 * (said(free) - said(start)).abs().mean()


def test_trim_drops_columns_that_are_padding_everywhere():
    tokens = torch.tensor([[1, 5, 2, 0, 0, 0], [1, 5, 6, 2, 0, 0]])
    assert torch.equal(trim(tokens, 2), tokens[:, :4])
    clip = torch.tensor([[1, 5, 2, 2, 2], [1, 2, 2, 2, 2]])  # padded with the end token, as CLIP does
    assert torch.equal(trim(clip, 2), clip[:, :3])


@pytest.mark.parametrize("stage", ["align_text", "align_image", "finetune"])
def test_a_stage_that_needs_a_teacher_says_so(stage, run):
    with pytest.raises(InputError, match=f"stage {stage} needs a teacher: set teacher.path"):
        run({"stage": stage}, teacher=False)


def test_finetune_needs_labels(prepared):
    made = prepared({"stage": "finetune"})
    bare = dataclasses.replace(made.pictures, labels={"train": torch.empty(0), "val": torch.empty(0)})
    with pytest.raises(InputError, match="needs labels, and this data has captions only"):
        made.replace(pictures=bare).stage()


def test_too_few_pictures_for_validation(prepared):
    with pytest.raises(
        InputError, match=r"leave none .*: this needs more pictures, or a larger data\.val_fr"
    ):
        prepared({"stage": "finetune"}, data={"limit": 18})


def test_the_embedding_has_the_teachers_dimension(prepared):
    assert prepared({"stage": "align_image"}).model.config.embed_dim == DIM
    with pytest.raises(InputError, match=f"model.embed_dim is 32, but the teacher's is {DIM}"):
        prepared({"stage": "align_image"}, model={"embed_dim": 32})


def test_pretrained_continues_from_a_saved_model(prepared, run):
    _, folder = run({"stage": "align_image", "epochs": 1}, out="first")
    saved = from_pretrained(folder / "model")
    settings = ModelSettings(pretrained=str(folder / "model"))
    ready = prepared({"stage": "finetune"})
    model = build_model(settings, ready.pictures, ready.lessons)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.tokenizer.fingerprint == saved.tokenizer.fingerprint

    (folder / "model" / "tokenizer.json").unlink()
    fitting = prepared({"stage": "finetune"}).lessons
    assert build_model(settings, ready.pictures, fitting).tokenizer is fitting.tokenizer
    other = prepared({"stage": "finetune"}, vocab_size=400)
    narrow = dataclasses.replace(fitting, teacher_texts_ND=fitting.teacher_texts_ND[:, :8])
    with pytest.raises(InputError, match=r"has no tokenizer and reads .* tokens that end in"):
        build_model(settings, other.pictures, other.lessons)
    with pytest.raises(InputError, match=f"embeds in {DIM} dimensions, the teacher in 8"):
        build_model(settings, ready.pictures, narrow)
    with pytest.raises(
        InputError, match="takes the saved model as it is; remove the other settings of the model"
    ):
        run({"stage": "finetune"}, model={"pretrained": str(folder / "model")}, out="second")
