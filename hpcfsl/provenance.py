"""What ran: versions, machine and command line, for the record. Layer 0."""

from __future__ import annotations

import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("hpcfsl", "torch", "numpy", "h5py", "mpi4py", "openmpi", "mpich", "pydantic", "scikit-learn")


def provenance() -> dict[str, object]:
    """Return a JSON-able description of this process's software and machine."""
    return {
        "versions": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "command": sys.argv,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages a run depends on, as far as they are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor_name() -> str:
    """Return the processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def node_name() -> str:
    """Return the name of this node: Slurm's for it within a job, which need not be the host's, else the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def memory_bytes() -> int:
    """Return the physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
