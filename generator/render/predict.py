"""predict.py of a package: the view of its template, and the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from generator.ir.job import Job
from generator.ir.ops import merges
from generator.ir.plans import FeaturePlan, ImagePlan, TextPlan
from generator.render import calibrate, data, deploy
from generator.render.text import fill, listed, prose

LINE = 84  # characters of a line in a docstring
TABLES = {"csv": "CSV", "parquet": "Parquet", "tsv": "TSV"}


@dataclass(frozen=True)
class PredictView:
    """All that predict.py.j2 and its partials read. Strings of code are marked as such."""

    name: str
    program: str
    weights: str
    answers: str  # prose
    things: str  # prose: texts, pairs or images
    thing: str
    example: str  # code: a call
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    regression: bool
    multi_label: bool
    outputs: str  # code: how many numbers a row gets
    activation: str  # code
    calibrated: bool  # calibrate.py says how logits become answers
    temperature: bool
    thresholds: str  # "one" of two labels, one for each of "labels", or ""
    threshold: bool  # the caller gives one
    images: bool
    text_type: str  # code
    bare: bool  # the tokenizer adds no tokens, so that a text may have none
    cleaned: str  # code: a row's `text` as training has it
    features: bool  # the head reads what features.py makes
    raw_of: str  # code: what reads that of a record
    merges: bool  # there are adapters to merge into the weights
    deployed: bool  # another model than the trained one answers
    casts: bool  # its answers are in bfloat16
    load: str  # code: what loads it
    model: str  # prose: which model answers
    writer: str  # prose: what wrote its weights
    where: str  # code: the rows of a batch
    batch_doc: str
    batch_help: str
    cuda: bool
    plans: bool  # rows of many lengths in 16 bits, which cuDNN's attention would take
    half: str  # code: the type that autocast computes in; "" where it does not
    autocast: str  # code: the kind of device
    home: str  # code: back from the device
    readers: str  # code: by ending, where there is more than one
    tables: str  # prose: formats beside JSON lines
    endings: str  # prose
    own_csv: bool  # data.py has no reader of CSV
    own_json: bool  # data.py has no reader of JSON
    columns: str  # code
    rows: int  # of a CSV file at a time
    bytes: str  # code: of JSON lines at a time


def render(job: Job) -> str:
    """The source of predict.py, not yet formatted."""
    return fill("predict.py.j2", predict_view(job))


def predict_view(job: Job) -> PredictView:
    inputs = job.data.inputs
    images = isinstance(inputs, ImagePlan)
    pair = isinstance(inputs, TextPlan) and len(inputs.columns) == 2
    regression, multi = job.task == "regression", job.task == "multi-label"
    cuda = job.target.device == "cuda"
    tables = ["csv", *(x for x in ("parquet", "tsv") if x in job.data.formats)]
    words = [TABLES[table] for table in tables]
    deployed, casts = deploy.asked(job), job.deploy.precision == "bf16"
    load = "load_deployed" if deployed else "load_trained"
    weights = "deployed.safetensors" if deployed else "model.safetensors"
    by_tokens, beside = not job.train.batch, job.data.features != FeaturePlan()
    activation = "" if regression else ".sigmoid()" if multi else ".softmax(1)"
    view = PredictView(
        name=job.name,
        program=f"python -m {job.name}.predict",
        weights=f"runs/{job.name}/{weights}",
        answers="Values" if regression else "Labels and probabilities",
        things="images" if images else "pairs of texts" if pair else "text",
        thing="pair" if pair else "text",
        example=example(job),
        imports=(),
        regression=regression,
        multi_label=multi,
        outputs="len(TARGETS)" if regression else "len(LABELS)",
        activation=(".float()" if casts else "") + activation,
        calibrated=calibrate.asked(job),
        temperature=job.deploy.temperature,
        thresholds=calibrate.thresholds(job),
        threshold=multi and not calibrate.thresholds(job),
        images=images,
        text_type="tuple[str, str]" if pair else "str",
        bare=isinstance(inputs, TextPlan) and inputs.bare,
        cleaned=data.clean_text(job.data),
        features=beside,
        raw_of=data.raw_of(job.data),
        merges=merges(job.model),
        deployed=deployed,
        casts=casts,
        load=load,
        model="deployed" if deployed else "trained",
        writer="deploy.py" if deployed else "training",
        where="i : i + self.batch" if images and not beside else "rows",
        batch_doc=(
            "`batch` is how many tokens at once"
            if by_tokens
            else "`batch` is how many rows at once"
        ),
        batch_help="tokens at once, padding included" if by_tokens else "rows at once",
        cuda=cuda,
        plans=cuda and job.target.half != "" and not (images or casts),
        half="" if casts else job.target.half,
        autocast="self.device.type" if cuda else '"cpu"',
        home=".cpu()" if cuda else "",
        readers=_readers(tables) if len(tables) > 1 else "",
        tables=listed(words, "or"),
        endings="a " + listed([f".{table}" for table in tables], "or"),
        own_csv="csv" not in job.data.formats,
        own_json="jsonl" not in job.data.formats,
        columns=_columns(job),
        rows=128 if images else 1024,
        bytes="1 << 13" if images else "1 << 18",
    )
    body = fill("partials/predict_body.j2", view)
    beside = {name: (data.OWN, "from .data") for name in data.names(job)}
    if view.features:
        beside |= data.FEATURES
    if view.calibrated:
        beside |= calibrate.IMPORT
    beside["merge"] = (data.OWN, "from .model")
    beside["load_deployed"] = (data.OWN, "from .deploy")
    return replace(view, imports=data.imports(body, beside))


def _readers(tables: Sequence[str]) -> str:
    """Code: the reader of each ending."""
    return "{" + ", ".join(f'".{table}": {table}_records' for table in tables) + "}"


def _columns(job: Job) -> str:
    """Code: the columns that a file of rows has."""
    pair = len(job.data.texts) == 2
    own = "IMAGE" if not job.data.texts else "*TEXTS" if pair else "TEXT"
    if job.data.features.columns:
        return f"({own}, *features.COLUMNS)"
    return "TEXTS" if pair else f"({own},)"


def example(job: Job) -> str:
    """Code: a call. Names of columns stand in it where they are few and plain."""
    plan = job.data.inputs
    if job.data.features == FeaturePlan():
        texts = {0: '"a.jpg"', 1: '"a text"', 2: '("a text", "another")'}
        return f"Predictor().predict([{texts[len(job.data.texts)]}])"
    columns = plan.columns if isinstance(plan, TextPlan) else (plan.column,)
    every = (*columns, *job.data.features.columns)
    row = ", ".join(f"'{column}': ..." for column in every)
    call = f"Predictor().predict([{{{row}}}])"
    plain = all(column == prose(column) and "'" not in column for column in every)
    if plain and len(call) <= LINE:
        return call
    own = {0: "IMAGE", 1: "TEXT", 2: "TEXTS"}[len(job.data.texts)]
    return f"Predictor().predict(rows)  # dicts of {own} and features.COLUMNS"
