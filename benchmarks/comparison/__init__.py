# SPDX-License-Identifier: Apache-2.0
"""The controlled comparison behind the paper's claim, at our scale (arXiv 2512.10942, 4.4).

The paper trains VL-JEPA and a vision-language model under equal conditions and finds that
predicting *embeddings* of texts takes fewer examples than predicting their *tokens*. The reason
given: wordings of one meaning lie close together as embeddings, and far apart as tokens. That is
put to the test on mwstream, with every wording of a meaning and with one only.

    A  VL-JEPA: Predictor -> embedding; a text head trained first, text to text; a Y-Decoder
    B  autoregressive: the same trunk's answer tokens are the prefix of a causal decoder; greedy,
       with a KV cache; of candidates the one with the greatest mean log-likelihood a token
    C  as A, but the Y-Encoder starts from random weights and is trained with the rest
    D  A's predictions, put into words by the nearest training sentence

Equal in all arms: the X-Encoder (that of models/small, trained on the simulator's state alone,
frozen, its features cached); windows, prompts, answers and their order; the Predictor's trunk; the
total of trained parameters, text head and decoder included, within 3%; batch, optimiser, warm-up
and then a constant learning rate, averaged weights, greedy decoding with MiniLM's token
embeddings. Learning rates are chosen for each arm on the validation split with short runs.

Not equal, by nature: A's and D's text head learns first which texts mean the same, from texts
alone. Nothing else does: to all losses here two answers are the same only if they are the same
text. C, and the ablation without a text head, are without.

Smaller than models/small, so that all of it fits two cores: the Predictor has 2 layers of width
192 and so has the Y-Decoder, and a run ends after 65,536 examples.

    python -m benchmarks.comparison.neutral      the X-Encoder, and its features of all streams
    python -m benchmarks.comparison.run          the arms; takes up where it was stopped
    python -m benchmarks.comparison.ablations    what VL-JEPA's own choices are worth, arm A
    python -m benchmarks.comparison.cost         FLOPs and milliseconds
    python -m benchmarks.comparison.report       docs/results/comparison.* and ablations.md

All from the repository's root; `--help` tells the options. What is made on the way lies in
data/comparison: remove that folder before another X-Encoder is trained.

`settings` says what is run, `examples` what is shown, `writer` is the causal decoder, `arms` are
the arms, `marks` what is measured, `training` one run.
"""
