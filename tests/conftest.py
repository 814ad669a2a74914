"""Settings of all tests."""

import os
import signal
import tempfile

from hypothesis import settings

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="grainwise-tests-")  # what was measured here decides no test
settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would its children
