"""The shared model: saved to a folder or the Hugging Face Hub, and loaded from either.

By huggingface_hub's mixin: `save_pretrained`, `from_pretrained`, `push_to_hub`. Weights are safetensors alone; a
repository that has only pickled ones is refused, for reading a pickle can run what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from concordant.deploy.deployed import DeployedModel
from concordant.deploy.model_card import model_card
from concordant.deploy.opening import SHARED_WEIGHTS, load_described
from concordant.errors import DataError, UsageError
from concordant.files import write_atomically
from concordant.training.devices import device_faults


def save_state(model: nn.Module, path: Path) -> None:
    """Write a model's state as safetensors."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(state, temporary, metadata={"format": "pt"}))


class PretrainedModel(
    DeployedModel, PyTorchModelHubMixin, library_name="concordant", tags=["multimodal", "calibration"]
):
    """A trained model with the scaling of its inputs, in the form that the Hugging Face Hub shares.

    `PretrainedModel.from_pretrained(folder_or_name)` loads one; `concordant share` or `open_deployed` makes one
    of a run.

    Args:
        description: what the model is, as config.json holds it.

    Raises:
        DataError: the description cannot be used.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__(description)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:  # noqa: ANN401 - as the mixin has it
        """Return the model card."""
        return ModelCard(model_card(self.description, sum(p.numel() for p in self.parameters()), self.model.calibrator))

    def _save_pretrained(self, save_directory: Path) -> None:
        save_state(self, Path(save_directory) / SHARED_WEIGHTS)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
        **model_kwargs: Any,  # noqa: ANN401 - what config.json holds
    ) -> PretrainedModel:
        where = f"{model_id}/config.json"
        if not isinstance(model_kwargs.get("description"), dict):
            raise DataError(f"{where} is not there or describes no model; name a folder that `concordant share` made")
        if Path(model_id).is_dir():
            path = Path(model_id) / SHARED_WEIGHTS
        else:
            try:
                path = Path(
                    hf_hub_download(
                        repo_id=model_id,
                        filename=SHARED_WEIGHTS,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        token=token,
                        local_files_only=local_files_only,
                    )
                )
            except EntryNotFoundError:
                raise DataError(f"{model_id} has no {SHARED_WEIGHTS}; pickled weights are not read") from None
        model = load_described(cls, model_kwargs["description"], where, path)
        if faults := device_faults(map_location):
            raise UsageError(f"map_location: {faults[0]}")
        return model.to(map_location).eval()

    @classmethod
    def _load_as_pickle(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:  # noqa: ANN401
        raise DataError(f"{model_file} is pickled, and pickled weights are not read; convert them to safetensors")
