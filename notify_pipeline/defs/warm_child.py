"""Imported by the fork server after everything else: its children share it. See ``warm``.

Belongs here: that call. Does not belong here: anything that an import elsewhere should not do.
"""

from notify_pipeline.defs import warm

warm.share()
