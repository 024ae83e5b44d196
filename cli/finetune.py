"""``tandem finetune``: an adapter for the LLM of the settings, fitted to a release's own gold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import DEFAULT_WORKSPACE, ConfigOption, JsonOption, UsageError, WorkspaceOption, err, progress_bar
from cli.settings import Settings, read_settings
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.llm import LLMConfig

finetune_app = typer.Typer(no_args_is_help=True, help="Fit an adapter (LoRA) for the LLM to your own gold.")


@finetune_app.command("tag")
def tag(
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the adapter.")],
    items: Annotated[int, typer.Option(min=8, help="Products to learn from at most, one of a product type.")] = 500,
    epochs: Annotated[int, typer.Option(min=1, help="How often each is seen.")] = 2,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Ends by then, however far it has come; repeats differ.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other products, in another order.")] = 7,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune the LLM of the settings to name the right category among those Tag shows it.

    It learns from the promoted release's gold: of the product types that its guardrail learned from, never of those
    that certify it or that the usual trial of a prompt (100 items, seed 7) asks about; a trial of another seed may ask
    what it was told. On a GPU where there is one; on a CPU a pair of the default model takes about a second an epoch.

    The next training asks it about types it was tuned on, too, so its guardrail will think more of the LLM than new
    products deserve; tags are accepted by trees all the same. What tuning is worth on types that neither has seen:
    tandem evaluate tags --llm --fine-tune.

    Example: tandem finetune tag --workspace shop --output adapters/tag
    Example: tandem finetune tag --output adapters/tag --items 1000 --epochs 3 --seed 11
    """
    from training.finetune.config import FineTuneConfig
    from training.finetune.gold import tag_pairs
    from training.finetune.lora import fine_tune

    place = Workspace(workspace)
    model, folder = base_of(place, read_settings(config))
    settings = FineTuneConfig(
        epochs=epochs,
        max_seconds=None if minutes is None else 60.0 * minutes,
        max_model_len=model.max_model_len,
        threads=model.threads,
        seed=seed,
    )
    with progress_bar("fine-tuning", as_json) as progress:
        gold = tag_pairs(place, items, seed, progress)
        manifest = fine_tune(folder, gold.pairs, output, settings, gold.facts, progress)
    if as_json:
        print(json.dumps({"adapter": str(output), **manifest}))
        return
    told, losses = manifest["training"], manifest["training"]["loss"]
    err.print(
        f"{manifest['pairs']} pairs, {told['steps']} steps in {told['seconds']:.0f} s on {told['device']}; loss by "
        f"epoch {', '.join(f'{loss:.3f}' for loss in losses)} (nats a token)\n"
        f'serve and train with it:  [llm] adapter = "{output}"\n'
        "then run: tandem train, for the guardrail judges one LLM, and this is another",
        highlight=False,
        markup=False,
    )


def base_of(workspace: Workspace, settings: Settings) -> tuple[LLMConfig, Path]:
    """The model of the settings and the folder of its weights. Raises UsageError where it has none of its own."""
    from models.llm import local_folder

    model = settings.train_config().llm
    if model is None:
        raise UsageError("the settings say llm = false: name the model to fine-tune in [llm]")
    if model.engine == "openai":
        raise UsageError("an endpoint's weights cannot be fine-tuned here: name a local folder in [llm] model")
    if model.adapter is not None:
        raise UsageError(f"the settings' model has an adapter already ({model.adapter}): leave [llm] adapter out")
    return model, local_folder(model.model_copy(update={"weights_dir": workspace.llm}))
