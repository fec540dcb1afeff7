"""Tensors and parameters of the Open Inference Protocol: what was written is read, all else is refused."""

import string
import struct
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker.bundle import Manifest, Pooling
from worker.errors import NotServedError, OverloadError, RequestError, UnavailableError
from worker.wires.open_inference.parameters import Value, read_parameters
from worker.wires.open_inference.served import check_served, names_of, version_of
from worker.wires.open_inference.tensors import count_of, decode_raw
from worker.wires.wanted import InputType, Truncate, Wanted
from worker.wires.wording import Words, reworded

MANIFEST = Manifest(
    name="org/some-model.v2",
    fingerprint="0123456789abcdef" * 4,
    dim=8,
    max_tokens=16,
    pooling=Pooling.MEAN,
    normalize=True,
    recipe={"name": "fp32"},
    files={},
)
MOST = 512

texts = st.lists(st.binary(max_size=40), min_size=1, max_size=20)


def encode(elements: list[bytes]) -> bytes:
    """Writes a raw BYTES tensor as the protocol says: the oracle."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@given(elements=texts)
def test_what_was_written_is_read(elements: list[bytes]) -> None:
    """Elements come back byte by byte, empty ones too."""
    assert decode_raw(encode(elements), len(elements)) == elements


@given(elements=texts, cut=st.integers(1, 30), more=st.binary(min_size=1, max_size=9), off=st.integers(1, 5))
def test_a_tensor_of_another_size_is_refused(elements: list[bytes], cut: int, more: bytes, off: int) -> None:
    """Bytes that are missing or too many, and a shape that promises others, are refused with a reason."""
    raw, count = encode(elements), len(elements)
    for wrong, promised in (
        (raw[:-cut] if cut < len(raw) else b"", count),
        (raw + more, count),
        (raw, count + off),
    ):
        with pytest.raises(RequestError, match=r"raw_input_contents\[0\]"):
            decode_raw(wrong, promised)


@given(raw=st.binary(max_size=60), count=st.integers(1, 2**40))
def test_no_bytes_are_too_strange(raw: bytes, count: int) -> None:
    """Any bytes with any promise are read whole or refused, at once."""
    try:
        elements = decode_raw(raw, count)
    except RequestError:
        return
    assert encode(elements) == raw


def test_length_far_beyond_the_end() -> None:
    """A length of four billion allocates nothing."""
    with pytest.raises(RequestError, match="element 0 is said to have 4294967295 bytes, 2 are left"):
        decode_raw(b"\xff\xff\xff\xffab", 1)


@given(shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_shapes(shape: list[int]) -> None:
    """[n] and [n, 1] with at least one text and at most the limit are counted, all others refused."""
    good = len(shape) in (1, 2) and shape[1:] in ([], [1]) and 1 <= shape[0] <= MOST
    if good:
        assert count_of(shape, MOST) == shape[0]
    else:
        with pytest.raises(RequestError, match="input text has"):
            count_of(shape, MOST)


@pytest.mark.parametrize("shape", [[1], [1, 1], [MOST], [MOST, 1]])
def test_good_shapes(shape: list[int]) -> None:
    """Both ways to write a list of texts are taken."""
    assert count_of(shape, MOST) == shape[0]


def test_parameters() -> None:
    """Every parameter has its place, and nothing said is the default."""
    assert read_parameters({}) == Wanted(None, Truncate.END, 0, None)
    read = read_parameters(
        {
            "input_type": "passage",
            "truncate": "START",
            "dimensions": 4,
            "prompt_name": "",
            "embedding_type": "float",
            "timeout": 5,
            "priority": 1,
        }
    )
    assert read == Wanted(InputType.PASSAGE, Truncate.START, 4, "")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input_typ": "query"}, "'input_typ' is not known; did you mean input_type"),
        ({"sequence_id": 5}, "'sequence_id' is not known; known are input_type"),
        ({"input_type": "Query"}, "input_type is 'Query', it must be query or document or passage"),
        ({"input_type": 5}, "input_type is an integer, it must be a string"),
        ({"truncate": "LEFT"}, "truncate is 'LEFT', it must be END or START or NONE"),
        ({"truncate": True}, "truncate is a boolean"),
        ({"dimensions": "4"}, "dimensions is a string, it must be an integer"),
        ({"dimensions": True}, "dimensions is a boolean"),
        ({"dimensions": 4.0}, "dimensions is a double"),
        ({"dimensions": -1}, "dimensions is -1"),
        ({"embedding_type": "int8"}, "embedding_type is 'int8', it must be float"),
    ],
)
def test_bad_parameters(parameters: dict[str, Value], message: str) -> None:
    """A parameter that is unknown, of another type or out of range is refused by its name."""
    with pytest.raises(RequestError, match=message):
        read_parameters(parameters)


names = st.one_of(
    st.sampled_from(["input_type", "truncate", "dimensions", "prompt_name", "embedding_type", "timeout"]),
    st.text(string.printable, max_size=12),
)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_subnormal=False), st.text(max_size=200)
)


@given(parameters=st.dictionaries(names, values, max_size=5))
def test_no_parameters_are_too_strange(parameters: dict[str, Value]) -> None:
    """Any names and values are read or refused, and a refusal stays short."""
    told = ""
    try:
        read_parameters(parameters)
    except RequestError as error:
        told = str(error)
    assert len(told) < 500


@pytest.mark.parametrize(
    ("input_type", "texts", "is_query"),
    [
        (None, 1, True),
        (None, 2, False),
        (InputType.QUERY, 9, True),
        (InputType.PASSAGE, 1, False),
        (InputType.DOCUMENT, 1, False),
    ],
)
def test_class_of_a_request(input_type: InputType | None, texts: int, is_query: bool) -> None:
    """What the caller says decides whether it goes before bulk work; without a word, a single text does."""
    assert Wanted(input_type).is_query(texts) is is_query


@pytest.mark.parametrize("name", ["", "org/some-model.v2", "org_some_model_v2", "mine"])
@pytest.mark.parametrize("version", ["", "0123456789ab", "0123456789abcdef" * 4])
def test_names_and_versions(name: str, version: str) -> None:
    """The model is called by its name, the name of its folder, a given one or none."""
    check_served(MANIFEST, ["mine"], name, version)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("other", "", "'other' is not served here, but: org/some-model.v2, org_some_model_v2, mine"),
        ("", "1", "'1' is not served here, but 0123456789ab"),
        ("", "0123456789a", "is not served"),
        ("", "0123456789ac", "is not served"),
        ("mine", "x" * 5000, "is not served"),
    ],
)
def test_what_is_not_served(name: str, version: str, message: str) -> None:
    """Another name or version is refused, and the right one is told."""
    with pytest.raises(NotServedError, match=message):
        check_served(MANIFEST, ["mine"], name, version)


def test_version_follows_the_model() -> None:
    """Another fingerprint is another version."""
    other = replace(MANIFEST, fingerprint="f" * 64)
    assert version_of(other) != version_of(MANIFEST)
    assert names_of(other, ()) == names_of(MANIFEST, ())


def test_words_of_a_wire() -> None:
    """Names of the inner wire become those that the caller has used; all else stays, with what it knows."""
    words = Words(text="text[{}]", texts="input text", option="parameter ")
    for inner, outer in (
        ("texts[12]: too long", "text[12]: too long"),
        ("texts has 4 entries", "input text has 4 entries"),
        ("options.dimensions is 9", "parameter dimensions is 9"),
        ("the server drains; texts wait", "the server drains; texts wait"),
    ):
        said = reworded(RequestError(inner), words)
        assert (type(said), str(said)) == (RequestError, outer)
    late = reworded(OverloadError("texts have 9 bytes", 1.5), words)
    assert isinstance(late, OverloadError)
    assert (str(late), late.retry_after) == ("input text have 9 bytes", 1.5)
    assert isinstance(reworded(UnavailableError("no"), words), UnavailableError)
