# SPDX-License-Identifier: Apache-2.0
"""Controlled comparison that tests the paper's claim at our scale (arXiv 2512.10942, 4.4).

The paper trains VL-JEPA and a vision-language model under equal conditions and finds that
predicting *embeddings* of texts takes fewer examples than predicting their *tokens*. The paper's
reason is that paraphrases of one concept are close together as embeddings and far apart as tokens.
This comparison tests the claim on mwstream, with all paraphrases of a concept and with one only.

    A  VL-JEPA: Predictor -> embedding; a text head trained first, text to text; a Y-Decoder
    B  autoregressive: the same trunk's answer tokens are the prefix of a causal decoder; greedy,
       with a KV cache; it chooses the candidate with the highest mean log-likelihood per token
    C  as A, but the Y-Encoder starts from random weights and is trained with the other parts
    D  A's predictions with the nearest training sentence as text

Equal in all arms: the X-Encoder (architecture of models/small, trained on the simulator's state
only, frozen, with cached features); windows, prompts, answers and their order; the Predictor's
trunk; the total number of trained parameters, text head and decoder included, within 3%; batch,
optimizer, warm-up followed by a constant learning rate, averaged weights, and greedy decoding with
MiniLM's token embeddings. Learning rates are chosen for each arm on the validation split with
short runs.

Different by design: the text head of A and D is trained first on texts to recognize paraphrases.
No other part has this information: all losses here treat two answers as equal only if their texts
are equal. C and the ablation without a text head do not have this training.

The arms are smaller than models/small, so that the comparison runs on two cores: the Predictor and
the Y-Decoder have 2 layers of width 192, and a run ends after 65,536 examples.

    python -m benchmarks.comparison.neutral      the X-Encoder and its features of all streams
    python -m benchmarks.comparison.run          the arms; continues an interrupted run
    python -m benchmarks.comparison.ablations    design choices of VL-JEPA, arm A
    python -m benchmarks.comparison.cost         FLOPs and milliseconds
    python -m benchmarks.comparison.report       docs/results/comparison.* and ablations.md

Run all commands from the repository's root; `--help` lists the options. Intermediate files are in
data/comparison; remove that folder before training another X-Encoder.

Modules: `settings` has the plans, `examples` the training examples, `writer` the causal decoder,
`arms` the arms, `marks` the metrics, and `training` one run.
"""
