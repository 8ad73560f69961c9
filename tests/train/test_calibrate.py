import functools
import json
import random

import pytest
import torch

from hebench.config import build
from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.train import calibrate, device
from hebench.train.calibrate import CalibrateConfig, training_passages
from hebench.train.checkpoints import read_checkpoint
from hebench.train.embeddings import grown, initial_rows, new_pieces, untie
from hebench.train.frozen import open_model, open_tokenizer
from hebench.train.measure import padded
from hebench.train.tables import Tables
from tests.train.grown_tokenizers import extend

WORDS = ["הילדה", "קוראת", "ספר", "בגן", "ליד", "הבית", "הגדול", "בבוקר", "הכלב", "ישן"]
QUICK = {
    "shares": {"he": 0.75, "en": 0.25},
    "passages": 40,
    "passage_words": 6,
    "heldout_words": 40,
    "learning_rate": 3e-3,
    "threads": 1,
}


def write_corpus(folder):
    """Write text of two languages to train on and to measure; return `folder`."""
    generator = random.Random(0)
    english = ["the", "old", "ferry", "left", "harbour"]
    for part in ("train", "heldout"):
        for code, words in (("he", WORDS), ("en", english)):
            path = folder / part / code / "news.jsonl"
            path.parent.mkdir(parents=True)
            texts = [" ".join(generator.choices(words, k=18)) for _ in range(12)]
            lines = [json.dumps({"text": text}) for text in texts]
            path.write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("calibrate"))


@pytest.fixture(scope="module")
def model(tiny_tokenizer, tiny_model_folder, tmp_path_factory):
    """A model with a grown vocabulary, as distillation leaves it."""
    folder = tmp_path_factory.mktemp("grown")
    longer, _ = extend(tiny_tokenizer, [f" {word}" for word in WORDS])
    network = open_model(tiny_model_folder(folder / "base", tied=True), "fp32")
    pieces = new_pieces(tiny_tokenizer, longer, rows=len(tiny_tokenizer))
    rows = initial_rows(network.get_input_embeddings().weight, pieces)
    grown(network, rows, rows).save_pretrained(folder / "model")
    longer.save_pretrained(folder / "model")
    return folder / "model"


def config(**changes):
    return CalibrateConfig(**QUICK | {"steps": 30} | changes)


def test_both_languages_get_better_and_the_body_keeps_its_bits(model, corpus, tmp_path):
    record = calibrate.run(config(), model=model, corpus=corpus, out=tmp_path / "out")
    before, after = open_model(model, "fp32"), open_model(tmp_path / "out" / "model", "fp32")
    trained = {"model.embed_tokens.weight", "lm_head.weight"}
    for name, weights in before.state_dict().items():
        assert torch.equal(weights, after.state_dict()[name]) == (name not in trained), name
    for code in ("he", "en"):
        assert (
            record.metrics[f"bits_per_byte.{code}"] < record.metrics[f"bits_per_byte_before.{code}"]
        )
    assert record.metrics["steps"] == 30
    assert record.metrics["training_tokens"] > 0
    found = read_checkpoint(tmp_path / "out" / "model")
    assert (found.stage, found.tokens) == ("calibrate", record.metrics["training_tokens"])
    assert not (tmp_path / "out" / "progress.pt").exists()


def test_a_base_model_is_calibrated_by_the_same_code_on_the_same_texts(
    model, corpus, tmp_path, tiny_model_folder
):
    base = tiny_model_folder(tmp_path / "base", tied=True)
    record = calibrate.run(config(steps=5), model=base, corpus=corpus, out=tmp_path / "out")
    after = open_model(tmp_path / "out" / "model", "fp32")
    assert not after.config.tie_word_embeddings
    assert record.metrics["bits_per_byte.he"] < record.metrics["bits_per_byte_before.he"]
    again = calibrate.run(config(steps=5), model=model, corpus=corpus, out=tmp_path / "grown")
    assert record.metrics["training_words"] == again.metrics["training_words"]
    assert record.metrics["training_tokens"] > again.metrics["training_tokens"]


def rows_of(corpus, tokenizer):
    passages = training_passages(config(), corpus / "train")
    return [[1, *tokenizer(one.text).input_ids] for part in passages.values() for one in part]


def test_passages_are_drawn_in_the_shares_of_the_languages(corpus):
    passages = training_passages(config(), corpus / "train")
    assert {code: len(part) for code, part in passages.items()} == {"en": 10, "he": 30}
    for code, part in passages.items():
        assert {passage.text.split()[0] in WORDS for passage in part} == {code == "he"}


def test_the_loss_is_that_of_the_model_itself(model, corpus):
    network, tokenizer = open_model(model, "fp32"), open_tokenizer(model)
    rows = rows_of(corpus, tokenizer)[:3]
    ids, targets = (part.to(network.device) for part in padded(rows, 1))
    labels = torch.cat([torch.full((3, 1), -100, device=network.device), targets], 1)
    expected = network(input_ids=ids, labels=labels, use_cache=False).loss
    assert float(Tables(network).loss(network, ids, targets).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )


def test_the_maps_are_in_the_tables_that_are_written(model, corpus):
    network, tokenizer = open_model(model, "fp32"), open_tokenizer(model)
    ids, targets = (part.to(network.device) for part in padded(rows_of(corpus, tokenizer)[:3], 1))
    tables = Tables(network)
    with torch.no_grad():
        for part in (tables.reading_map, tables.head_map):
            part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(0)) / 30)
        tables.reading.weight.mul_(1.01)
        tables.head.mul_(0.99)
        trained = tables.loss(network, ids, targets)
        written = Tables(tables.settle(network)).loss(network, ids, targets)
    assert float(written) == pytest.approx(float(trained), rel=1e-5)


def test_gemma_s_scaled_rows_and_capped_logits_give_the_model_s_own_loss():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    network = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            final_logit_softcapping=0.5,
        )
    ).eval()
    untie(network)
    ids, targets = padded([[2, 7, 9, 30], [2, 5, 11]], 2)
    labels = torch.cat([torch.full((2, 1), -100), targets], 1)
    expected = network(input_ids=ids, labels=labels, use_cache=False).loss
    assert float(Tables(network).loss(network, ids, targets).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )


def test_rows_of_the_input_table_that_do_not_occur_stay(model, corpus, tmp_path):
    calibrate.run(config(steps=3), model=model, corpus=corpus, out=tmp_path / "out")
    before, after = open_model(model, "fp32"), open_model(tmp_path / "out" / "model", "fp32")
    rows = rows_of(corpus, open_tokenizer(model))
    occurring = torch.tensor(sorted({token for row in rows for token in row}))
    moved = (
        (before.get_input_embeddings().weight != after.get_input_embeddings().weight).any(1)
    ).nonzero()[:, 0]
    assert len(moved) > 0
    assert set(moved.tolist()) <= set(occurring.tolist())


def test_a_head_that_is_fitted_to_more_text_predicts_better_and_nothing_else_moves(
    model, corpus, tmp_path
):
    """The words stand in random order: how often each occurs is all there is to learn."""
    trained = calibrate.run(config(steps=2), model=model, corpus=corpus, out=tmp_path / "trained")
    fitted = calibrate.run(
        config(steps=2, head_steps=40), model=model, corpus=corpus, out=tmp_path / "fitted"
    )
    for code in ("he", "en"):
        name = f"bits_per_byte.{code}"
        assert fitted.metrics[name] < trained.metrics[name]
    assert (trained.metrics["head_steps"], fitted.metrics["head_steps"]) == (0, 40)
    assert fitted.metrics["training_words"] == pytest.approx(
        21 * trained.metrics["training_words"], rel=0.2
    )
    assert fitted.metrics["training_seconds"] > fitted.metrics["head_seconds"] > 0
    before, after = (
        open_model(tmp_path / name / "model", "fp32") for name in ("trained", "fitted")
    )
    for name, weights in before.state_dict().items():
        assert torch.equal(weights, after.state_dict()[name]) == (name != "lm_head.weight"), name
    assert not {"reading.pt", "states.f16"} & {
        path.name for path in (tmp_path / "fitted").iterdir()
    }


def test_rows_that_do_not_occur_in_the_head_s_language_are_not_fitted(model, corpus, tmp_path):
    parts = [
        calibrate.run(config(**settings), model=model, corpus=corpus, out=tmp_path / str(number))
        for number, settings in enumerate(({"steps": 3}, {"steps": 3, "head_steps": 20}))
    ]
    hebrew = calibrate.run(
        config(steps=3, head_steps=20, head_language="he"),
        model=model,
        corpus=corpus,
        out=tmp_path / "2",
    )
    assert hebrew.metrics["bits_per_byte.he"] < parts[0].metrics["bits_per_byte.he"]
    before, both, one = (
        open_model(tmp_path / name / "model", "fp32").get_output_embeddings().weight
        for name in "012"
    )
    moved, of_hebrew = ((before != after).any(1) for after in (both, one))
    tokenizer = open_tokenizer(model)
    passages = training_passages(config(), corpus / "train")["he"]
    words = {token for passage in passages for token in tokenizer(passage.text).input_ids}
    letters = torch.tensor(tokenizer("ferryharbour").input_ids)
    assert moved[letters].any() and not of_hebrew[letters].any()
    assert set(of_hebrew.nonzero()[:, 0].tolist()) <= words


def test_text_is_read_on_from_where_training_ended_whatever_the_limits(model, corpus, tmp_path):
    parts = [
        calibrate.run(config(**limits), model=model, corpus=corpus, out=tmp_path / str(number))
        for number, limits in enumerate(({"steps": 12}, {"steps": 5, "head_steps": 7}))
    ]
    assert parts[0].metrics["training_words"] == parts[1].metrics["training_words"]
    assert parts[0].metrics["training_tokens"] == parts[1].metrics["training_tokens"]


def test_states_that_went_missing_are_named(model, corpus, tmp_path, monkeypatch):
    def cut(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "_fit_head", cut)
    settings = config(steps=2, head_steps=3)
    with pytest.raises(KeyboardInterrupt):
        calibrate.run(settings, model=model, corpus=corpus, out=tmp_path)
    (tmp_path / "states.f16").unlink()
    with pytest.raises(CheckpointError, match="states.f16: expected .* bytes, found 0; remove"):
        calibrate.run(settings, model=model, corpus=corpus, out=tmp_path)


def test_what_was_read_by_tables_that_are_lost_is_read_again(model, corpus, tmp_path, monkeypatch):
    def cut(*_, **__):
        raise KeyboardInterrupt

    settings = config(head_steps=3)
    whole = calibrate.run(settings, model=model, corpus=corpus, out=tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(calibrate, "_fit_head", cut)
        with pytest.raises(KeyboardInterrupt):
            calibrate.run(settings, model=model, corpus=corpus, out=tmp_path / "cut")
    states = tmp_path / "cut" / "states.f16"
    states.write_bytes(bytes(states.stat().st_size))
    (tmp_path / "cut" / "progress.pt").unlink()  # as where it is damaged, and the advice followed
    again = calibrate.run(settings, model=model, corpus=corpus, out=tmp_path / "cut")
    assert again.metrics["bits_per_byte.he"] == whole.metrics["bits_per_byte.he"]


@pytest.mark.parametrize("cut_at", ["learn 11", "states 4", "_fit_head"])
def test_a_run_that_was_cut_off_ends_as_the_unbroken_one(
    model, corpus, tmp_path, monkeypatch, cut_at
):
    monkeypatch.setattr(calibrate, "Limits", functools.partial(calibrate.Limits, save_seconds=0))
    monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda: True)
    settings = config(head_steps=8, precision="auto")
    whole = calibrate.run(settings, model=model, corpus=corpus, out=tmp_path / "whole")
    name, _, count = cut_at.partition(" ")
    owner = {"learn": calibrate.Descent, "states": Tables}.get(name, calibrate)
    work, calls = getattr(owner, name), []

    def cut(*arguments, **more):
        # `states` is called in training, too: there 30 times.
        calls.append(name)
        if len(calls) > int(count or 0) + 30 * (name == "states"):
            raise KeyboardInterrupt
        return work(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, cut)
        with pytest.raises(KeyboardInterrupt):
            calibrate.run(settings, model=model, corpus=corpus, out=tmp_path / "cut")
    # In the precision that it was begun in, whatever a trial says now.
    monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda: False)
    again = calibrate.run(settings, model=model, corpus=corpus, out=tmp_path / "cut")
    ours, theirs = (open_model(tmp_path / name / "model", "fp32") for name in ("cut", "whole"))
    for name, weights in ours.state_dict().items():
        assert torch.equal(weights, theirs.state_dict()[name]), name
    assert again.metrics["bits_per_byte.he"] == whole.metrics["bits_per_byte.he"]
    assert again.metrics["precision"] == "bf16"


def test_a_bf16_body_rounds_nothing_of_what_is_saved(model, corpus, tmp_path):
    record = calibrate.run(
        config(precision="bf16", steps=3), model=model, corpus=corpus, out=tmp_path / "out"
    )
    assert record.metrics["bits_per_byte.he"] < record.metrics["bits_per_byte_before.he"]
    before, after = open_model(model, "fp32"), open_model(tmp_path / "out" / "model", "fp32")
    occurring = torch.zeros(len(before.get_input_embeddings().weight), dtype=torch.bool)
    for row in rows_of(corpus, open_tokenizer(model)):
        occurring[row] = True
    for name, weights in before.state_dict().items():
        found = after.state_dict()[name]
        if name == "model.embed_tokens.weight":
            assert torch.equal(weights[~occurring], found[~occurring])
        elif name == "lm_head.weight":
            assert not torch.equal(found, found.bfloat16().float())
        else:
            assert torch.equal(weights, found), name


def test_the_body_trains_in_the_precision_asked_for_and_the_tables_in_float32(
    model, corpus, tmp_path, monkeypatch
):
    seen = []
    loss = Tables.loss

    def watched(self, network, ids, targets):
        seen.append((network.dtype, {weights.dtype for weights in self.parameters()}))
        return loss(self, network, ids, targets)

    monkeypatch.setattr(Tables, "loss", watched)
    calibrate.run(
        config(precision="bf16", steps=1), model=model, corpus=corpus, out=tmp_path / "out"
    )
    assert seen == [(torch.bfloat16, {torch.float32})]


def small(kind, **settings):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = dict(zip(("hidden_size", "intermediate_size"), (32, 48), strict=True))
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    found = AutoConfig.for_model(kind, vocab_size=50, **sizes, **heads, **settings)
    return AutoModelForCausalLM.from_config(found)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.0625}),
        ("phi", {}),  # a head with a bias
    ],
)
def test_a_model_whose_head_is_no_plain_one_is_refused_before_training(
    kind, settings, corpus, tiny_tokenizer, tmp_path
):
    network = small(kind, pad_token_id=0, **settings)
    if kind == "phi":
        torch.nn.init.normal_(network.lm_head.bias)
    network.resize_token_embeddings(len(tiny_tokenizer))
    network.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="own are .* away .*calibrate cannot train its head"):
        calibrate.run(config(), model=tmp_path / "model", corpus=corpus, out=tmp_path / "out")


def test_a_tokenizer_larger_than_the_embedding_is_refused(corpus, tmp_path, tiny_model_folder):
    folder = tiny_model_folder(tmp_path / "model", rows=380)
    with pytest.raises(CheckpointError, match="expected at most 380 pieces.*tokenizer of 400"):
        calibrate.run(config(steps=1), model=folder, corpus=corpus, out=tmp_path / "out")


def test_a_language_without_text_is_refused(model, corpus, tmp_path):
    with pytest.raises(DataError, match="el"):
        calibrate.run(
            config(shares={"he": 0.5, "el": 0.5}), model=model, corpus=corpus, out=tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": {"he": 0.5, "en": 0.4}}, "shares: expected numbers above 0 that add up to 1"),
        ({"shares": {"he": 1.2, "en": -0.2}}, "shares: expected numbers above 0"),
        ({"shares": {}}, "shares: expected numbers above 0"),
        ({"steps": None}, "neither steps nor seconds"),
        ({"batch_passages": 0}, "batch_passages: expected at least 1"),
        ({"reading_rate": 0.0}, "reading_rate: expected more than 0"),
        ({"map_rate": -0.1}, "map_rate: expected 0 or more"),
        ({"threads": 0}, "threads: expected at least 1"),
        ({"head_steps": 0}, "head_steps: expected more than 0"),
        ({"head_seconds": -1.0}, "head_seconds: expected more than 0"),
        ({"head_language": "el"}, "head_language: expected one of en, he, found 'el'"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(CalibrateConfig, QUICK | {"steps": 3} | changes, "recipe.yaml: calibrate")
