"""The verifier finds every ill-typed mutation of random imported jobs."""

import random

import pytest

from generator.errors import GenError
from generator.ir.text import parse_job, print_job
from generator.ir.verify import problems, verify
from tests.ir.mutations import MUTATIONS, random_bert

JOBS = 25  # for each kind of mutation
JOB_LIST = [random_bert(random.Random(seed)) for seed in range(JOBS)]


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_the_verifier_finds(name: str):
    planted = 0
    for seed, job in enumerate(JOB_LIST):
        r = random.Random(f"{name} {seed}")
        mutant = MUTATIONS[name](r, job)
        if mutant is None:
            continue
        assert mutant != job, "the mutation changed nothing"
        found = list(problems(mutant))
        assert found, f"seed {seed}: nothing found"
        planted += 1
    # At least 300 in all, and none of the kinds in vain.
    assert planted * len(MUTATIONS) >= 300 and planted >= JOBS // 2


def test_mutants_are_found_through_their_text_too():
    """Printed and read back, a mutant is refused by the one or by the other."""
    for seed, name in enumerate(sorted(MUTATIONS)):
        mutant = MUTATIONS[name](random.Random(seed), JOB_LIST[seed % JOBS])
        if mutant is not None:
            with pytest.raises(GenError):
                verify(parse_job(print_job(mutant)))


def test_the_jobs_themselves_are_valid():
    for job in JOB_LIST:
        assert list(problems(job)) == []
