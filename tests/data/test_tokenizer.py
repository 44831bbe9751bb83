import subprocess
import sys

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from spikeclip.data import Tokenizer
from spikeclip.errors import InputError

TEXTS = ["a small red circle at the top left", "a photo of a blue square", "there is a large green star"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=320)


def clip_like(path):
    """A tokenizer.json in the manner of CLIP's: template, truncation and padding inside, no padding token."""
    vocab = {c: i for i, c in enumerate([*"abcdefgh", "<|startoftext|>", "<|endoftext|>"])}
    inner = tokenizers.Tokenizer(models.BPE(vocab, [], unk_token="<|endoftext|>"))
    inner.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.RobertaProcessing(("<|endoftext|>", 9), ("<|startoftext|>", 8))
    inner.enable_truncation(5)
    inner.enable_padding(length=7)
    inner.save(str(path))
    return inner


def test_start_tokens_end_then_padding_to_the_longest(tokenizer):
    ids = tokenizer.encode(["a", "a small red circle"])
    assert ids.dtype == np.int64
    longest = ids[1].tolist()
    assert longest[0] == tokenizer.start_id
    assert longest[-1] == tokenizer.eos_id
    short = ids[0].tolist()
    end = short.index(tokenizer.eos_id)
    assert end == 2
    assert set(short[end + 1 :]) == {tokenizer.pad_id}
    assert len({tokenizer.start_id, tokenizer.eos_id, tokenizer.pad_id}) == 3


@given(st.text(max_size=60), st.integers(2, 30))
def test_every_text_is_encoded_and_cut_before_its_end(tokenizer, text, context_length):
    (ids,) = tokenizer.encode(text, context_length).tolist()
    whole = tokenizer.encode(text, 10_000)[0].tolist()
    assert len(ids) == min(context_length, len(whole))
    assert ids.index(tokenizer.eos_id) == len(ids) - 1
    assert ids[:-1] == whole[: len(ids) - 1]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Zs", "Cc", "Cs", "Zl", "Zp"]), max_size=20))
def test_decoding_gives_the_normalised_text_back(tokenizer, text):
    import unicodedata

    expected = unicodedata.normalize("NFC", text).lower()
    if "Σ" not in expected.upper():  # its lower case depends on the place in the word
        assert tokenizer.decode(tokenizer.encode(text, 1000)[0]) == expected


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text_is_start_and_end(tokenizer, text):
    assert tokenizer.encode(text).tolist() == [[tokenizer.start_id, tokenizer.eos_id]]


def test_case_and_spacing_do_not_matter_and_lone_surrogates_pass(tokenizer):
    assert np.array_equal(tokenizer.encode(" A  Small\nRED circle "), tokenizer.encode("a small red circle"))
    assert tokenizer.encode("\ud800").shape[1] > 2


def test_special_tokens_written_in_a_text_are_text(tokenizer):
    ids = tokenizer.encode("red <|endoftext|> <|pad|> circle <|startoftext|>")[0].tolist()
    assert ids.count(tokenizer.eos_id) == ids.count(tokenizer.start_id) == 1
    assert tokenizer.pad_id not in ids


def test_frequent_words_become_one_token(tokenizer):
    assert tokenizer.encode("a").shape == (1, 3)
    assert tokenizer.encode("a a").shape == (1, 4)
    assert Tokenizer.train(TEXTS, 2048).encode("a small red circle").shape == (1, 6)


def test_no_texts_and_wrong_texts(tokenizer):
    assert tokenizer.encode([]).shape == (0, 0)
    with pytest.raises(InputError, match=r"expected texts, got int \(3\)"):
        tokenizer.encode(["a", 3])
    with pytest.raises(InputError, match=r"context_length must be at least 2, got 1"):
        tokenizer.encode("a", 1)


def test_call_returns_the_same_as_a_long_tensor(tokenizer):
    tensor = tokenizer(["a", "blue square"], 5)
    assert tensor.dtype == torch.long
    assert np.array_equal(tensor.numpy(), tokenizer.encode(["a", "blue square"], 5))


def test_training_is_deterministic_and_depends_on_the_texts(tokenizer):
    assert Tokenizer.train(TEXTS, vocab_size=320).fingerprint == tokenizer.fingerprint
    assert Tokenizer.train([*TEXTS, "ochre"] * 5, vocab_size=320).fingerprint != tokenizer.fingerprint
    assert tokenizer.vocab_size <= 320
    with pytest.raises(InputError, match=r"vocab_size must be at least 259, got 100"):
        Tokenizer.train(TEXTS, vocab_size=100)


@pytest.mark.parametrize("place", ["", "deep/tokenizer.json", "other.json"])
def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path, place):
    tokenizer.save(tmp_path / place)
    again = Tokenizer.load(tmp_path / place)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.vocab_size == tokenizer.vocab_size
    texts = ["a red thing <|pad|>", "日本 ß"]
    assert np.array_equal(again.encode(texts), tokenizer.encode(texts))
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


def test_a_clip_tokenizer_adds_its_special_tokens_once_and_pads_with_the_end(tmp_path):
    original = clip_like(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.start_id, loaded.eos_id, loaded.pad_id, loaded.vocab_size) == (8, 9, 9, 10)
    assert loaded.encode(["abc", "a"]).tolist() == [[8, 0, 1, 2, 9], [8, 0, 9, 9, 9]]
    original.no_padding()
    assert loaded.encode("a b")[0].tolist() == original.encode("a b").ids
    assert loaded.encode("abcdefgh").shape == (1, 10)
    assert loaded.encode("abcdefgh", 5).tolist() == [[8, 0, 1, 2, 9]]


def test_mistakes_in_loading(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer at .*tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not a tokenizer\.json"):
        Tokenizer.load(tmp_path)
    tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"tokenizer\.json: the tokenizer has no token that ends a text"):
        Tokenizer.load(tmp_path)


def test_what_an_edge_device_needs_imports_no_torch_and_no_datasets():
    code = (
        "import sys, spikeclip.data, spikeclip.data.tokenizer as t, spikeclip.data.decode\n"
        "import spikeclip.data.prompts, spikeclip.data.shapes, spikeclip.data.sources\n"
        "t.Tokenizer.train(['a b'], 300).encode('a b')\n"
        "assert not {'torch', 'datasets', 'transformers'} & sys.modules.keys(), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
