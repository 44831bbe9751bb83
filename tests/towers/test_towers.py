import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from spikeclip import create_model
from spikeclip.errors import InputError
from spikeclip.graph import ops
from spikeclip.graph.lower import lower
from spikeclip.neurons import ILIF, mean_spikes, record

PRESETS = ["spikeclip-paper", "spikeclip-base", "spikeclip-tiny", "spikeclip-lite0"]
NEURONS = ["lif", "plif", "ilif", "relu", "quant_relu"]
EOS = 59  # as `small` has it


@pytest.fixture(scope="module", params=[(p, n) for p in PRESETS for n in NEURONS], ids="-".join)
def model(request, small):
    preset, neuron = request.param
    # At its usual threshold of 1 a LIF that is driven by spikes (0 or 1) alone stays silent.
    return small(preset, neuron=neuron, v_threshold=0.4, learn_range=True)


@pytest.fixture
def encode(model):
    """Embeddings of pictures (floats) or texts (integers) without gradients."""

    @torch.no_grad()
    def encode(inputs):
        return model.encode_image(inputs) if inputs.is_floating_point() else model.encode_text(inputs)

    return encode


def distinct(embeddings):
    """Equal rows would make every comparison below hold for a network that is silent."""
    return all((a - b).abs().max() > 1e-3 for i, a in enumerate(embeddings) for b in embeddings[:i])


@pytest.mark.parametrize("inputs", ["pictures", "tokens"])
def test_a_row_does_not_depend_on_its_batch_nor_on_calls_before(request, encode, inputs):
    inputs = request.getfixturevalue(inputs)
    whole = encode(inputs)
    assert whole.shape == (3, 16)
    assert distinct(whole)
    for i in (2, 0, 1):
        torch.testing.assert_close(encode(inputs[i : i + 1]), whole[i : i + 1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encode(inputs.flip(0)).flip(0), whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(encode(inputs), whole)


def test_text_does_not_see_padding(encode, tokens):
    texts = encode(tokens)
    assert distinct(texts)
    short = tokens[1:2, :3]
    for width, filler in ((0, 0), (12, EOS), (12, 7), (74, 0)):
        padded = F.pad(short, (0, width), value=filler)
        torch.testing.assert_close(encode(padded), texts[1:2], rtol=1e-5, atol=1e-6)


def test_every_parameter_learns(model, pictures, tokens):
    model.zero_grad()
    (model.encode_image(pictures).square().sum() + model.encode_text(tokens).square().sum()).backward()
    unused = {"log_scale", "logit_bias"}
    if model.config.neuron.T == 1:
        unused |= {"image.readout.slope", "text.readout.slope"}
    for name, parameter in model.named_parameters():
        if name in unused:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_every_layer_fires(model, pictures, tokens):
    with torch.no_grad(), record(model, mean_spikes) as rates:
        model.encode_image(pictures)
        model.encode_text(tokens)
    assert len(rates) > 5
    for name, rate in rates.items():
        assert rate > 0.001, name


@pytest.mark.parametrize("preset", ["spikeclip-base", "spikeclip-tiny"])
@pytest.mark.parametrize("neuron", ["lif", "ilif"])
def test_training_does_not_see_padding(small, tokens, preset, neuron):
    results = []
    for padded in (tokens, F.pad(tokens, (0, 9), value=7)):
        model = small(preset, neuron=neuron).train()
        embeddings = model.encode_text(padded)
        embeddings.square().sum().backward()
        gradients = [p.grad for p in model.text.parameters()]
        statistics = list(model.text.buffers())
        results.append([embeddings.detach(), *gradients, *statistics])
    for short, long in zip(*results, strict=True):
        torch.testing.assert_close(long, short, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preset", ["spikeclip-base", "spikeclip-tiny"])
def test_texts_up_to_the_context_length(small, preset):
    model, tokens = small(preset), torch.randint(0, EOS, (1, 78))
    assert model.encode_text(tokens[:, :77]).isfinite().all()
    with pytest.raises(InputError, match="texts of 78 tokens, but this model reads at most 77"):
        model.encode_text(tokens)


def test_the_published_text_tower_reads_twenty_tokens(small):
    model, tokens = small("spikeclip-paper"), torch.randint(0, EOS, (1, 77))
    tokens[:, 19:] = EOS
    assert torch.equal(model.encode_text(tokens), model.encode_text(tokens[:, :20]))
    tokens[:, 19] = 0
    with pytest.raises(InputError, match=r"texts of up to 77 tokens, but the published .* exactly 20"):
        model.encode_text(tokens)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("image_size", [32, 60, 64, 224])
def test_picture_sizes(small, preset, image_size):
    model = small(preset, image_size=image_size, neuron="ilif")
    pictures = torch.randn(1, 3, image_size, image_size, dtype=torch.float64)
    assert model.encode_image(pictures).isfinite().all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("neuron", "T"), [("lif", 1), ("plif", 2), ("lif", 7), ("ilif", 3)])
def test_any_number_of_time_steps(small, pictures, preset, neuron, T):
    model = small(preset, neuron=neuron, T=T)
    assert model.encode_image(pictures).isfinite().all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("neuron", ["lif", "ilif"])
def test_recordings_are_read_frame_by_frame(small, preset, neuron):
    model, still = (
        small(preset, neuron=neuron, T=4, v_threshold=0.4, image={"event_frames": n}) for n in (4, 1)
    )
    generator = torch.Generator().manual_seed(0)
    x_BTCHW = torch.randn(2, 4, 2, 32, 32, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        out = model.encode_image(x_BTCHW)
        assert distinct(torch.cat([out, model.encode_image(x_BTCHW.flip(1))]))
        torch.testing.assert_close(model.encode_image(x_BTCHW[1:]), out[1:], rtol=1e-5, atol=1e-6)
        # A frame that is shown at every step is a recording in which nothing changes.
        frame_BCHW = x_BTCHW[:, 0]
        repeated = frame_BCHW[:, None].expand(-1, 4, -1, -1, -1)
        torch.testing.assert_close(model.encode_image(repeated), still.encode_image(frame_BCHW))


def test_recordings_of_another_length(small):
    model = small("spikeclip-tiny", neuron="lif", T=4, image={"event_frames": 4})
    for shape in [(2, 3, 2, 32, 32), (2, 2, 32, 32), (2, 4, 3, 32, 32)]:
        with pytest.raises(InputError, match=r"expected images of shape \(B, 4, 2, 32, 32\), got"):
            model.encode_image(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("spikeclip-base", {"image_size": 33}, "divides the picture by 4: image_size 33 does not fit"),
        ("spikeclip-paper", {"image_size": 50}, "divides the picture by 4: image_size 50 does not fit"),
        (
            "spikeclip-tiny",
            {"image_size": 31},
            "image_size must be a whole number between 32 and 300, got 31",
        ),
        (
            "spikeclip-base",
            {"image_size": 301},
            "image_size must be a whole number between 32 and 300, got 301",
        ),
        (
            "spikeclip-tiny",
            {"image": {"widths": [8] * 5}},
            "32 pixels leave room for 1 to 4 convolution groups",
        ),
        ("spikeclip-tiny", {"image": {"widths": []}}, "1 to 4 convolution groups, got widths"),
        ("spikeclip-base", {"image": {"widths": [8] * 4}}, "five convolutions, got widths"),
        ("spikeclip-base", {"image": {"num_heads": 5}}, "width 16 is not divisible into 5 heads"),
        (
            "spikeclip-base",
            {"image": {"num_heads": 0}},
            "image.num_heads must be a whole number between 1 and 256, got 0",
        ),
        ("spikeclip-tiny", {"text": {"num_heads": 3}}, "width 16 is not divisible into 3 heads"),
        (
            "spikeclip-base",
            {"text": {"context_length": 2}},
            "text.context_length must be a whole number between 3 and 8,192, got 2",
        ),
    ],
)
def test_shapes_that_cannot_work_say_why(small, preset, overrides, message):
    with pytest.raises(InputError, match=message):
        small(preset, **overrides)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("image_size", [32, 33])
def test_as_many_groups_as_the_picture_allows(small, groups, image_size):
    model = small("spikeclip-tiny", image_size=image_size, image={"widths": [8] * groups})
    pictures = torch.randn(1, 3, image_size, image_size, dtype=torch.float64)
    assert model.encode_image(pictures).isfinite().all()


def test_appended_blocks_start_as_the_identity(pictures):
    torch.manual_seed(0)
    model = create_model("spikeclip-tiny", image={"widths": [16, 16], "depth": 2, "num_heads": 2}).eval()
    with torch.no_grad():
        before = model.encode_image(pictures.float())
        del model.image.blocks[:]
        torch.testing.assert_close(model.encode_image(pictures.float()), before)


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def macs(tower, inputs):
    """Multiply-accumulates of one picture that PyTorch runs, BatchNorm and neurons not counted."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tower(inputs)
    return counter.get_total_flops() // 2


def test_the_paper_preset_has_the_published_size():
    model = create_model("spikeclip-paper").eval()
    # Every learned number: filters, matrices and biases, BatchNorm gains and shifts, T time weights.
    assert parameters(model.image) == 9_513_396
    embeddings = parameters(model.text.token, model.text.position)
    assert embeddings == 25_336_320
    assert parameters(model.text) - embeddings == 22_022_660

    # Published per time step: 934.2 M, with the attention counted as (q k^T) v of 64 tokens. It runs as
    # q (k^T v) here, heads of 48 being smaller; and what does not change over time runs once.
    one = create_model("spikeclip-paper", T=1).image.eval()
    per_step = macs(one, torch.zeros(1, 3, 32, 32))
    attention, cheaper = (4 * 2 * 64 * 384 * n for n in (64, 48))
    assert per_step + attention - cheaper == 934_232_064
    first_convolution, readout = 3 * 9 * 48 * 32 * 32, 384 * 512
    four = macs(model.image, torch.zeros(1, 3, 32, 32))
    assert four == 4 * (per_step - first_convolution - readout) + first_convolution + readout


@pytest.mark.parametrize("preset", ["spikeclip-base", "spikeclip-tiny"])
def test_presets_run_as_they_are(preset):
    model = create_model(preset).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 32, 32), torch.tensor([[49406, 320, 49407]]))
    assert logits.shape == (1, 1)
    assert logits.isfinite().all()


def test_the_first_neurons_have_levels_and_ranges_of_their_own():
    settings = {"neuron": "ilif", "D": 4, "range": 3.0, "first_D": [16], "first_range": [6.0, 2.0]}
    model = create_model("spikeclip-tiny", **settings)
    neurons = [m for m in model.image.modules() if isinstance(m, ILIF)]
    assert [(m.D, m.levels, m.range) for m in neurons[:3]] == [(16, 16, 6.0), (4, 4, 2.0), (4, 4, 3.0)]
    fired = lower(model.image.eval(), model.config.image)
    assert [(op.D, op.range) for op in fired.ops if isinstance(op, ops.Neuron)][:3] == [
        (16, 6.0),
        (4, 2.0),
        (4, 3.0),
    ]
    learned = create_model("spikeclip-tiny", **settings, learn_range=True)
    first = next(m for m in learned.image.modules() if isinstance(m, ILIF))
    assert isinstance(first.range, torch.nn.Parameter)
    assert first.range.item() == 6.0
    with pytest.raises(
        InputError, match="first_range has 40 values, and the image tower 7 neurons with levels"
    ):
        create_model("spikeclip-tiny", first_range=[1.0] * 40)
    twin = create_model("spikeclip-tiny", neuron="relu", first_D=[16], first_range=[6.0])
    assert not any(isinstance(m, ILIF) for m in twin.image.modules())
