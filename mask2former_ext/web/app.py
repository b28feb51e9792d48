"""A web page for trained models: drop a picture on it, see what the model finds, point at it, take it home.

python demo/web.py                                            the small model that `make demo` trained
python demo/web.py --config-file F --weights model.pth        your own; both again for each further model
python demo/web.py --config-file output/config.yaml           what a training has left

The page answers on this machine alone unless --host says otherwise. It loads nothing from anywhere else and keeps
nothing: a file travels with each request, from the browser's memory. A picture is never written to disk; a video is,
and is removed with the request. One request runs after the other; the rest wait in a queue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from tqdm import tqdm

from mask2former_ext.commands.mistakes import tell_mistake
from mask2former_ext.commands.trained_model import configure, demo_model_notice, free_name
from mask2former_ext.config import add_import_option, import_own_files
from mask2former_ext.data.channels import PLAIN
from mask2former_ext.inference.predictor import Predictor
from mask2former_ext.web.about import TASK_WORDS, about, own_sample, scene_for
from mask2former_ext.web.answers import Answerer
from mask2former_ext.web.gate import Gate
from mask2former_ext.web.limits import Limits

try:
    import gradio as gr
    import uvicorn  # which gradio brings, as it does fastapi
    from fastapi import FastAPI
except ImportError as error:
    raise ImportError("the web page needs gradio: pip install 'mask2former_ext[web]'") from error

PAGE = Path(__file__).parent / "page"
VIEWER = ("viewer.js", "drawing.js", "waiting.js", "taking_home.js")  # one script in parts
TITLE = "mask2former_ext"

LIMITS = {
    "max_bytes": "of a file",
    "max_pixels": "of a picture or frame as it comes",
    "max_size": "px, longer side; larger pictures are shrunk to it",
    "max_seconds": "of a video",
    "max_frames": "of a video; of more only each second, third, ... is segmented",
}


def build_page(answerer: Answerer, sample: dict[str, str] | None = None) -> gr.Blocks:
    """The page: the request on the left, the answer on the right (below it on a phone).

    sample: the picture that it offers to try, in the form of `about.own_sample`; None: one that the model knows.
    """
    models, limits = list(answerer.predictors), answerer.limits
    taken = f"At most {limits.max_bytes / 1e6:g} MB; of a video {limits.max_seconds:g} seconds."
    told = {name: about(predictor) for name, predictor in answerer.predictors.items()}
    samples = {name: sample or scene_for(predictor) for name, predictor in answerer.predictors.items()}
    tasks = answerer.tasks(models[0])
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(f"# {TITLE}\nDrop a picture and see what the model finds in it. {taken} Nothing is kept.")
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                picker = _part("picker", max_bytes=limits.max_bytes)
                model = gr.Dropdown(models, value=models[0], label="Model", visible=len(models) > 1)
                facts = _part("about", value={"name": models[0], **told[models[0]]})
                task = gr.Radio(value=tasks[-1], label="Task", elem_id="task", **_tasks(tasks))
                start = _threshold(answerer, models[0], tasks[-1])
                threshold = gr.Slider(0, 1, step=0.01, label="Confidence threshold", **start)
            with gr.Column(scale=4, min_width=300):
                viewer = _part("viewer", scripts=VIEWER, samples=samples, first=models[0])

        def offer(model: str, task: str) -> tuple[Any, Any, Any]:
            """The tasks of this model, the threshold that the task begins with, and what the model is."""
            tasks = answerer.tasks(model)
            task = task if task in tasks else tasks[-1]
            slider = gr.Slider(**_threshold(answerer, model, task))
            return gr.Radio(value=task, **_tasks(tasks)), slider, {"name": model, **told[model]}

        def stop(event: gr.EventData) -> None:
            sent = event._data  # whatever the request holds; of the page, its ticket
            answerer.stop(sent.get("ticket") if isinstance(sent, dict) else None)

        unlisted: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        quick = {"concurrency_limit": None, **unlisted}
        for choice in (model, task):
            choice.input(offer, [model, task], [task, threshold, facts], **quick).then(None, js=_ask("choice"))
        threshold.input(None, js=_ask("threshold"))
        question = {"concurrency_id": "model", "concurrency_limit": 1, "trigger_mode": "always_last", **unlisted}
        inputs, code = [picker, model, task, threshold], _text("question.js")
        asked = picker.submit(answerer.answer, inputs, viewer, js=code, **question)
        asked.failure(None, js="() => document.dispatchEvent(new CustomEvent('page:failed'))")
        viewer.stop(stop, **quick)
    return page


def _ask(why: str) -> str:
    """JavaScript by which page/picker.js puts its file to the model again."""
    return f"() => document.dispatchEvent(new CustomEvent('page:again', {{ detail: '{why}' }}))"


def _tasks(tasks: list[str]) -> dict[str, Any]:
    return {"choices": [(f"{task}: {TASK_WORDS[task]}", task) for task in tasks]}


def _threshold(answerer: Answerer, model: str, task: str) -> dict[str, Any]:
    start = answerer.default_threshold(model, task)
    reason = {"semantic": "each pixel gets its best class", "instance": "usual for things"}
    why = reason.get(task, "the model's own value")
    return {"value": start, "info": f"Lower scores are left out. {task.capitalize()} begins at {start:g}: {why}."}


def _part(name: str, *, scripts: Sequence[str] = (), **props: Any) -> gr.HTML:
    """A part of the page from page/NAME.html and page/NAME.js, or the `scripts`, one after the other."""
    code = "\n".join(_text(script) for script in scripts or [f"{name}.js"])
    value = props.pop("value", None)
    html = _text(f"{name}.html")
    return gr.HTML(value, html_template=html, js_on_load=code, elem_id=name, apply_default_css=False, **props)


def _text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def build_app(answerer: Answerer, max_waiting: int, sample: dict[str, str] | None = None) -> Gate:
    """What uvicorn serves: the page behind its gate."""
    page = build_page(answerer, sample).queue(max_size=max_waiting, api_open=False)
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=PAGE / "style.css",
        head_paths=PAGE / "head.html",  # of gradio's own parts, which css_paths does not reach
    )
    return Gate(app, answerer.limits.max_request)


def parse_args(argv: Sequence[str] | None = None, prog: str = "web.py") -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        *("--config-file", "--config"),
        metavar="F",
        action="append",
        default=[],
        help="one for each model (default: the one of `make demo`)",
    )
    add_import_option(parser)
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        help="one for each --config-file, in their order (default: those of the run that wrote it)",
    )
    parser.add_argument("--sample", type=Path, metavar="FILE", help="the picture that the page offers to try")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the configuration's)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: all of this machine's (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    for name, meaning in LIMITS.items():
        value = getattr(Limits(), name)
        text = f"{meaning} (default: {value})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, metavar="N", help=text)
    parser.add_argument(
        "--max-waiting", type=int, default=40, metavar="N", help="questions in the queue (default: %(default)s)"
    )
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="overrides")
    args = parser.parse_args(argv)
    if args.weights and len(args.config_file) != len(args.weights):
        parser.error(f"{len(args.config_file)} --config-file and {len(args.weights)} --weights: give each its own")
    for name in (*LIMITS, "max_waiting"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}, but must be positive")
    if not 0 <= args.port <= 65535:
        parser.error(f"--port is {args.port}, but must lie in [0, 65535]")
    return args


def check_pictures(cfg: CfgNode, name: str) -> None:
    """Raise ValueError unless the model `name` takes what the page sends, which are pictures in color."""
    if cfg.INPUT.FORMAT not in PLAIN:
        raise ValueError(
            f"{name}: INPUT.FORMAT is {cfg.INPUT.FORMAT!r}, but must be {' or '.join(PLAIN)}, as the page sends no "
            "further channels; demo/demo.py reads them"
        )


def load_predictors(args: argparse.Namespace) -> dict[str, Predictor]:
    """Name of the model -> model."""
    if not args.config_file:
        cfg = configure(None, args.opts, device=args.device)
        tqdm.write(demo_model_notice())
        return {"demo": Predictor(cfg)}
    predictors: dict[str, Predictor] = {}
    for config_file, weights in zip_longest(args.config_file, args.weights):
        named = [] if weights is None else ["MODEL.WEIGHTS", weights]
        cfg = configure(config_file, [*named, *args.opts], device=args.device)
        check_pictures(cfg, config_file)
        path = Path(config_file).resolve()
        name = path.parent.name if path.stem == "config" else path.stem  # training writes config.yaml into its folder
        predictors[free_name(name, set(predictors))] = Predictor(cfg)
    return predictors


def main(argv: Sequence[str] | None = None, prog: str = "web.py") -> int:
    """Serves until it is interrupted. Returns the exit code: 0, or 2 if nothing could be started."""
    args = parse_args(argv, prog)
    try:
        import_own_files(args.imports)
        predictors = load_predictors(args)
        sample = None if args.sample is None else own_sample(args.sample)
    except (ValueError, OSError, ImportError) as error:
        tell_mistake(prog, error)
        return 2
    limits = Limits(**{name: getattr(args, name) for name in LIMITS})
    app = build_app(Answerer(predictors, limits), args.max_waiting, sample)
    tqdm.write(f"web page: http://{args.host}:{args.port} (model: {', '.join(predictors)}; Ctrl-C ends it)")
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning")
    return 0
