import pytest

from spikeclip.energy import load_conventions
from spikeclip.errors import InputError


def test_the_literatures_constants_are_the_default():
    table = load_conventions().arithmetic
    assert table.fp32.mac == pytest.approx(4.6)
    assert table.fp32.accumulate == 0.9
    assert table.fp16.mac == pytest.approx(1.5)
    assert table.int8.mac == pytest.approx(0.23)
    # mJ, the int8 twin of reference.md
    assert 934.2e6 * table.int8.mac * 1e-9 == pytest.approx(0.215, abs=5e-4)


def test_a_file_changes_what_it_names_and_says_so(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "arithmetic: {int8: {accumulate: 0.03}}\nfirst_layer: every_step\nsram_KiB: [8, 32, 2048]\n"
    )
    mine, default = load_conventions(file), load_conventions()
    assert mine.arithmetic.int8.accumulate == 0.03
    assert mine.arithmetic.int8.multiply == default.arithmetic.int8.multiply
    assert (mine.first_layer, default.first_layer) == ("every_step", "once")
    assert mine.sram_KiB == [8, 32, 2048]
    assert mine.name == "horowitz-45nm changed by mine.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first_layer: twice", "unknown value of conventions.first_layer 'twice'"),
        ("arithmetic: {int9: {add: 1}}", "did you mean 'int8'"),
        ("arithmetic: {int8: {add: cheap}}", "arithmetic.int8.add: expected float, got 'cheap'"),
        ("sram_pJ: [10, 20]", "two rising lists of the same length"),
        ("sram_pJ: [0, 20, 100]", "conventions.sram_pJ.0 must be a number above 0 .* got 0"),
        ("dram_pJ: -1", "conventions.dram_pJ must be a number between 0 and .* got -1"),
        ("{dram_pJ: 1, dram_pJ: 2}", "key 'dram_pJ' stands twice in one table"),
        ("- 1", "expected a table of conventions"),
        ("a: [", "bad.yaml is not valid YAML"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_conventions(file)


def test_a_missing_file():
    with pytest.raises(InputError, match=r"no such file: nowhere\.yaml"):
        load_conventions("nowhere.yaml")
