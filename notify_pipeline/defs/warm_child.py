"""Imported by the fork server after everything else: its children share it, and its memory. See ``warm``.

Belongs here: those calls. Does not belong here: anything that an import elsewhere should not do.
"""

import gc

from notify_pipeline.defs import warm

warm.share()
# A child's garbage collections would visit what was imported, and so make a copy of its own of every page of it.
gc.freeze()
