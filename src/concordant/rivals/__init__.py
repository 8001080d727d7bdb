"""Calibrators by name: the contextual calibrator, its rivals, and its ablations, which are not listed.

`CALIBRATORS` has one entry per calibrator, registered beside its class; `CalibratorEntry` lists what an entry says.
"""

from concordant.rivals.base import CALIBRATORS, CalibratorEntry

# Imported in the order of the listing: the classes register themselves.
# isort: off
from concordant.rivals.none import NoCalibrator
from concordant.rivals.gates import JointGate, SelfGate
from concordant.rivals.gmu import GatedUnits
from concordant.rivals.modality_dropout import ModalityDropout
from concordant.rivals.uncertainty import ConfidenceWeights
from concordant.rivals.evidential import ConflictEvidential, Evidential
from concordant.rivals.aecf import EntropyGate
from concordant.rivals.attention import ModalityAttention
from concordant.rivals.ablated import ABLATIONS, AblatedCalibrator
from concordant.rivals.after_fusion import AfterFusion
# isort: on

__all__ = [
    "ABLATIONS",
    "CALIBRATORS",
    "AblatedCalibrator",
    "AfterFusion",
    "CalibratorEntry",
    "ConfidenceWeights",
    "ConflictEvidential",
    "EntropyGate",
    "Evidential",
    "GatedUnits",
    "JointGate",
    "ModalityAttention",
    "ModalityDropout",
    "NoCalibrator",
    "SelfGate",
]
