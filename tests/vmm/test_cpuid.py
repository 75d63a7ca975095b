"""The declared processor and its masks."""

import pytest

from ringfence.errors import RingfenceError
from vmm._core import lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import BRAND, DEFAULT_FEATURES, FEATURES


def leaf(model: list, number: int) -> tuple[int, ...]:
    return next(tuple(row)[2:] for row in model if row.leaf == number)


def test_the_default_model_shows_every_default_feature_and_no_other() -> None:
    model = cpu_model()
    for name, where in FEATURES.items():
        word = dict(zip(("eax", "ebx", "ecx", "edx"), leaf(model, where.leaf), strict=True))[where.register]
        assert bool(word >> where.bit & 1) is (name in DEFAULT_FEATURES), name


@pytest.mark.parametrize("name", FEATURES)
def test_a_mask_changes_one_bit(name: str) -> None:
    where = FEATURES[name]
    shown, hidden = (leaf(cpu_model(f"{sign}{name}"), where.leaf) for sign in "+-")
    assert [a ^ b for a, b in zip(shown, hidden, strict=True)] == [
        1 << where.bit if register == where.register else 0 for register in ("eax", "ebx", "ecx", "edx")
    ]


def test_the_last_word_for_a_feature_counts() -> None:
    assert cpu_model("-pae, +pae,") == cpu_model()


@pytest.mark.parametrize("features", ["sse2", "+nosuch", "-", "=pae"])
def test_unknown_words_are_named(features: str) -> None:
    with pytest.raises(RingfenceError, match="expected"):
        cpu_model(features)


def test_leaves_fit_the_core_and_are_unique() -> None:
    model = cpu_model("+hypervisor")
    assert len(model) <= lib.RF_CPUID_LEAVES
    assert len({row.leaf for row in model}) == len(model)


def test_the_brand_string() -> None:
    model = cpu_model()
    text = b"".join(word.to_bytes(4, "little") for n in (2, 3, 4) for word in leaf(model, 0x80000000 + n))
    assert text.rstrip(b"\0") == BRAND
    assert len(text) == 48


def test_the_hypervisor_leaves() -> None:
    assert leaf(cpu_model("+hypervisor"), 0x40000000)[0] == 0x40000000
    model = cpu_model("+hypervisor", tsc_hz=2_500_000_000, bus_hz=100_000_000)
    assert leaf(model, 0x40000000)[0] == 0x40000010
    assert leaf(model, 0x40000010) == (2_500_000, 100_000, 0, 0)
    assert all(row.leaf >> 16 != 0x4000 for row in cpu_model())
