"""Networks for other runtimes: ONNX, OpenVINO, darktable. Every file is run and compared with its network before it is kept.

>>> from grainwise.export import export_onnx, load_weights
>>> told = export_onnx(load_weights("default"), Path("fast.onnx"), budgets=("fast",))       # doctest: +SKIP
>>> told.max_difference                                                                     # doctest: +SKIP
2.4e-07
"""

from grainwise.export.check import TOLERANCE, verify
from grainwise.export.darktable import export_dtmodel
from grainwise.export.formats import FORMATS, Exported, export_onnx, export_openvino
from grainwise.export.gated import export_gated
from grainwise.networks.checkpoint import holds_gate, load_gated, load_weights

__all__ = [
    "FORMATS",
    "TOLERANCE",
    "Exported",
    "export_dtmodel",
    "export_gated",
    "export_onnx",
    "export_openvino",
    "holds_gate",
    "load_gated",
    "load_weights",
    "verify",
]
