"""Runs a train script under FSDP on the CPU: accelerate wires FSDP up for accelerators alone, and for CPU processes
falls back to DDP in silence. torch's own FSDP works there, so one line of accelerate is all that is in the way."""

import runpy
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

plain = AcceleratorState.__init__


def with_fsdp(self, *arguments, fsdp_plugin=None, **named) -> None:
    plain(self, *arguments, fsdp_plugin=fsdp_plugin, **named)
    if fsdp_plugin is not None:
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.argv.pop(0)
    AcceleratorState.__init__ = with_fsdp
    runpy.run_path(sys.argv[0], run_name="__main__")
