"""``lntune ask``: questions of one's own to tuned models, on the terminal or a page of the browser on this machine.

A model is loaded and asked by the code of the stage predict, so a benchmark's question gets the answer that is scored.
"""

import html
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lntune.config.protocol import Prompting
from lntune.data.images import ImageError, decode
from lntune.data.samples import Question
from lntune.errors import UserError
from lntune.model.chat import layout
from lntune.model.prompts import Turn, render_prompt
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import PredictJob, predict_job, predictions
from lntune.stages import predict
from lntune.stages.asked import seed_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from lntune.model.multimodal import MultimodalModel

LONGEST = 128
"""Tokens of an answer, where no benchmark says how many."""

_LARGEST_REQUEST = 32 << 20


@dataclass
class Asked:
    """A tuned model that has been loaded, and how it is asked."""

    title: str
    job: PredictJob
    model: "MultimodalModel"
    tokenizer: "PreTrainedTokenizerFast"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, picture: bytes, question: str, before: Sequence[tuple[str, str]] = ()) -> str:
        """The answer to a question about a picture, a file's bytes; ``before`` are earlier questions and answers.

        UserError if the picture cannot be used, or if no model can be asked the question.
        """
        from lntune.model.device import numerics
        from lntune.model.encode import encode_prompt
        from lntune.model.features import BlindFeatures, EncodedImages
        from lntune.model.prefix_cache import Prompt

        settings, encoder = self.job.settings, self.model.vision
        try:
            pixels = encoder.preprocess(decode(picture))
        except ImageError as defect:
            raise UserError(f"the picture is not a readable image ({defect})") from None
        asked = [Question("asked", "picture", text) for text in (*(text for text, _ in before), question)]
        turns = settings.turns(asked[0])
        for (_, answered), following in zip(before, asked[1:], strict=True):
            text = settings.prompting.prompt.format(question=following.text.strip())
            turns += [Turn("assistant", answered), Turn("user", text)]
        template = layout(settings.template, self.tokenizer)
        rendered = render_prompt(template, turns, system=settings.system)
        features = EncodedImages(encoder, lambda index: pixels, 1, cache=False)
        source = BlindFeatures(encoder.tokens, encoder.width) if settings.blind else features
        with self.lock, numerics(self.job.execution.threads, "fp32"):
            prompts = [Prompt(encode_prompt(self.tokenizer, rendered), 0)]
            seeds = [seed_of(asked[-1], settings.seed)]
            (answered,) = predict.answer(
                settings, self.model, self.tokenizer, prompts, source, stop=template.stop, seeds=seeds, batch_size=1
            )
        return answered


def load_models(
    root: Path, rows: Sequence[str], benchmark: str = "", overrides: Mapping[str, Any] | None = None
) -> list[Asked]:
    """The models of rows, each "TABLE ROW", of the first seed; ``benchmark``, a column, says how they are asked.

    Without it a question is put as it is. UserError if a row has no model, or its table no such column.
    """
    plan = Plan(Study.read(root, overrides))
    found = []
    for row in rows:
        _, shown, by_column = predictions(plan, row)
        if benchmark and benchmark not in by_column:
            raise UserError(f"--benchmark {benchmark}: is no such column; there are {', '.join(by_column)}")
        node = by_column[benchmark] if benchmark else next(iter(by_column.values()))
        job = replace(predict_job(plan, node), label=shown.name)
        if not benchmark:
            free = job.settings.model_copy(update={"prompting": Prompting(max_new_tokens=LONGEST)})
            job = replace(job, settings=free)
        found.append(load_model(job))
    return found


def load_model(job: PredictJob) -> Asked:
    """The model that a predict job asks."""
    from lntune.data.samples import read_questions
    from lntune.stages.tuned_model import load

    archive, _ = read_questions(job.folder("questions"))
    model, tokenizer, _, _ = load(job, archive, [], job.settings.precision)
    return Asked(job.label, job, model, tokenizer)


def ask(models: Sequence[Asked], picture: Path, question: str = "") -> None:
    """Print each model's answer to a question about a picture; without one, go on asking until an empty line."""
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise UserError(f"{picture}: {error.strerror}") from None
    before: list[list[tuple[str, str]]] = [[] for _ in models]
    while asked := question or _typed():
        for model, said in zip(models, before, strict=True):
            answered = model.answer(content, asked, said)
            said.append((asked, answered))
            print(f"{model.title}: {answered}" if len(models) > 1 else answered, flush=True)
        if question:
            break


def _typed() -> str:
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


# --- the page --------------------------------------------------------------------------------------------------------

_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lntune ask</title>
<style>body {{ font: 16px sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
img {{ max-width: 20em; max-height: 20em }} td, th {{ text-align: left; padding: .3em 1em .3em 0; vertical-align: top }}
</style></head><body><h1>lntune ask</h1>
<form method="post" enctype="multipart/form-data">
<p><label>Picture <input type="file" name="picture" accept="image/*"{required}></label>
<input type="hidden" name="earlier" value="{earlier}"></p>
<p><label>Question <input name="question" size="60" value="{question}" required autofocus></label>
<button>Ask</button></p></form>
{shown}<table><tr><th>model</th><th>answer</th></tr>
{rows}
</table></body></html>
"""


def page_server(models: Sequence[Asked], port: int) -> ThreadingHTTPServer:
    """The server of the page, on 127.0.0.1 alone; UserError if the port is taken."""

    class Page(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/" and self._is_ours():
                self._send(200, _page(models))
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not self._is_ours() or not length.isdecimal() or int(length) > _LARGEST_REQUEST:
                self.send_error(400)
                return
            fields = _fields(self.headers.get("Content-Type", ""), self.rfile.read(int(length)))
            picture, question = fields.get("picture", b"") or fields.get("earlier", b""), fields.get("question", b"")
            self._send(200, _page(models, picture, question.decode("utf-8", "replace").strip()))

        def _is_ours(self) -> bool:
            """Whether a browser asks for this address, not for another site's that leads here."""
            ours = {f"{name}:{self.connection.getsockname()[1]}" for name in ("127.0.0.1", "localhost")}
            origin = self.headers.get("Origin", "").removeprefix("http://")
            return self.headers.get("Host") in ours and origin in {"", *ours}

        def _send(self, code: int, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'unsafe-inline'")
            self.end_headers()
            self.wfile.write(body)

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Page)
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}; choose another with --port") from None


def serve_page(models: Sequence[Asked], port: int) -> None:
    """Serve the page until Ctrl-C."""
    with page_server(models, port) as server:
        print(f"http://127.0.0.1:{server.server_port} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(file=sys.stderr)


def _fields(kind: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form that a browser sent as multipart/form-data."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + body)
    found = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        content = part.get_payload(decode=True)
        found[str(part.get_param("name", "", "content-disposition"))] = content if isinstance(content, bytes) else b""
    return found


def _page(models: Sequence[Asked], picture: bytes = b"", question: str = "") -> str:
    """The page, with each model's answer if a picture and a question are given; all of it from elsewhere is escaped."""
    if picture.startswith(b"data:"):  # that of the question before
        picture = b64decode(picture.partition(b",")[2])
    rows, shown = [], ""
    for model in models:
        answered = ""
        if picture and question:
            try:
                answered = model.answer(picture, question) or "(nothing)"
            except UserError as error:
                answered = f"error: {error}"
        rows.append(f"<tr><td>{html.escape(model.title)}</td><td>{html.escape(answered)}</td></tr>")
    data = "data:;base64," + b64encode(picture).decode() if picture else ""
    if picture and question:
        shown = f'<p><img src="{data}" alt="the picture"></p><p>{html.escape(question)}</p>'
    return _PAGE.format(
        required="" if picture else " required", earlier=data, question=html.escape(question), shown=shown,
        rows="\n".join(rows),
    )  # fmt: skip
