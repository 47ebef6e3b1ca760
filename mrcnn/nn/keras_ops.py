"""`keras.ops` as type checkers should see it.

They infer results of all of Keras' backends at once, and with them None, which no backend returns.
"""

from __future__ import annotations

from typing import Any

import keras

ops: Any = keras.ops
