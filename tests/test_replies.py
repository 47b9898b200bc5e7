"""What passes between a program and its workers: exactly, and checked before it is believed."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from brainvq.data.replies import Reply, pack, receive, send


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        arrays(st.sampled_from(["u1", "<i2", ">u2", "<f4", ">f8", "?"]), array_shapes(min_dims=0, min_side=0)),
        max_size=3,
    ),
    st.sampled_from(["C", "F", "reversed"]),
)
def test_an_answer_arrives_as_it_was_sent(contents: list[np.ndarray], layout: str) -> None:
    laid = [np.array(content, order="F" if layout == "F" else "C") for content in contents]
    if layout == "reversed":
        laid = [content[::-1] if content.ndim else content for content in laid]
    stream = io.BytesIO()
    sent = Reply({"a": [1.5, None, "\udcff"]}, {str(n): array for n, array in enumerate(laid)})
    send(stream, pack("reply", reply=sent), 7, 0.5, True)
    stream.seek(0)
    answer = receive(stream, 1 << 20)
    assert (answer.kind, answer.reply.facts, answer.peak, answer.took, answer.spent) == (
        "reply",
        sent.facts,
        7,
        0.5,
        True,
    )
    assert not stream.read()
    for here, there in zip(laid, answer.reply.arrays.values(), strict=True):
        assert (here.dtype, here.shape, here.tobytes()) == (there.dtype, there.shape, there.tobytes())
        assert there.flags.writeable
        assert layout != "F" or there.flags.f_contiguous


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_broken_answer_is_noticed(data: st.DataObject) -> None:
    stream = io.BytesIO()
    send(stream, pack("reply", reply=Reply({}, {"a": np.arange(6, dtype=np.int16)})))
    whole = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        receive(io.BytesIO(bytes(whole)), 100)
    except (EOFError, ValueError):
        return


@pytest.mark.parametrize(
    "changed",
    [
        {"arrays": [["a", "|O", [1], "C"]]},
        {"arrays": [["a", "<f8", [10**12], "C"]]},
        {"arrays": [["a", "<f8", [-1, -1], "C"]]},
        {"arrays": [["a", "<f8", [2], "K?"]]},
        {"arrays": [["a", "|V8", [1], "C"]]},
        {"arrays": 3},
        {"kind": "other"},
        {"peak": None},
        {"peak": float("inf")},
        {"facts": None},
    ],
)
def test_an_answer_that_cannot_be_allocates_nothing(changed: dict[str, object]) -> None:
    line = {"kind": "reply", "text": "", "facts": {}, "arrays": [], "peak": 0, "took": 0, "spent": False}
    with pytest.raises(ValueError):  # noqa: PT011
        receive(io.BytesIO(json.dumps({**line, **changed}).encode() + b"\n" + bytes(64)), 1 << 20)
