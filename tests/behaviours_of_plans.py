"""Promises of docs/semantics.md about plans that change: other ways on failure, composites, approvals, edits, streams.

May import: tests.promise.
"""

from __future__ import annotations

from tests.promise import Promise, promise

FAILOVER = "unit/test_engine_failover.py"
FALLBACK = "unit/test_engine_fallback.py"
QUESTIONS = "unit/test_engine_questions.py"
COMPOSITES = "unit/test_engine_composites.py"
APPROVALS = "unit/test_engine_approvals.py"
EDITS = "unit/test_engine_edits.py"
REFUSED = "unit/test_engine_edits_refused.py"
RETRIED = "unit/test_engine_composites_retried.py"
PLANNING = "unit/test_engine_planning.py"
IN_FULL = "execution/test_composites.py"

PLAN_PROMISES: tuple[Promise, ...] = (
    promise(
        "Failure, in this order",
        "Then, of a task that leaves the choice to the router, on another system that can do the same, if it is "
        "idempotent.",
        FAILOVER,
        "the_next_system_goes_on_when_one_has_used_up_the_attempts",
        "what_must_not_be_repeated_goes_to_no_other_system",
    ),
    promise(
        "Failure, in this order",
        "Then as its `fallback` says: another way to the same output under the same task id.",
        FALLBACK,
        "the_fallback_takes_over_when_the_task_has_failed",
        "the_tasks_retries_come_first_and_a_fallback_has_its_own",
        "three_nested_fallbacks_come_one_after_another_and_then_no_more",
        "the_fallback_of_what_must_not_be_repeated_must_not_be_either",
    ),
    promise(
        "Alternative plans",
        "Where nobody has one and the orchestration was submitted with `ask_caller` (over MCP in ADAPTIVE it always "
        "is), the task stays `replanning` and its question stands in the status.",
        QUESTIONS,
        "they_are_asked_when_the_planner_has_nothing",
        "only_adaptive_orchestrations_ask",
        "an_alternative_answers",
        "an_edit_of_the_task_answers",
        "somebody_did_it",
    ),
    promise(
        "Composites",
        "makes children `T[0]`, `T[1]`… with `${item}` and `${index}` when T's turn comes.",
        COMPOSITES,
        "each_item_gets_a_child",
        "children_retry_reroute_and_fall_back_as_their_task_says",
    ),
    promise(
        "Composites",
        "`[]` completes at once; what is no list, or has over `max_foreach_items` (1,000), fails T before any child "
        "starts.",
        COMPOSITES,
        "an_empty_list_completes_at_once",
        "too_long_a_list_fails_the_task_before_any_child_starts",
    ),
    promise(
        "Composites",
        "A task that others name as their `parent` is a composite as well",
        COMPOSITES,
        "parts_begin_when_what_their_parent_needs_is_there",
        "what_depends_on_a_parent_waits_for_all_of_its_parts",
    ),
    promise(
        "Composites",
        "A composite fails when a part fails over which nothing else of it is borne, after the others have settled",
        COMPOSITES,
        "it_fails_when_a_child_fails_after_the_others_have_settled",
        "a_failure_that_is_handled_inside_a_parent_does_not_fail_it",
        "a_failed_part_is_tolerated_where_its_parent_is",
    ),
    promise(
        "Composites",
        "A part is retried with its composite, and a composite with the parts that failed.",
        RETRIED,
        "a_retry_of_one_child_reopens_its_list",
    ),
    promise(
        "Composites",
        "A composite that is skipped before it begins skips its parts.",
        COMPOSITES,
        "a_parent_whose_upstream_fails_is_skipped_with_its_parts",
    ),
    promise(
        "Approvals",
        "A task with `approval` waits, when everything it needs is there, as `awaiting_approval`",
        APPROVALS,
        "somebody_is_asked_with_the_digest_of_what_would_run",
        "a_task_that_wants_approval_holds_no_slot",
        "a_task_that_awaits_approval_holds_its_place_in_simple_mode",
    ),
    promise(
        "Approvals",
        "What is agreed to is exactly this: system with its declaration, tool, description, resolved arguments, "
        "inputs, by hash.",
        APPROVALS,
        "an_attempt_that_is_not_what_was_agreed_to_is_asked_about_again",
        "a_change_of_the_task_voids_what_was_agreed_to",
        "an_agreement_holds_for_retries_of_the_same",
        "an_explicit_retry_asks_anew",
    ),
    promise(
        "Approvals",
        'A model never agrees in a person\'s name: `by="caller"` is refused on `person`, with the command a person '
        "would type.",
        APPROVALS,
        "the_caller_may_not_agree_in_a_persons_name",
        "where_the_caller_may_agree_both_may",
    ),
    promise(
        "Approvals",
        "A refusal fails the task (`rejected`) for good: no fallback and no alternative plan gets round it.",
        APPROVALS,
        "a_rejected_task_has_failed_for_good",
        "what_stands_for_a_task_wants_the_same_approval",
    ),
    promise(
        "Editing a graph that runs",
        "A revision is made for the one before (`expected_revision`); on any other it is refused and changes nothing.",
        EDITS,
        "a_change_for_another_revision_is_refused",
        "a_change_is_one_revision_with_who_and_why",
        "revisions_count_edits_and_alternatives_alike",
    ),
    promise(
        "Editing a graph that runs",
        "What has ended is frozen. Running tasks must end or be cancelled first.",
        REFUSED,
        "what_has_ended_is_frozen",
        "what_runs_must_be_stopped_first",
        "a_task_with_an_attempt_keeps_its_edges",
    ),
    promise(
        "Editing a graph that runs",
        "A changed task begins a new generation; what was agreed to, asked or looked up about it is void.",
        EDITS,
        "a_changed_task_is_what_it_is_from_then_on",
        "a_priority_changes_nothing_but_the_order",
    ),
    promise(
        "Editing a graph that runs",
        "A skipped task is settled as such: what requires it is skipped.",
        EDITS,
        "a_skipped_task_skips_what_requires_it",
        "a_removed_task_never_starts",
    ),
    promise(
        "Editing a graph that runs",
        "Undoing goes back to an earlier graph by a new revision, as far as the tasks it concerns have not begun.",
        "execution/test_editing.py",
        "undo_takes_back_what_has_not_begun",
    ),
    promise(
        "Plans that run while they are made",
        "With `start_early` an orchestration begins in state `planning`",
        PLANNING,
        "a_task_starts_as_soon_as_it_is_planned",
        "what_can_not_be_taken_back_waits_for_the_whole_plan",
    ),
    promise(
        "Plans that run while they are made",
        "If the rest can't be made, what has not begun is cancelled and the orchestration ends `failed`, saying "
        "`plan_incomplete`.",
        PLANNING,
        "a_plan_that_will_never_be_whole_fails",
        "it_fails_even_where_everything_there_was_has_completed",
    ),
    promise(
        "Plans that run while they are made",
        "After a crash whoever takes over goes on planning from the tasks that are there, which stay as they are.",
        PLANNING,
        "the_next_driver_goes_on_planning_from_what_is_there",
        "what_is_being_planned_is_neither_paused_nor_edited",
    ),
    promise(
        "Composites",
        "T is a composite: no slot, no attempt, no place in totals and progress.",
        IN_FULL,
        "progress_counts_what_runs",
    ),
)
