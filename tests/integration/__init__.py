"""Real networks, servers, clusters and processes."""

import pytest

NUMPY_2 = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
"""TensorFlow's variables have not followed NumPy 2 yet, where a network is saved or compared."""
