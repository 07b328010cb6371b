"""Which goals the shipped playbooks fit, and which they don't: the measurement behind the threshold."""

from __future__ import annotations

import pytest

from orchestration.planning.playbook import load_playbooks
from orchestration.planning.playbook_search import FIT_THRESHOLD, Fit, find_playbooks

PLAYBOOKS = load_playbooks().playbooks

FITTING = [
    # The specification's goals
    ("web-application", "Build a web application with user authentication"),
    ("web-application", "Build and deploy a web application"),
    ("codebase-report", "Report on the health of this Python codebase"),
    # The same in other words
    ("web-application", "Create a web app"),
    ("web-application", "Please build me a web app with login"),
    ("web-application", "I'd like to develop a web application using React and Node.js"),
    ("web-application", "Make a web application."),
    ("web-application", "build a webapp with sign-in"),
    ("web-application", "We need a website with user accounts"),
    ("web-application", "Create an online store with customer logins"),
    ("web-application", "Can you help us build a web portal with SSO login?"),
    ("codebase-report", "Analyze the code quality of this repository"),
    ("codebase-report", "Give me a health report of the codebase in /srv/app"),
    ("codebase-report", "Review this codebase"),
    ("codebase-report", "How healthy is this repository?"),
    ("codebase-report", "Audit this repo"),
    ("codebase-report", "Assess the quality of the code in this project"),
    ("codebase-report", "Check the health of the repository at ../other"),
    # With more than the playbook has words for
    ("web-application", "Build a web application for tracking my plants"),
    (
        "web-application",
        "Implement a responsive web application where gardeners exchange seeds with neighbours",
    ),
    ("web-application", "Develop a full-stack web app for booking tennis courts, with payments"),
    (
        "web-application",
        "Build a web application for a school that offers courses and works on mobile phones",
    ),
]

UNFITTING = [
    # About the same things, but another goal
    "Deploy my web application to AWS",
    "Deploy my web application",
    "Write tests for the web application",
    "Code review of the web application",
    "Write a novel in which a girl has to build a web application",
    "Write a tutorial about building a web application",
    "Compare web application frameworks",
    "Build a web application firewall",
    "Build a mobile application",
    "Build a web scraper",
    "Set up a web server",
    "Create a report on user authentication",
    "Fix the bug in this codebase",
    "Refactor this codebase",
    "Review this codebase for security vulnerabilities",
    "Analyze this codebase and fix what is wrong",
    "Write the project documentation",
    "Build this project",
    "Delete the repository",
    "Report on the code of conduct",
    # About other things in like words
    "Report on the health of my grandmother",
    "Report on sales",
    "Project report",
    "Review the patient's health",
    "Check the health of the server",
    "Build the nightly report",
    "Build a house",
    "Create a new project",
    # About anything else
    "Execute parallel tasks",
    "Bake a cake",
    "Translate this document into French",
    "Migrate the database to PostgreSQL",
    "42",
    "!!!",
    "?",
    "データを分析する",
]


def best(goal: str) -> Fit | None:
    found = find_playbooks(goal, PLAYBOOKS.values())
    return found[0] if found else None


@pytest.mark.parametrize(("name", "goal"), FITTING)
def test_a_fitting_goal_finds_its_playbook(name: str, goal: str) -> None:
    """The right playbook comes first, at or over the threshold."""
    fit = best(goal)

    assert fit is not None
    assert fit.playbook.name == name
    assert fit.score >= FIT_THRESHOLD
    assert fit.is_enough


@pytest.mark.parametrize("goal", UNFITTING)
def test_an_unrelated_goal_fits_no_playbook(goal: str) -> None:
    """No playbook reaches the threshold."""
    fit = best(goal)

    assert fit is None or not fit.is_enough, (fit.playbook.name, fit.score, fit.example)


def test_an_example_goal_fits_its_own_playbook_fully() -> None:
    """Every example of every shipped playbook scores 1 for that playbook."""
    for playbook in PLAYBOOKS.values():
        for example in playbook.goals:
            fit = best(example)
            assert fit is not None
            assert (fit.playbook.name, fit.score) == (playbook.name, 1.0), example


def test_the_runner_up_is_told_with_its_score() -> None:
    """All playbooks that share a word come back, best first, with the example that fits best."""
    found = find_playbooks("Build a web application", PLAYBOOKS.values())

    assert [fit.playbook.name for fit in found] == ["web-application", "codebase-report"]
    assert found[0].example == "Build a web application"
    assert found[0].score == 1.0 > FIT_THRESHOLD > found[1].score


def test_punctuation_and_query_syntax_in_a_goal_are_only_text() -> None:
    """A goal can't break the full-text query."""
    fit = best('Build a web application" OR goals MATCH "x*" NEAR(')

    assert fit is not None
    assert fit.playbook.name == "web-application"


def test_the_same_goal_always_finds_the_same() -> None:
    """The search has no state."""
    goal = "Create a web app for reporting on the health of code"

    assert find_playbooks(goal, PLAYBOOKS.values()) == find_playbooks(goal, PLAYBOOKS.values())
