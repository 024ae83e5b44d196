"""The ``tandem`` command: its commands, and how their errors end. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from cli import ask, backfill, bench, data, evaluate, events, finetune, graph, llm, prompts, review, serve, vocabulary
from features.errors import FeatureError
from graph.errors import GraphError
from models.errors import ModelError
from serving.errors import ServingError

if TYPE_CHECKING:
    pass

# Nothing is downloaded or reported at run time; libraries' own bars and warnings would drown what a command says.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tandem: recommendations and tags where an LLM proposes, and trees and a knowledge graph decide.",
)
for command in (
    data.ingest,
    data.train,
    evaluate.evaluate,
    serve.serve,
    ask.recommend,
    ask.tag,
    ask.score,
    serve.demo,
    bench.bench,
):
    app.command()(command)
app.add_typer(finetune.finetune_app, name="finetune")
app.add_typer(graph.graph_app, name="graph")
app.add_typer(ask.items_app, name="items")
app.add_typer(events.events_app, name="events")
app.add_typer(backfill.backfill_app, name="backfill")
app.add_typer(llm.llm_app, name="llm")
app.add_typer(prompts.prompts_app, name="prompts")
app.add_typer(review.review_app, name="review")
app.add_typer(vocabulary.vocabulary_app, name="vocabulary")


def main() -> None:
    """Entry point of the ``tandem`` command."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    try:
        # Outside of its standalone mode typer hands `typer.Exit`'s code back instead of raising it.
        code = app(standalone_mode=False)
        if isinstance(code, int):
            sys.exit(code)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context else ""
        print(f"tandem: {' '.join(error.format_message().split())}{hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        print(f"tandem: the settings do not fit: {problems}", file=sys.stderr)
        sys.exit(2)
    except (FeatureError, ModelError, GraphError, ServingError) as error:
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        from training.datasets.errors import IngestError

        if not isinstance(error, IngestError):
            raise
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(1)
