"""Made-up messages for EmbedQuery and EmbedDocuments: real ones, odd ones, and bytes that are none. Pure."""

import random
from typing import Any

from embedpool.v1 import embedding_service_pb2 as pb

_HUGE = (0, 1, 2, 3, 127, 128, 2**31 - 1, 2**31, 2**32 - 1)
_ODD_TEXTS = (
    "",
    " \n\t",
    "\x00",
    "a\x00b",
    "\u200b\u200d\ufeff",
    "e" + "\u0301" * 300,
    "👩‍👩‍👧‍👦" * 40,
    "ﷺ" * 200,
    "\u202e\u2066 bidi \u2069",
    "\ud7ff\ue000\uffff\U0010ffff",
    "𝕳𝖊𝖑𝖑𝖔 " * 30,
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "x" * 3000,
    "a b " * 900,
    "북경 北京 पेकिंग " * 20,
)
_BROKEN_TEXTS = (b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\x80", b"ok \x80")


# Numbers that are no value of the enum travel too.
_VECTOR_TYPES: list[Any] = [1, 2, 3, -1, 4, 2**31 - 1, -(2**31)]
_TRUNCATIONS: list[Any] = [1, 2, 3, -5]


class Messages:
    """Draws messages; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def query(self) -> bytes:
        """Returns what is sent as an EmbedQueryRequest."""
        texts = [self._text() for _ in range(self._count())]
        return self._bend(pb.EmbedQueryRequest(texts=texts, options=self._options()).SerializeToString())

    def stream(self) -> list[bytes]:
        """Returns what is sent as the EmbedDocumentsRequests of one stream."""
        options = self._options()
        return [self._batch(options) for _ in range(self._dice.choice([0, 1, 1, 1, 2, 4]))]

    def _batch(self, options: pb.EmbeddingOptions | None) -> bytes:
        dice = self._dice
        texts = [
            dice.choice(_BROKEN_TEXTS) if dice.random() < 0.1 else self._text().encode()
            for _ in range(self._count())
        ]
        batch_id = dice.choice([0, 1, 2**64 - 1, dice.getrandbits(64)])
        if dice.random() < 0.1:
            options = self._options()
        message = pb.EmbedDocumentsRequest(batch_id=batch_id, texts=texts, options=options)
        return self._bend(message.SerializeToString())

    def _count(self) -> int:
        return self._dice.choice([0, 1, 1, 1, 2, 3, 5, 9, 40])

    def _text(self) -> str:
        dice = self._dice
        kind = dice.random()
        if kind < 0.5:
            return " ".join(
                dice.choice(["the", "list", "of", "names", "rain"]) for _ in range(dice.randint(1, 9))
            )
        if kind < 0.8:
            return dice.choice(_ODD_TEXTS)
        # No surrogates: they have no UTF-8.
        return "".join(
            chr(dice.choice([dice.randrange(0xD800), dice.randrange(0xE000, 0x110000)])) for _ in range(20)
        )

    def _options(self) -> pb.EmbeddingOptions | None:
        dice = self._dice
        if dice.random() < 0.3:
            return None
        options = pb.EmbeddingOptions()
        if dice.random() < 0.4:
            options.vector_type = dice.choice(_VECTOR_TYPES)
        if dice.random() < 0.4:
            options.dimensions = dice.choice([*_HUGE, 8, 32, 33])
        if dice.random() < 0.2:
            options.prompt_name = dice.choice(["", "query", "x" * 500, "\x00", "\u202e"])
        if dice.random() < 0.3:
            options.truncation = dice.choice(_TRUNCATIONS)
        if dice.random() < 0.5:
            options.chunking.window_tokens = dice.choice([*_HUGE, 16, 40])
            options.chunking.overlap_tokens = dice.choice([*_HUGE, 5, 19, 20])
        return options

    def _bend(self, message: bytes) -> bytes:
        """Leaves most messages as they are, and breaks the others in one of many ways."""
        dice = self._dice
        kind = dice.random()
        if kind < 0.55:
            return message
        data = bytearray(message)
        if kind < 0.75:  # some bytes are others
            for _ in range(dice.randint(1, 6) if data else 0):
                data[dice.randrange(len(data))] = dice.randrange(256)
        elif kind < 0.85:  # cut off
            del data[dice.randint(0, len(data)) :]
        elif kind < 0.9:  # a known field of another type, or of an absurd length
            field, wire_type = dice.randint(1, 6), dice.randrange(8)
            data += bytes([field << 3 | wire_type]) + dice.randbytes(dice.randint(0, 12))
        elif kind < 0.93:  # a length far beyond the end
            data += b"\x0a\xff\xff\xff\xff\x07"
        elif kind < 0.96:  # groups in groups
            data += b"\x0b" * dice.randint(1, 200)
        else:
            data = bytearray(dice.randbytes(dice.randint(0, 300)))
        return bytes(data)
