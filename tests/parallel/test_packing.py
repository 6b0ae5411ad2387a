from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hpcfsl.parallel.packing import pack, unpack

dtypes = st.sampled_from(["i1", "i4", "i8", "u8", "f4", "f8", "S1", "S64"])
columns = st.dictionaries(
    st.text(max_size=8),
    dtypes.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0))),
    max_size=6,
)


@given(columns)
def test_what_is_packed_comes_out_again(sent: dict[str, np.ndarray]) -> None:
    message = pack(sent)
    assert message.dtype == np.uint8
    found = unpack(message)
    assert list(found) == list(sent)
    for name, values in sent.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        assert found[name].tobytes() == values.tobytes()


def test_columns_lie_in_the_message() -> None:
    message = pack({"a": np.arange(3), "b": np.arange(6.0).reshape(3, 2)[:, 1]})
    found = unpack(message)
    assert all(np.shares_memory(values, message) for values in found.values())
    assert found["b"].tolist() == [1.0, 3.0, 5.0]
