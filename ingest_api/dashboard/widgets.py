"""Parts that several pages are made of.

Belongs here: attributes, tables, figures in words. Does not belong here: what any page shows (``pages``), colours and
sizes (``assets/style.css``).

Text is given to Dash as text, never as markup: titles and topics are whatever a tenant has sent.
"""

from typing import Any


def aria(**values: object) -> dict[str, Any]:
    """Return attributes for assistive technology: ``aria(label="Pages")``."""
    return {f"aria-{name}": value for name, value in values.items()}


def data(**values: object) -> dict[str, Any]:
    """Return attributes for scripts and styles: ``data(title="News")``."""
    return {f"data-{name.replace('_', '-')}": value for name, value in values.items()}
