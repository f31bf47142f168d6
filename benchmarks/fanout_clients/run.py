"""One client in a process of its own: ``python -m benchmarks.fanout_clients.run JOB`` prints its measurement.

Belongs here: which client a job names. A client's libraries are imported only where they are wanted, so that one
client's memory holds nothing of another's.
"""

import importlib
import sys
from collections.abc import Callable

import orjson

from benchmarks.fanout_clients.meter import Measurement
from benchmarks.fanout_clients.workload import Job

MODULES = {"ours": "ours", "pycurl": "curl", "aioapns": "library_apns", "firebase-admin": "library_fcm"}


def main() -> None:
    """Run the job that the command line gives."""
    job = Job.parse(sys.argv[1])
    module = importlib.import_module(f"benchmarks.fanout_clients.{MODULES[job.client]}")
    run: Callable[[Job], Measurement] = module.run
    print(orjson.dumps(run(job)).decode())


if __name__ == "__main__":
    main()
