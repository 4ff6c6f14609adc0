"""Stage `train-user` under Ray Train: `python -m ray_jobs.train_user --run RUN`."""

from pipelines.cli import guarded
from pipelines.publish_options import asked
from ray_jobs.program import program
from ray_jobs.train_job import TrainOptions, train


@guarded
@asked
def train_user(options: TrainOptions) -> None:
    """Train UserGPT on nodes of the cluster; every node must see the run folder."""
    train("train_user", options)


if __name__ == "__main__":
    program(train_user)
