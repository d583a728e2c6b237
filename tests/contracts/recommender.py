"""What every recommender must do; each member runs this class."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gnn.build import TrainConfig, build_model
from gnn.checkpoint import Trained, load_model
from gnn.errors import InputError
from gnn.evaluate import evaluate
from gnn.recommend import recommend
from gnn.recommender import Recommender
from gnn.sampling import FactBatch, InteractionBatch
from gnn.train import train
from kg.ckg import CollaborativeKG
from kg.config import build_config, config_dict
from kg.errors import ConfigError
from tests.gnn.graphs import checkerboard, random_ckg, relabelled
from tests.toy import toy_graph

FAST = TrainConfig(epochs=20, batch_size=64, lr=0.01, patience=0, eval_every=20, device="cpu")
INTERACTIONS = InteractionBatch(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([6, 7]))
FACTS = FactBatch(torch.tensor([6, 0]), torch.tensor([1, 0]), torch.tensor([15, 8]), torch.tensor([16, 9]))
BATCHES = {"interactions": INTERACTIONS, "facts": FACTS}


class RecommenderContract:
    @pytest.fixture(scope="class")
    def ckg(self) -> CollaborativeKG:
        return CollaborativeKG.from_graph(toy_graph())

    @pytest.fixture(scope="class")
    def trained(self, member: type[Recommender], ckg: CollaborativeKG) -> Trained:
        return train(member.name, ckg, {}, FAST)

    def test_scores_have_a_row_for_each_user_and_a_column_for_each_item(
        self, trained: Trained, ckg: CollaborativeKG
    ) -> None:
        scores = trained.model.scores(torch.tensor([4, 0, 4]))
        assert scores.shape == (3, ckg.n_items)
        assert scores.dtype == torch.float32
        assert torch.isfinite(scores).all()
        assert torch.equal(scores[0], scores[2])

    def test_vectors_multiply_to_the_scores_or_are_refused_by_name(
        self, trained: Trained, ckg: CollaborativeKG
    ) -> None:
        model = trained.model
        vectors = model.vectors()
        if vectors is None:
            with pytest.raises(InputError, match=f"`{model.name}` has no vectors"):
                model.embeddings(model.graph)
            return
        users, items = vectors
        assert (len(users), len(items)) == (ckg.n_users, ckg.n_items)
        torch.testing.assert_close(users @ items.T, model.scores(torch.arange(ckg.n_users)))

    def test_each_objective_gives_a_finite_loss_and_together_every_parameter_a_gradient(
        self, member: type[Recommender], ckg: CollaborativeKG
    ) -> None:
        model = build_model(member.name, ckg, {}, FAST)
        for objective in model.objectives:
            loss = model.loss(BATCHES[objective])
            assert loss.shape == ()
            assert torch.isfinite(loss)
            loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        assert bool(model.objectives) == bool(list(model.parameters()))

    def test_a_batch_of_another_kind_is_refused(self, member: type[Recommender], ckg: CollaborativeKG) -> None:
        model = build_model(member.name, ckg, {}, FAST)
        for objective, batch in BATCHES.items():
            if objective not in model.objectives:
                with pytest.raises(InputError, match=f"`{member.name}` is not trained on {type(batch).__name__}"):
                    model.loss(batch)

    def test_the_loss_falls(self, trained: Trained) -> None:
        losses = trained.curve["loss"].to_pylist()
        assert losses == [] if not trained.model.objectives else losses[-1] < 0.8 * losses[0]

    def test_the_same_seed_gives_the_same_scores(
        self, member: type[Recommender], trained: Trained, ckg: CollaborativeKG
    ) -> None:
        again = train(member.name, ckg, {}, FAST)
        users = torch.arange(ckg.n_users)
        assert torch.equal(again.model.scores(users), trained.model.scores(users))

    def test_what_was_saved_loads_bit_equal(
        self, member: type[Recommender], trained: Trained, ckg: CollaborativeKG, tmp_path: Path
    ) -> None:
        train(member.name, ckg, {}, FAST, tmp_path / "model")
        loaded = load_model(tmp_path / "model", ckg)
        users = torch.arange(ckg.n_users)
        assert torch.equal(loaded.scores(users), trained.model.scores(users))
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_nothing_is_recommended_that_the_user_had_in_train_or_valid(
        self, trained: Trained, ckg: CollaborativeKG
    ) -> None:
        users = list(ckg.nodes.ids[: ckg.n_users])
        table = recommend(trained.model, ckg, users, ckg.n_items)
        got = set(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))
        seen = {(ckg.nodes[u], ckg.nodes[i]) for split in ("train", "valid") for u, i in ckg.interactions[split]}
        assert not got & seen
        assert len(got | seen) == ckg.n_users * ckg.n_items

    def test_the_withheld_item_of_a_checkerboard_ranks_above_the_popular_one(self, member: type[Recommender]) -> None:
        ckg = checkerboard()
        model = train(member.name, ckg, {}, dataclasses.replace(FAST, epochs=80)).model
        scores = model.scores(torch.tensor([0]))[0]
        if member.name == "popularity":
            assert scores.argmax() == 1
        else:
            assert scores[0] > scores[1]

    def test_other_ids_for_the_same_graph_permute_the_scores(self, member: type[Recommender]) -> None:
        ckg = random_ckg(5)
        moved, users, items = relabelled(ckg)
        model, other = (build_model(member.name, c, {}, FAST) for c in (ckg, moved))
        new = np.concatenate([users, ckg.n_users + items, np.arange(ckg.n_users + ckg.n_items, ckg.n_nodes)])
        with torch.no_grad():
            for name, value in model.named_parameters():
                target = dict(other.named_parameters())[name]
                target.copy_(value)
                if len(value) == ckg.n_nodes:
                    target[torch.from_numpy(new)] = value
        for each in (model, other):
            each.fit()
            each.after_epoch()
        scores = other.scores(torch.from_numpy(users))[:, torch.from_numpy(items)]
        torch.testing.assert_close(scores, model.scores(torch.arange(ckg.n_users)), rtol=1e-4, atol=1e-5)

    def test_test_interactions_change_nothing(self, member: type[Recommender], ckg: CollaborativeKG) -> None:
        swapped = dataclasses.replace(ckg, interactions={**ckg.interactions, "test": ckg.interactions["test"][:1]})
        users = torch.arange(ckg.n_users)
        one, other = (train(member.name, c, {}, FAST).model.scores(users) for c in (ckg, swapped))
        assert torch.equal(one, other)

    def test_it_is_evaluated_like_any_other(self, trained: Trained, ckg: CollaborativeKG) -> None:
        evaluation = evaluate(trained.model, ckg)
        assert evaluation.n_users == 6
        assert all(0 <= value <= 1 for value in evaluation.metrics.values())

    def test_its_configuration_survives_a_round_trip_and_refuses_what_is_out_of_range(
        self, member: type[Recommender]
    ) -> None:
        config = member.Config()
        assert build_config(member.Config, config_dict(config)) == config
        for field in dataclasses.fields(member.Config):
            if isinstance(field.default, int | float):
                with pytest.raises(ConfigError, match=f"{member.name}: `{field.name}` is -1"):
                    build_config(member.Config, {field.name: -1})

    def test_its_docstring_names_source_and_deviations(self, member: type[Recommender]) -> None:
        for section in ("Source:", "Deviations:"):
            assert re.search(rf"^\s+{section}\n\s+\S", member.__doc__ or "", re.MULTILINE), section
