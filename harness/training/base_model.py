"""What a recipe starts from: a checkpoint, or a model and a WordPiece vocabulary made from its own corpora."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from harness.models.checkpoints import checkpoint, hub, layouts
from harness.models.checkpoints.weights import positions
from harness.models.errors import CheckpointError, NoLexicalHalfError, first_line
from harness.models.hybrid import HybridSpec
from harness.retrievers.errors import InputError
from harness.training.recipe import Base
from harness.training.student import special_ids

_ENOUGH = 200_000  # texts to count words by
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def prepare(base: Base, folder: Path, texts: Iterable[str], seed: int, keep: bool = False) -> None:
    """Write the model that the first stage starts from into `folder`.

    With `keep` a checkpoint stays what it is: pooling, projection, prefixes, similarity, temperature and scale are
    those of its files. Else it is a masked-LM to pre-train, which keeps pooling, prefixes and similarity alone.

    Raises InputError for a `model` that BertConfig refuses; CheckpointError for a checkpoint that is no masked-LM, or
    with `keep` for one that cannot be fine-tuned.
    """
    if base.checkpoint is not None:
        source = hub.locate(base.checkpoint)
        if keep:
            _as_it_is(source, folder)
            return
        loaded = load_masked_lm(source)
        before = says(source)
        kept = ("pooling", "similarity", "query_prefix", "passage_prefix")
        spec = HybridSpec(**{name: getattr(before, name) for name in kept}, trained=before.learned)
        checkpoint.save(folder, loaded[0], loaded[1], spec)
        return
    import torch
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = _tokenizer(texts, base.vocabulary)
    try:
        config = BertConfig(**{"vocab_size": len(tokenizer), **(base.model or {})})
        torch.manual_seed(seed)
        model = BertForMaskedLM(config)
    except Exception as error:  # BertConfig checks little; the layers then fail each in its own way
        raise InputError(f"base.model does not make a BERT ({type(error).__name__}: {first_line(error)}).") from error
    checkpoint.save(folder, model, tokenizer, HybridSpec())


def _as_it_is(source: Path, folder: Path) -> None:
    """Write an encoder of any family and layout in ours. Raises CheckpointError where it cannot be fine-tuned."""
    layout = layouts.read(source)
    spec = layout.spec()
    if spec.lexical and spec.lexical_pooling != "max":
        raise CheckpointError(
            f"{source} makes its lexical half by the {spec.lexical_pooling} over a text's tokens; fine-tuning is "
            "written for the maximum (equation 7). Name another base.checkpoint."
        )
    most = positions(checkpoint.parts(layout.backbone)[0])  # a stage says how long its texts are
    spec = spec.replace(query_length=min(spec.query_length, most), passage_length=min(spec.passage_length, most))
    try:
        loaded = checkpoint.load(source, spec.replace(lexical=max(1, spec.lexical)))
    except NoLexicalHalfError:
        if spec.lexical:
            raise
        loaded = checkpoint.load(source, spec)
    special_ids(loaded.tokenizer, source)
    kept = spec.replace(dense=loaded.spec.dense, trained=spec.learned)
    checkpoint.save(folder, loaded.model.float(), loaded.tokenizer, kept, loaded.encoder.projection)


def says(source: Path) -> HybridSpec:
    """What a checkpoint's own files say of its vectors, of whatever layout."""
    return layouts.read(source).spec()


def load_masked_lm(folder: Path) -> tuple[Any, Any]:
    """A masked-LM model and its tokenizer. Raises CheckpointError for a folder without a head or a tokenizer."""
    # of the head and what is below it: a projection of the dense half is the fine-tuning's, and stays behind
    try:
        loaded = checkpoint.load(folder, HybridSpec(dense=0, lexical=1, query_length=3, passage_length=3))
    except NoLexicalHalfError as error:
        raise CheckpointError(
            f"{folder} has no masked-LM head, and pre-training begins with one ({first_line(error)}). Name a "
            "checkpoint that has it, or leave the pre-training stages out."
        ) from error
    return loaded.model.float(), loaded.tokenizer


def _tokenizer(texts: Iterable[str], size: int) -> Any:
    """An uncased WordPiece tokenizer trained on `texts`, as BERT's was on its own; the same for the same texts.

    The trainer numbers letters in the order of a hash map, which differs from run to run and decides ties. So it is
    given all letters in a fixed order, as if they were special; the tokenizer is then made anew from its vocabulary.
    """
    from tokenizers import Tokenizer, models, trainers

    texts = list(islice(texts, _ENOUGH))
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    _as_bert(core)
    letters = _letters(core.normalizer, texts, min(1_000, max(64, size // 16)))
    fixed = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters if _goes_on(core, letter))]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=fixed,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    made = Tokenizer(models.WordPiece(core.get_vocab(with_added_tokens=True), unk_token="[UNK]"))
    _as_bert(made)
    return _wrapped(made)


def _letters(normalizer: Any, texts: list[str], most: int) -> list[str]:
    """The most frequent characters, in a fixed order."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    found = [letter for letter in counts if not letter.isspace()]
    return sorted(sorted(found, key=lambda letter: (-counts[letter], letter))[:most])


def _goes_on(core: Any, letter: str) -> bool:
    """Whether `letter` can stand inside a word; punctuation and Chinese characters are words of their own."""
    return len(core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(f"a{letter}"))) == 1


def _as_bert(core: Any) -> None:
    from tokenizers import decoders, normalizers, pre_tokenizers

    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()


def _wrapped(core: Any) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    ids = [(name, core.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=inputs, **names)
