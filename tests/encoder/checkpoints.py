"""Small checkpoints as transformers writes them: real architectures and tokenizers, random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

SENTENCES = [
    "The dog chases the ball in the park.",
    "Der Hund jagt den Ball im Park.",
    "El perro persigue la pelota por el parque.",
    "Le chien a mangé un café glacé, naïvement.",
    "الكلب يطارد الكرة في الحديقة",
    "狗在公园里追球。",
    "สุนัขไล่ตามลูกบอลในสวนสาธารณะ",
    "Con chó đuổi theo quả bóng trong công viên.",
    "कुत्ता पार्क में गेंद का पीछा करता है",
    "query: passage: Question: Answer:",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def xlmr(folder: Path) -> Path:
    """XLM-RoBERTa with 514 positions, of which two lie before the first token; unigram word pieces."""
    import torch
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    tokenizer = _unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", **names
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=514,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        **SIZES,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    return folder


def mbert(folder: Path, *, positions: int = 64, scale: float = 1.0) -> Path:
    """BERT with WordPiece, as multilingual BERT has it; ``scale`` makes its weights larger."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        SENTENCES * 3, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=positions, **names
    ).save_pretrained(folder)
    torch.manual_seed(2)
    model = BertModel(
        BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=positions, **SIZES),
        add_pooling_layer=False,
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02).mul_(scale if weight.ndim > 1 else 1)
    model.save_pretrained(folder)
    return folder


def e5(folder: Path, *, positions: int = 64, scale: float = 6.0) -> Path:
    """As multilingual-e5 has it: the body of BERT, the tokenizer of XLM-R, prompts; a sentence-transformers folder."""
    import torch
    from tokenizers import processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = _unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", model_max_length=positions, **names
    ).save_pretrained(folder)
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=positions, pad_token_id=1, **SIZES
    )
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02).mul_(scale if weight.ndim > 1 else 1)
    model.save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": positions},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
        "1_Pooling/config.json": {"word_embedding_dimension": SIZES["hidden_size"], "pooling_mode_mean_tokens": True},
    }
    (folder / "2_Normalize").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def mt5(folder: Path) -> Path:
    """The encoder of mT5: relative positions, no [CLS], one closing token."""
    import torch
    from tokenizers import processors
    from transformers import MT5Config, MT5EncoderModel, PreTrainedTokenizerFast

    tokenizer = _unigram(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = MT5Config(vocab_size=tokenizer.get_vocab_size(), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    MT5EncoderModel(config).save_pretrained(folder)
    return folder


def copied(source: Path, target: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(source, target)
    return target


def _unigram(specials: list[str]):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        SENTENCES * 3,
        trainers.UnigramTrainer(vocab_size=250, special_tokens=specials, unk_token="<unk>", show_progress=False),
    )
    return tokenizer
