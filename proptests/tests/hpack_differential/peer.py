"""The Python package hpack, driven by lines: one answer for each."""

import sys

import hpack


def text(fields):
    return " ".join(f"{bytes(name).hex()}={bytes(value).hex()}" for name, value, *_ in fields)


def parse(words):
    pairs = (word.split("=") for word in words)
    return [(bytes.fromhex(name), bytes.fromhex(value)) for name, value in pairs]


for line in sys.stdin:
    verb, *words = line.split()
    answer = ""
    if verb == "reset":
        encoder = hpack.Encoder()
        decoder = hpack.Decoder(max_header_list_size=1 << 24)
    elif verb == "limit":
        decoder.max_allowed_table_size = int(words[0])
    elif verb == "size":
        encoder.header_table_size = int(words[0])
    elif verb == "decode":
        answer = text(decoder.decode(bytes.fromhex("".join(words)), raw=True))
    elif verb == "try":
        try:
            answer = text(decoder.decode(bytes.fromhex("".join(words)), raw=True))
        except Exception as error:
            answer = f"error {type(error).__name__}: {error}"
    elif verb == "encode":
        answer = encoder.encode(parse(words[1:]), huffman=words[0] == "huffman").hex()
    else:
        sys.exit(f"what is {line!r}?")
    print(answer)
