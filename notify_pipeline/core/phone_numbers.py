"""Phone numbers: reading what people write, in E.164, and writing them where they must not be read.

Belongs here: validation, the one spelling that is stored, masking. Does not belong here: who may be texted
(``ledger.suppressions``), how (``channels.sms``).

Whether a number can exist is asked, not whether it is in use: its country's lengths change once in decades, while the
ranges that are handed out change every week, and a list that is a year old would refuse good numbers.
https://github.com/google/libphonenumber/blob/master/FAQ.md (is_possible_number and is_valid_number)
"""

import re

# What a number may look like before it is read: a plus, and what people put between digits.
WRITTEN_PATTERN = r"^\+[1-9][0-9 ().\-]{5,30}$"
_WRITTEN = re.compile(WRITTEN_PATTERN.replace("$", r"\Z"))
# "The maximum number of digits is 15"; no country has a number of fewer than seven with its code.
# https://www.itu.int/rec/T-REC-E.164
_E164 = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_SHOWN_DIGITS = 2


class NotANumber(ValueError):
    """No phone has such a number; says why, without repeating it."""


def normalized(text: str) -> str:
    """Return a number in E.164: a plus, country code and national number, without anything between.

    Args:
        text: A number with its country code, as people write it; a national prefix (``+44 (0)20 …``) is left out.

    Raises:
        NotANumber: It has no country code, or its country has no numbers so long or so short.
    """
    # Loads for 20 ms, and half a megabyte for each country that is met.
    import phonenumbers

    if not _WRITTEN.match(text):
        raise NotANumber("must be a phone number with its country code, such as +447700900123")
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise NotANumber("must begin with a country's code, and go on with a number of that country") from None
    found = phonenumbers.is_possible_number_with_reason(number)
    kinds = phonenumbers.ValidationResult
    # One that can be dialled within its town only is no number of the world's.
    if found != kinds.IS_POSSIBLE:
        faults = {kinds.TOO_LONG: "is too long for", kinds.INVALID_LENGTH: "has not the length of"}
        raise NotANumber(f"{faults.get(found, 'is too short for')} a number of +{number.country_code}")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_e164(text: str) -> bool:
    """Tell whether a text has the form that ``normalized`` gives; cheap, and asks nothing about countries."""
    return _E164.match(text) is not None


def masked(text: str) -> str:
    """Return what a log line may hold of a number: its last two digits."""
    return f"+…{text[-_SHOWN_DIGITS:]}" if len(text) > 2 * _SHOWN_DIGITS else "+…"
