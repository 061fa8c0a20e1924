"""The card of a model that is given away: data, recipe, seeds, cost, scores, limits, licence.

Facts come from what the training and the runs left (`hybrid.json`, the stages' manifests, records); a person adds only
`Words`: what the sources are, what the model is not good for, under what licence it may be used.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.reports.errors import RecordError
from harness.reports.markdown import table
from harness.reports.records.exposure import KINDS, Exposure
from harness.reports.records.labels import name_of
from harness.reports.records.records import Record

SECTIONS = ("Data", "Recipe", "Seeds", "Cost", "Scores", "Limits", "Licence")
_METRICS = ("NDCG@10", "MRR@10", "R@100")
_PAPER = {"layers": 12, "hidden": 768, "vocabulary": 30_522}
# of a stage's settings those that change nothing but how often something is written
_ASIDE = ("kind", "log_every", "save_every", "validate_every", "micro_batch", "chunk")
_PATH = re.compile(r"(?:^|[\s`'\"(=\[:])(/[\w.-]+/[^\s`'\")\]]*)", re.MULTILINE)


class Words(BaseModel):
    """What no file of the training says. `sources`: {the beginning of a corpus's or collection's name: what it is}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1)
    summary: str = Field(min_length=1)
    sources: dict[str, str] = Field(min_length=1)
    limits: tuple[str, ...] = Field(min_length=1)
    licence: str = Field(min_length=1)  # its SPDX identifier
    licence_words: str = ""
    language: str = "en"


@dataclass(frozen=True)
class Facts:
    """What the files say: `spec` is hybrid.json's, `model` layers, H and V, `stages` the manifests in their order."""

    spec: Mapping[str, Any]
    model: Mapping[str, int]
    stages: Sequence[Mapping[str, Any]]
    content_hash: str
    megabytes: float


def read_words(path: Path) -> Words:
    """The words in a YAML file. Raises RecordError for one that cannot be read, or lacks or mistakes a field."""
    try:
        return Words.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {one['msg']}" for one in error.errors())
        raise RecordError(f"{path}: {wrong}. It wants {', '.join(Words.model_fields)}.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecordError(f"{path} is not a readable YAML file ({' '.join(str(error).split())[:200]}).") from error


def write(facts: Facts, words: Words, records: Sequence[Record], seen: Mapping[str, Exposure]) -> str:
    """The card, in Markdown with the header that the Hugging Face hub reads; `seen`: what training saw of a collection.

    Raises RecordError for a corpus or collection that no source of `words` is of, records of which none is of these
    weights, or a path of this machine in the text.
    """
    parts = {
        "Data": _data(facts, words),
        "Recipe": _recipe(facts),
        "Seeds": _seeds(facts),
        "Cost": _cost(facts),
        "Scores": _scores(facts, words, records, seen),
        "Limits": _limits(facts, words),
        "Licence": [f"{words.licence}. {words.licence_words}".strip()],
    }
    head = [
        "---",
        f"license: {words.licence.lower()}",
        f"language: {words.language}",
        "library_name: dupmae-harness",
        "pipeline_tag: sentence-similarity",
        "---",
        "",
        f"# {words.title}",
        "",
        words.summary,
        "",
        f"{_sizes(facts.model)}; a document is {_width(facts)}; {facts.megabytes:.1f} MB on disk. Content hash "
        f"`{facts.content_hash}`.",
    ]
    body = [line for name in SECTIONS for line in ("", f"## {name}", "", *parts[name])]
    text = "\n".join([*head, *body]) + "\n"
    if found := _PATH.search(text):
        raise RecordError(
            f"the card would name {found[1]}, a path of this machine. Name corpora and collections relative to the "
            "recipe's root, and leave paths out of the words."
        )
    return text


def _sizes(model: Mapping[str, int]) -> str:
    return f"{model['layers']} layers, H {model['hidden']:,}, V {model['vocabulary']:,}"


def _width(facts: Facts) -> str:
    dense, lexical = facts.spec["dense"], facts.spec["lexical"]
    halves = (f"{dense} values" if dense else "", f"{lexical} terms" if lexical else "")
    return " and ".join(half for half in halves if half)


def _data(facts: Facts, words: Words) -> list[str]:
    trained, lines, absent = facts.spec.get("trained", {}), [], []
    for label, key in (("Pre-trained on", "pretrained_on"), ("Fine-tuned on", "finetuned_on")):
        for name in trained.get(key, ()):
            known = [start for start in words.sources if name.startswith(start)]
            if not known:
                absent.append(name)
                continue
            lines.append(f"- {label} `{name}`: {words.sources[max(known, key=len)]}")
    if absent:
        raise RecordError(
            f"sources: nothing says what {', '.join(absent)} is. Give each a line, by how its name begins."
        )
    if not lines:
        raise RecordError("the checkpoint does not say what it was trained on, so it can have no card.")
    counts = [
        f"{stage['name']}: {stage[key]:,} {key}{_read(stage)}"
        for stage in facts.stages
        for key in ("texts", "queries")
        if key in stage
    ]
    return [*lines, "", f"There for each stage, and read of it: {'; '.join(counts)}."] if counts else lines


def _read(stage: Mapping[str, Any]) -> str:
    """Steps times batch: a text counts again where it was read again."""
    batch = stage.get("decides", {}).get("stage", {}).get("batch")
    return f", {stage['steps'] * batch:,} read" if batch and "steps" in stage else ""


def _recipe(facts: Facts) -> list[str]:
    names = list(dict.fromkeys(str(stage["recipe"]) for stage in facts.stages if "recipe" in stage))
    commits = list(dict.fromkeys(str(stage["git_commit"]) for stage in facts.stages if stage.get("git_commit")))
    rows = []
    for stage in facts.stages:
        if "kind" not in stage:
            continue
        settings = stage.get("decides", {}).get("stage", {})
        shown = [f"{name} {_value(value)}" for name, value in settings.items() if name not in _ASIDE and _told(value)]
        rows.append([stage["name"], stage["kind"], ", ".join(shown), str(stage.get("steps", ""))])
    made = f"`harness train --recipe {'`, `'.join(names)}`" + (f", commit {', '.join(commits)}" if commits else "")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts.stages[-1].get("packages", {}).items()))
    final = {name: facts.spec.get(name) for name in ("temperature", "lexical_scale", "query_length", "passage_length")}
    return [
        f"{made}; what each setting is for: docs/training.md.",
        "",
        table(("stage", "kind", "settings", "steps"), rows),
        f"It came to {', '.join(f'{name} {_value(value)}' for name, value in final.items())}.",
        "",
        f"Packages of the last stage: {versions}.",
    ]


def _told(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(_value(inner)) for inner in value.values() if _told(inner))
    if isinstance(value, list):
        return " + ".join(str(one.get("name", one)) if isinstance(one, dict) else str(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _seeds(facts: Facts) -> list[str]:
    seeds = sorted({stage["decides"]["seed"] for stage in facts.stages if "seed" in stage.get("decides", {})})
    if len(seeds) != 1:
        return [f"Seeds of the stages: {', '.join(map(str, seeds)) or 'the manifests name none'}."]
    return [
        f"Seed {seeds[0]}, in every stage. These weights are one training: how far another seed's would be from them "
        "is not in the scores below."
    ]


def _cost(facts: Facts) -> list[str]:
    rows = []
    timed = [stage for stage in facts.stages if "seconds" in stage]
    for stage in timed:
        memory = stage.get("peak_gpu_memory_bytes") or stage.get("peak_memory_bytes") or 0
        kind = " (GPU)" if stage.get("peak_gpu_memory_bytes") else ""
        device = f"{stage.get('device', '')}, {_hardware(stage)}"
        rows.append([stage["name"], f"{stage['seconds']:,.0f}", device, f"{memory / 2**30:.1f}{kind}"])
    total = sum(stage["seconds"] for stage in timed)
    return [
        table(("stage", "seconds", "device", "peak memory, GiB"), rows),
        f"{total:,.0f} s in all ({total / 3600:.1f} h), as the stages' own processes counted them: what a killed "
        "process had done before it was resumed is not in it.",
    ]


def _hardware(stage: Mapping[str, Any]) -> str:
    found = stage.get("hardware", {})
    gpu = found.get("gpu")
    return f"{found.get('processor', '')}, {found.get('threads', '?')} threads" + (f", {gpu}" if gpu else "")


def _scores(facts: Facts, words: Words, records: Sequence[Record], seen: Mapping[str, Exposure]) -> list[str]:
    ours = [record for record in records if record.manifest.system.checkpoint_hash == facts.content_hash]
    if not ours:
        raise RecordError(
            f"none of the {len(records)} records is of these weights (content hash {facts.content_hash[:12]}). Run the "
            "folder that the card is of, and name those records."
        )
    metrics = [metric for metric in _METRICS if all(metric in record.metrics for record in records)]
    if not metrics:
        raise RecordError(f"the records have none of {', '.join(_METRICS)} in common. Run them with these metrics.")
    kinds = {name: seen.get(name, Exposure()) for name in sorted({record.manifest.data.name for record in records})}
    order = sorted(kinds, key=lambda name: (*KINDS, "").index(kinds[name].kind))
    rows = []
    for record in sorted(records, key=lambda one: order.index(one.manifest.data.name)):
        name, system = record.manifest.data.name, record.manifest.system
        label = words.title if record in ours else name_of(system)
        label += f" ({system.variant})" if system.variant else ""
        label = f"**{label}**" if record in ours else label
        values = (f"{record.metrics[metric]:.4f}" for metric in metrics)
        rows.append([name, kinds[name].kind or "not compared", label, *values])
    return [
        table(("collection", "", "system", *metrics), rows),
        "Bold: these weights. Each figure is that of a record of `harness run`. What training saw of a collection was "
        "told from the texts, word for word but for case and space:",
        "",
        *(f"- {name}: {kinds[name].kind or 'not compared'}; {kinds[name].note or 'nobody looked'}." for name in order),
    ]


def _limits(facts: Facts, words: Words) -> list[str]:
    sizes, spec = facts.model, facts.spec
    small = sizes["layers"] < _PAPER["layers"] or sizes["hidden"] < _PAPER["hidden"]
    cells = "In Tables 1 to 3 its cells are always `not comparable`." if small else "`harness table` compares the two."
    return [
        f"- It is not the paper's model. This one has {_sizes(sizes)}; the paper's {_sizes(_PAPER)}. {cells}",
        f"- A passage is cut after {spec['passage_length']} tokens, a query after {spec['query_length']}.",
        *(f"- {limit}" for limit in words.limits),
    ]
