"""Which goals the shipped playbooks fit, and which they don't: the measurement behind the threshold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
    # Those of the other recipes
    ("data-pipeline", "Build a data pipeline that loads our orders into Snowflake"),
    ("data-pipeline", "Create an ETL pipeline from Salesforce and Stripe to BigQuery"),
    ("data-pipeline", "Run the ELT pipeline for yesterday"),
    ("data-pipeline", "Execute the nightly ETL pipeline"),
    ("data-pipeline", "Set up a data pipeline from Postgres to the warehouse"),
    ("data-pipeline", "Please build an ETL pipeline for the sales data"),
    ("data-pipeline", "Extract, transform and load the customer records"),
    ("data-pipeline", "Fetch the data from the API, transform it and load it into DuckDB"),
    ("data-pipeline", "Extract the invoices from the database and load them into the data warehouse"),
    ("data-pipeline", "Load the sales data into the warehouse"),
    ("data-pipeline", "Load the CSV files from S3 into Postgres"),
    ("data-pipeline", "Import the customer data from the CSV files into the database"),
    ("data-pipeline", "Ingest the events from Kafka into the data lake"),
    ("data-pipeline", "Ingest sensor readings into the data warehouse"),
    ("data-pipeline", "Implement a daily data pipeline for the payments"),
    ("data-pipeline", "Run the daily data load"),
    ("data-pipeline", "Can you run the data pipeline again?"),
    ("data-pipeline", "Move the data from MySQL to BigQuery every night"),
    ("data-pipeline", "Load yesterday's orders from Shopify into BigQuery"),
    ("research-report", "Write a research report on heat pumps in old buildings"),
    ("research-report", "Research heat pumps and report"),
    ("research-report", "Research the state of solid-state batteries and write a report"),
    ("research-report", "Prepare a research report about microplastics for the board"),
    ("research-report", "Write a literature review on sleep and memory"),
    ("research-report", "Literature review of transformer architectures"),
    ("research-report", "Compile a literature review about urban heat islands"),
    ("research-report", "Write a white paper on zero trust"),
    ("research-report", "Draft a market research report on e-bikes in Europe"),
    ("research-report", "Research the literature on intermittent fasting and write a report"),
    ("research-report", "Research the evidence for four-day weeks and summarize it"),
    ("research-report", "Create a research briefing on quantum computing"),
    ("research-report", "Research report: remote work and productivity"),
    ("research-report", "Write a thorough research report with citations about hydrogen"),
    ("research-report", "Do a literature review on sleep"),
    ("research-report", "Research and write a report on data pipelines"),
    ("research-report", "Research how to release a package and write a report"),
    ("release", "Release version 2.1.0 of the library"),
    ("release", "Release the next version of our Python package to PyPI"),
    ("release", "Release v3.0"),
    ("release", "Publish a new release of the CLI"),
    ("release", "Publish a new version of the npm package"),
    ("release", "Cut a release"),
    ("release", "Cut the 1.4 release"),
    ("release", "Ship version 2.0"),
    ("release", "Ship the new release for Linux and macOS"),
    ("release", "Make a release of the project"),
    ("release", "Make a patch release"),
    ("release", "Prepare and publish the 5.2 release"),
    ("release", "Prepare the release of version 1.0"),
    ("release", "Please release the package"),
    ("release", "Do a minor release of the SDK"),
    ("release", "Publish version 1.2 to npm"),
    ("release", "Ship v1.2.0 to PyPI"),
    ("release", "Release the app to the App Store"),
    ("release", "Make a release of the data pipeline"),
    ("release", "Release a web application"),
    ("web-application", "Build and release a web application"),
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
    # In like words as data pipelines, reports and releases
    "Build a sales pipeline",
    "Build a CI pipeline",
    "Build an oil pipeline",
    "Run the test pipeline",
    "Run the data centre",
    "Build a data model",
    "Analyse the sales data",
    "Load the dishwasher",
    "Load the page",
    "Import the goods from China",
    "Extract the teeth",
    "Extract the archive",
    "Write a tutorial about data pipelines",
    "Build a data pipeline framework",
    "Delete the data in the warehouse",
    "Back up the database",
    "Migrate the data to the new database",
    "Build a data dashboard",
    "Clean the warehouse",
    "Load test the API",
    "Extract the text from the PDF",
    "Transform the organisation",
    "Build a warehouse",
    "Run the data protection training",
    "Run a marathon",
    "Research flights to Tokyo",
    "Research and develop a vaccine",
    "Write a research proposal",
    "Fund the research",
    "Write a report",
    "Write a bug report",
    "Write an expense report",
    "Write a weekly status report",
    "Translate the research report",
    "Research",
    "Report on sales",
    "Write a paper plane tutorial",
    "Write a novel about a research station",
    "Paint the wall white",
    "Investigate the bug",
    "Investigate the failing test and fix it",
    "Do research",
    "Book a research trip",
    "Market the product",
    "Present the research report to the board",
    "Report the bug",
    "Write a letter",
    "Find a paper shop",
    "Release the hostages",
    "Release a new album",
    "Release notes for version 2",
    "Write the release notes",
    "Write release notes for a version",
    "Announce the release",
    "Publish a blog post",
    "Publish the press release",
    "Plan the release party",
    "Delete the release",
    "Deploy version 2 to production",
    "Ship the parcel to Berlin",
    "Ship the goods",
    "Cut the grass",
    "Make a pizza",
    "Make a video",
    "Publish the paper",
    "Publish a book",
    "Prepare the meeting",
    "Release the memory held by the cache",
    "Revert the release",
    "Test the release",
    "Compare the versions",
    "Update the package",
    "Install a new version of the package",
    "Make a package",
    "Publish my package",
    "Prepare a release plan",
    "Update the documentation for the next version",
    "Publish the project",
    "Investigate why the build is slow and report",
    "Build a data warehouse",
    "Extract data from the website",
    "Release the project funds",
    "Copy the data from the old disk to the new one",
    "Write a report about the release",
    "Find out what is known about microplastics",
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


def sampled(cases: Iterable[tuple[str, ...]], every: int) -> list[Any]:
    """Return all cases, of which a quick run takes only every so manyth: they repeat one promise."""
    return [
        pytest.param(*case, marks=() if number % every == 0 else pytest.mark.slow)
        for number, case in enumerate(cases)
    ]


def best(goal: str) -> Fit | None:
    found = find_playbooks(goal, PLAYBOOKS.values())
    return found[0] if found else None


@pytest.mark.parametrize(("name", "goal"), sampled(FITTING, 4))
def test_a_fitting_goal_finds_its_playbook(name: str, goal: str) -> None:
    """The right playbook comes first, at or over the threshold."""
    fit = best(goal)

    assert fit is not None
    assert fit.playbook.name == name
    assert fit.score >= FIT_THRESHOLD
    assert fit.is_enough


@pytest.mark.parametrize("goal", sampled([(goal,) for goal in UNFITTING], 6))
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

    assert found[0].playbook.name == "web-application"
    assert {"codebase-report", "data-pipeline"} <= {fit.playbook.name for fit in found}
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
