"""How many examples a property is tried with.

Belongs here: the number, where a test asks for one of its own. Does not belong here: the profile that the others go by
(``conftest``).
"""

import os


def examples(number: int) -> int:
    """Return a third of a number in CI, which tries the same ones at every run; else the number."""
    return max(5, number // 3) if os.environ.get("CI") else number
