"""transformers' own Trainer at its best settings on the movie snippets: the whole model.

    python benchmarks/transformers_trainer.py --model FOLDER --data FOLDER --seed 0

Rows are grouped by length, the attention has no dropout, AdamW is the fused one, and all
else is as in specs/movie_sentiment.toml. Every evaluation is told on standard error, the
figures at the end as one JSON object on standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

LABELS = {"negative": 0, "positive": 1}


class Clock(TrainerCallback):
    """Seconds in the steps of each epoch, without its evaluation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.start)

    def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
        print(f"evaluation: accuracy {metrics['eval_accuracy']:.4f}", file=sys.stderr)


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    splits: dict[str, list[dict[str, Any]]] = {}
    for name in "train", "valid", "test":
        with open(args.data / f"{name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        ids = tokenizer([r["text"] for r in rows], truncation=True, max_length=128)
        splits[name] = [
            {"input_ids": i, "length": len(i), "label": LABELS[r["label"]]}
            for i, r in zip(ids["input_ids"], rows, strict=True)
        ]

    torch.manual_seed(args.seed)
    config = AutoConfig.from_pretrained(args.model, num_labels=len(LABELS))
    config.attention_probs_dropout_prob = 0.0
    model = AutoModelForSequenceClassification.from_pretrained(
        args.model, config=config, dtype=torch.float32
    )
    clock = Clock()
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                seed=args.seed,
                num_train_epochs=1,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=32,
                learning_rate=5e-5,
                warmup_steps=0.1,
                weight_decay=0.01,
                max_grad_norm=1.0,
                lr_scheduler_type="linear",
                optim="adamw_torch_fused",
                train_sampling_strategy="group_by_length",
                length_column_name="length",
                eval_strategy="epoch",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=splits["train"],  # type: ignore[arg-type]
            eval_dataset=splits["valid"],  # type: ignore[arg-type]
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=accuracy,
            callbacks=[clock],
        )
        trainer.train()
        test = trainer.predict(splits["test"])  # type: ignore[arg-type]
    right = (test.predictions.argmax(-1) == test.label_ids).tolist()  # type: ignore[union-attr]
    examples = len(splits["train"]) / clock.seconds[0]
    print(json.dumps({"examples_per_s": examples, "right": right}))


if __name__ == "__main__":
    main()
