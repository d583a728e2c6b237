"""RecBole (github.com/RUCAIBox/RecBole) 1.2.1, run by `gnn.bench.worker` in the peers' environment.

RecBole does not run with NumPy 2 or SciPy 1.17 as it is; `_mend` puts back what it misses, in memory.
"""

from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from gnn.bench.serve import Run, serve

_K = 20
_USERS_AT_ONCE = 1024


def lightgcn_step(arrays: dict[str, Any], n_threads: int) -> Run:
    """Return a training step of RecBole's LightGCN; `require_pow` makes its regulariser ours."""
    interaction = import_module("recbole.data.interaction").Interaction
    kit = _Kit(arrays, n_threads, n_layers=int(arrays["n_layers"]))
    fields = (("user_id", "user_id"), ("item_id", "item_id"), ("neg_item_id", "item_id"))
    batches = [
        {name: kit.ids(kind, part) for (name, kind), part in zip(fields, batch, strict=True)}
        for batch in arrays["batches"]
    ]
    turn = cycle([interaction(batch) for batch in batches])
    optimiser = kit.trainer.optimizer

    def run() -> float:
        optimiser.zero_grad()
        loss = kit.model.calculate_loss(next(turn))
        loss.backward()
        optimiser.step()
        return float(loss)

    return run


def evaluation(arrays: dict[str, Any], n_threads: int) -> Run:
    """Return an evaluation of given vectors by RecBole's trainer: LightGCN without a layer."""
    kit = _Kit(arrays, n_threads, n_layers=0)

    def run() -> float:
        return float(kit.trainer.evaluate(kit.test_data, load_best_model=False)[f"ndcg@{_K}"])

    return run


class _Kit:
    """Data set, model and trainer over files in RecBole's format, with given vectors."""

    def __init__(self, arrays: dict[str, Any], n_threads: int, n_layers: int) -> None:
        import torch

        _mend()
        data, model = import_module("recbole.data"), import_module("recbole.model.general_recommender").LightGCN
        torch.set_num_threads(n_threads)
        folder = Path("bench")
        folder.mkdir()
        parts = {"train": arrays["train"], "valid": arrays["test"][:1], "test": arrays["test"][1:]}
        for name, pairs in parts.items():
            np.savetxt(
                folder / f"bench.{name}.inter", pairs, "%d", "\t", header="user_id:token\titem_id:token", comments=""
            )
        settings = {**_settings(arrays), "n_layers": n_layers}
        config = import_module("recbole.config").Config(model, "bench", config_dict=settings)
        self.dataset = data.create_dataset(config)
        train_data, _, self.test_data = data.data_preparation(config, self.dataset)
        self.model = model(config, train_data.dataset)
        with torch.no_grad():
            for field, table, given in (
                ("user_id", self.model.user_embedding, arrays["user_vectors"]),
                ("item_id", self.model.item_embedding, arrays["item_vectors"]),
            ):
                known = [t for t in self.dataset.field2id_token[field] if t != "[PAD]"]
                places = self.dataset.token2id(field, np.array(known))
                table.weight[places] = torch.from_numpy(given[np.array(known, int)])
        self.trainer = import_module("recbole.trainer").Trainer(config, self.model)

    def ids(self, field: str, places: Any) -> Any:
        """Return RecBole's ids of ours."""
        import torch

        return torch.from_numpy(self.dataset.token2id(field, places.astype(str)))


def _settings(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return everything that is not RecBole's default."""
    return {
        "data_path": ".",
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "embedding_size": int(arrays["dim"]),
        "reg_weight": float(arrays["l2"]),
        "require_pow": True,
        "learning_rate": float(arrays["lr"]),
        "eval_args": {"mode": "full", "order": "RO", "group_by": "user"},
        "metrics": ["Recall", "NDCG"],
        "topk": [_K],
        "valid_metric": f"Recall@{_K}",
        "eval_batch_size": _USERS_AT_ONCE * int(arrays["n_items"]),  # its default is one user at a time
        "use_gpu": False,
        "save_dataset": False,
        "show_progress": False,
        "metric_decimal_place": 8,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
    }


def _mend() -> None:
    for old, new in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
        if old not in np.__dict__:
            setattr(np, old, new)
    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, pairs: self._dict.update(pairs)


if __name__ == "__main__":
    serve({"lightgcn-step": lightgcn_step, "evaluation": evaluation})
