"""Texts to vectors: frozen MiniLM, each text once, kept in the work folder by a hash of the text."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

WIDTH = 384
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_SHORTEST = 9
_BATCH = 64
_WINDOW = 256


def sentences(text: str) -> list[str]:
    """Return the sentences of a text that say something; the whole text where none does, nothing where it is empty."""
    parts = [part.strip() for part in _SENTENCE.split(text)]
    return [part for part in parts if len(part) >= _SHORTEST] or ([text.strip()] if text.strip() else [])


class TextVectors:
    """Unit vectors of texts, mean-pooled as all-MiniLM-L6-v2 was trained for (Reimers and Gurevych, EMNLP 2019)."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.known: dict[str, np.ndarray] = {}
        if file is not None and file.is_file():
            stored = load_file(file)
            self.known = dict(
                zip(
                    _keys_of(stored["keys"]),
                    stored["vectors"].astype(np.float32),
                    strict=True,
                )
            )

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 (N, 384); zeros for an empty text. Long texts are read up to the encoder's window."""
        if not texts:
            return np.zeros((0, WIDTH), dtype=np.float32)
        self._learn({text for text in texts if text.strip() and _key(text) not in self.known})
        nothing = np.zeros(WIDTH, dtype=np.float32)
        return np.stack([self.known[_key(text)] if text.strip() else nothing for text in texts])

    def _learn(self, texts: Iterable[str]) -> None:
        missing = sorted(texts, key=lambda text: (len(text), text))
        if not missing:
            return
        from medmm.encoders.text import MINILM, load_text_network

        tokenizer, network = load_text_network(MINILM)
        with torch.no_grad():
            for start in range(0, len(missing), _BATCH):
                part = missing[start : start + _BATCH]
                batch = tokenizer(
                    part,
                    truncation=True,
                    max_length=_WINDOW,
                    padding=True,
                    return_tensors="pt",
                )
                states = network(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
                kept = vectors.half().float().numpy()  # as the file will hold them: a second run must not differ
                self.known.update(zip((_key(text) for text in part), kept, strict=True))
        self._keep()

    def _keep(self) -> None:
        if self.file is None:
            return
        keys = np.frombuffer("".join(self.known).encode(), dtype=np.uint8).reshape(len(self.known), -1)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        save_file(
            {
                "keys": keys.copy(),
                "vectors": np.stack(list(self.known.values())).astype(np.float16),
            },
            partial,
        )
        partial.replace(self.file)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _keys_of(rows: np.ndarray) -> list[str]:
    return [bytes(row).decode() for row in rows]
