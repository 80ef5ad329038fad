# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Watching a run: the files hold its history, also across a kill, and the run does not notice."""

import io
import json
import sys
from pathlib import Path

import pandas
import pytest
import torch
from matplotlib.image import imread

import ppl_disent as pd

QUIET = {"batch_size": 4, "progress": False, "device": "cpu", "log_every": 2}
X = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def dynamic(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return pd.dynamic_vae((1, 4, 4), latent_dim=2, network="mlp", target_kl=2.0, every=3, ramp=3, **options)


class Killed(Exception):
    """As by a signal: nothing is written any more."""


class Kill:
    """Ends a run after a step. It is no part of a run that is resumed without it."""

    observes = True

    def __init__(self, step):
        self.step = step

    def after_step(self, svi, step):
        if svi.index == self.step:
            raise Killed


def lines(path):
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def same(path, history):
    read = pandas.DataFrame(lines(path)).set_index("step").astype(float)
    pandas.testing.assert_frame_equal(read, history, check_exact=True)


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_jsonl_is_the_history(tmp_path):
    path = tmp_path / "a" / "history.jsonl"
    run = dynamic().fit(X, steps=7, callbacks=[pd.JSONL(path)], **QUIET)
    assert list(run.history.index) == [2, 4, 6, 7]
    same(path, run.history)
    assert [file.name for file in path.parent.iterdir()] == ["history.jsonl"]


def test_jsonl_is_written_while_it_trains_and_says_null_for_what_is_no_number(tmp_path):
    class Odd:
        seen = ()

        def record(self):
            return {"odd": torch.tensor(float("nan")), "endless": torch.tensor(float("inf"))}

        def after_step(self, svi, step):
            if svi.index == 5:
                self.seen = lines(tmp_path / "h")

    odd = Odd()
    dynamic().fit(X, steps=6, callbacks=[odd, pd.JSONL(tmp_path / "h")], **QUIET)
    assert [(row["step"], row["odd"], row["endless"]) for row in odd.seen] == [(2, None, None), (4, None, None)]


@pytest.mark.parametrize("killed", [7, 9])  # before and after a row that the checkpoint of step 5 does not know
def test_a_killed_run_leaves_its_rows_and_a_resumed_one_repeats_none(tmp_path, killed):
    path, options = tmp_path / "h.jsonl", {**QUIET, "checkpoint": tmp_path / "c.pt", "checkpoint_every": 5}
    with pytest.raises(Killed):
        dynamic().fit(X, steps=12, callbacks=[pd.JSONL(path), Kill(killed)], **options)
    assert [row["step"] for row in lines(path)] == list(range(2, killed, 2))
    with path.open("a") as file:
        file.write('{"step": 10, "lo')  # in the middle of a line
    resumed = dynamic().fit(X, steps=12, callbacks=[pd.JSONL(path)], resume=True, **options)
    assert list(resumed.history.index) == [2, 4, 6, 8, 10, 12]
    same(path, resumed.history)
    whole = dynamic().fit(X, steps=12, **QUIET)
    pandas.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)


def test_a_run_without_steps_left_writes_its_history_again(tmp_path):
    options = {**QUIET, "checkpoint": tmp_path / "c.pt", "steps": 6}
    run = dynamic().fit(X, **options)
    dynamic().fit(X, callbacks=[pd.JSONL(tmp_path / "h")], resume=True, **options)
    same(tmp_path / "h", run.history)


def test_another_run_replaces_the_file_also_with_the_same_callback(tmp_path):
    track = pd.JSONL(tmp_path / "h")
    dynamic().fit(X, steps=6, callbacks=[track], **QUIET)
    second = dynamic().fit(X, steps=6, callbacks=[track], **(QUIET | {"log_every": 3, "seed": 1}))
    same(tmp_path / "h", second.history)


@pytest.mark.parametrize("first", [True, False])
def test_tracking_may_be_switched_on_or_off_by_a_resume(tmp_path, first):
    """Beside a callback with a state of its own, whose settings must still agree."""
    tracks = [pd.JSONL(tmp_path / "h")]
    options = {**QUIET, "checkpoint": tmp_path / "c.pt"}
    method = dynamic()
    method.fit(X, steps=5, callbacks=tracks if first else [], **options)
    second = dynamic()
    run = second.fit(X, steps=9, callbacks=[] if first else tracks, resume=True, **options)
    whole = dynamic().fit(X, steps=9, **QUIET)
    assert run.history["kl_scale.z"][9] == whole.history["kl_scale.z"][9]
    assert all(map(torch.equal, run.guide.parameters(), whole.guide.parameters()))
    with pytest.raises(pd.CheckpointError, match="every was 3"):
        pd.dynamic_vae((1, 4, 4), latent_dim=2, network="mlp", target_kl=2.0, every=4, ramp=3).fit(
            X, steps=12, callbacks=tracks, resume=True, **options
        )


def test_tensorboard_has_the_scalars_and_the_pictures(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track = pd.TensorBoard(tmp_path, batch=(X[:3],), every=2)
    run = dynamic().fit(X, steps=12, callbacks=[track], **QUIET)
    read = scalars(tmp_path)
    assert set(read) == {name.replace(".", "/", 1) for name in run.history}
    for name in run.history:
        rows = read[name.replace(".", "/", 1)]
        assert [step for step, _ in rows] == list(run.history.index)
        assert [value for _, value in rows] == pytest.approx(run.history[name].tolist(), nan_ok=True)
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"reconstructions", "traversal/z"}
    assert [e.step for e in events.Images("traversal/z")] == [4, 8, 12, 12]
    sizes = {tag: (events.Images(tag)[-1].width, events.Images(tag)[-1].height) for tag in events.Tags()["images"]}
    assert sizes == {"reconstructions": (3 * 5 + 1, 2 * 5 + 1), "traversal/z": (11 * 5 + 1, 2 * 5 + 1)}
    png = io.BytesIO(events.Images("reconstructions")[-1].encoded_image_string)
    drawn = torch.from_numpy(imread(png))[6:10, 1:5, 0]
    torch.testing.assert_close(drawn, run.posterior.reconstruct(X[:1])[0, 0].float(), atol=1 / 255, rtol=0)


def test_tensorboard_leaves_out_what_was_lost_by_a_kill(tmp_path):
    pytest.importorskip("tensorboard")
    options = {**QUIET, "checkpoint": tmp_path / "c.pt", "checkpoint_every": 5}
    folder = tmp_path / "events"
    with pytest.raises(Killed):
        dynamic().fit(X, steps=12, callbacks=[pd.TensorBoard(folder), Kill(9)], **options)
    assert [step for step, _ in scalars(folder)["loss"]] == [2, 4, 6, 8]
    run = dynamic().fit(X, steps=12, callbacks=[pd.TensorBoard(folder)], resume=True, **options)
    read = scalars(folder)["loss"]
    assert [step for step, _ in read] == [2, 4, 6, 8, 10, 12]
    assert [value for _, value in read] == pytest.approx(run.history["loss"].tolist())
    again = dynamic().fit(X, steps=4, callbacks=[pd.TensorBoard(folder)], **QUIET)
    assert [step for step, _ in scalars(folder)["loss"]] == list(again.history.index) == [2, 4]


def test_a_run_does_not_notice_that_it_is_watched(tmp_path):
    pytest.importorskip("tensorboard")
    tracks = [pd.TensorBoard(tmp_path / "t", batch=(X[:2], torch.ones(2, 1)), every=1), pd.JSONL(tmp_path / "h")]
    y = (torch.arange(10) % 2).double()[:, None]
    runs = []
    for callbacks in ([], tracks):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            method = pd.csvae((1, 4, 4), labels=1, latent_dim=2, network="mlp")
        runs.append(method.fit((X, y), steps=6, callbacks=callbacks, **QUIET))
    pandas.testing.assert_frame_equal(runs[0].history, runs[1].history, check_exact=True)
    assert all(map(torch.equal, runs[0].model.parameters(), runs[1].model.parameters()))
    assert runs[1].model.training == runs[0].model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every: got 0"),
        ({"batch": (torch.rand(3, 5),)}, r"batch: got \[\(3, 5\)\]"),
        ({"batch": ()}, r"batch: got \[\]"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    pytest.importorskip("tensorboard")
    with pytest.raises(pd.ArgumentError, match=message):
        pd.TensorBoard(tmp_path, **options)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(pd.ArgumentError, match=r"pip install 'ppl-disent\[tensorboard\]'"):
        pd.TensorBoard(Path(tmp_path))
