"""Connector-only tuning: after RL, what joins vision to language learns many domains (paper 3.4, 5.6)."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from lightning_r1v3.backbone import MODULE_GROUPS, ModuleGroup
from lightning_r1v3.modules.frozen_groups import fingerprint
from lightning_r1v3.modules.supervised import Supervised

log = logging.getLogger(__name__)


class ConnectorTune(Supervised):
    """The connector alone imitates chains of many domains; see `Supervised` for the loss.

    `backbone.trainable` makes the paper's ablation (Table 2): connector; connector and language_model; all three. The
    groups that it leaves out have no gradient and no optimizer state, the vision tower runs without a graph, and the
    end of the fit proves that their bits are those of its start, or raises.

    The tower's features are not cached over the epochs: their last bits depend on which pictures share a pass, so a
    resumed run, whose cache is empty, would no longer be bitwise the unbroken one.
    """

    trains: ClassVar[tuple[ModuleGroup, ...]] = ("connector",)

    def __init__(self, **base: Any) -> None:
        """Stores the settings.

        Args:
            **base: See `VLMModule`; where `backbone.trainable` is not given, the connector alone trains.
        """
        super().__init__(**base)
        self._frozen: dict[ModuleGroup, str] = {}
        """Fingerprints of the frozen groups when the fit started, before any resuming."""

    def on_fit_start(self) -> None:
        """Takes the fingerprints of what is frozen."""
        super().on_fit_start()
        if not self._frozen:
            groups = [group for group in MODULE_GROUPS if group not in self.trainable]
            self._frozen = {group: fingerprint(self.model, group) for group in groups}

    def on_fit_end(self) -> None:
        """Exports the model and proves that its frozen groups are what they were.

        Raises:
            RuntimeError: They are not.
        """
        super().on_fit_end()
        for group, before in self._frozen.items():
            after = fingerprint(self.model, group)
            if after != before:
                raise RuntimeError(
                    f"{group} was frozen and has changed: sha256 {before[:16]} before, {after[:16]} after. Do not use "
                    "the exported folder; something outside this module writes to frozen weights"
                )
            log.info("%s is bit-identical to that of %s: sha256 %s", group, self.backbone_config.path, after[:16])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the fingerprints: a resumed run is held to those of its first start."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["frozen_groups"] = self._frozen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the fingerprints up again."""
        super().on_load_checkpoint(checkpoint)
        self._frozen = checkpoint.get("frozen_groups", {})
