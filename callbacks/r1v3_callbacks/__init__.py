"""Callbacks for any LightningModule; this package imports torch and lightning only."""

from r1v3_callbacks.checkpoint_ranker import CheckpointRanker
from r1v3_callbacks.collapse_detector import CollapseDetector
from r1v3_callbacks.collapse_rules import Limits
from r1v3_callbacks.collapse_settings import Recovery, Timing
from r1v3_callbacks.contract import Keys
from r1v3_callbacks.critical_token_entropy import CriticalTokenEntropy
from r1v3_callbacks.domain_shift_alarm import DomainShiftAlarm
from r1v3_callbacks.hallucination_monitor import HallucinationMonitor
from r1v3_callbacks.throughput_monitor import ThroughputMonitor

__all__ = [
    "CheckpointRanker",
    "CollapseDetector",
    "CriticalTokenEntropy",
    "DomainShiftAlarm",
    "HallucinationMonitor",
    "Keys",
    "Limits",
    "Recovery",
    "ThroughputMonitor",
    "Timing",
]
