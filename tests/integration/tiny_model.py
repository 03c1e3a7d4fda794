"""Makes a language model that knows nothing: two layers of random weights, a byte for a token, 200 KB.

``python tiny_model.py FILE EOS``: needs numpy and gguf, and is run by the interpreter that has them. ``EOS`` is how
much it is drawn to ending its answer: -5 never does, 1 does after a few tokens.
"""

import sys

import gguf  # type: ignore[import-not-found]
import numpy as np  # type: ignore[import-not-found]

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 32, 2, 4, 64, 8192
EOS, BYTES = 2, slice(3, 259)
NEVER = -5.0
#: As models of today have it: a content is a text, or parts that hold one each.
TEMPLATE = """{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}
{% else %}{% for part in m['content'] %}{{ part['text'] }} {% endfor %}
{% endif %}{% endfor %}assistant: """


def main(file: str, eos: float) -> None:
    random = np.random.default_rng(1)
    kind = gguf.TokenType
    tokens = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    tokens += [("\u2581" if code == 32 else chr(code), kind.NORMAL) for code in range(32, 127)]

    out = gguf.GGUFWriter(file, "llama")
    out.add_name("tiny")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_vocab_size(len(tokens))
    out.add_tokenizer_model("llama")
    out.add_token_list([text.encode() for text, _ in tokens])
    out.add_token_scores([0.0] * len(tokens))
    out.add_token_types([kind for _, kind in tokens])
    out.add_bos_token_id(1)
    out.add_eos_token_id(EOS)
    out.add_unk_token_id(0)
    out.add_chat_template(TEMPLATE)

    def weights(*shape: int):
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    # The first number of a state is large whatever came before, so that what hangs on it is a token's standing wish.
    embedding, output = weights(len(tokens), WIDTH), weights(len(tokens), WIDTH)
    embedding[:, 0] = 10.0
    output[:, 0] = 0.0
    output[EOS, 0] = eos
    # Bytes at random are no UTF-8. The server holds back all that follows such a one, and until then it hears nobody.
    output[BYTES, 0] = NEVER
    out.add_tensor("token_embd.weight", embedding)
    out.add_tensor("output.weight", output)
    out.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH))
    shapes |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for name, shape in shapes.items():
            out.add_tensor(f"blk.{layer}.{name}.weight", weights(*shape))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
