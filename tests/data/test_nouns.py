"""Word lists that packages ship: which nouns, in which order, and what is said where a package is missing."""

import pytest
from word_lists import ship_words

from spikeclip.data.nouns import frequent_nouns, meanings, synonyms
from spikeclip.errors import InputError


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ship_words(tmp_path))


def test_frequent_nouns(lists):
    assert synonyms()["n1"] == ["robin", "redbreast", "erithacus rubecola"]
    # Two thirds name things of ImageNet; a word of both lists counts there; proper nouns and hyphens are left out.
    assert frequent_nouns(6) == ["sky", "jay", "robin", "crane", "music", "tea"]
    with pytest.raises(InputError, match="hold 9 nouns, fewer than the 30 asked for"):
        frequent_nouns(30)


def test_meanings_are_short(lists):
    assert meanings() == ["small old world songbird", "crested largely blue bird", "a metal pot"]
    assert meanings(3) == ["a metal pot"]


@pytest.mark.parametrize("package", ["timm", "lemminflect", "wordfreq"])
def test_a_missing_package_is_named(package, lists, tmp_path, monkeypatch):
    (tmp_path / package if package != "wordfreq" else tmp_path / "wordfreq.py").rename(tmp_path / "elsewhere")
    monkeypatch.delitem(__import__("sys").modules, package, raising=False)
    with pytest.raises(InputError, match=f"word lists of {package} are not installed: pip install"):
        frequent_nouns(6)
