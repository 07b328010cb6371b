"""Promises of docs/semantics.md as data: the sentence as it stands there, and the tests that hold the program to it.

`test_behaviours.py` ties them both ways: every sentence is in the document, every rule of the sections listed has a
promise, every test named is there. A rule that changes in the document shows here, and so do the tests it concerns.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence and what proves it."""

    section: str
    """Heading in docs/semantics.md."""
    sentence: str
    """As it stands there, line breaks aside."""
    tests: tuple[str, ...]
    """`file::test`, relative to tests/."""


EDGES = "unit/test_engine_edges.py"
ENDS = "unit/test_engine_ends.py"
RETRIES = "unit/test_engine_retries.py"
TIMEOUTS = "unit/test_engine_timeouts.py"
CONTROL = "unit/test_engine_control.py"
TAKEOVER = "unit/test_engine_takeover.py"
SPLICE = "unit/test_splice.py"
QUEUE = "unit/test_ready_queue.py"
SCHEDULER = "unit/test_scheduler.py"
PRIORITIZER = "unit/test_prioritizer.py"
METRICS = "unit/test_metrics.py"
STATE = "unit/test_state.py"

COMPLETE_SECTIONS = ("Edges", "Ends", "Failure, in this order", "Alternative plans", "Control")
"""Sections of which every rule has a promise here."""


def promise(section: str, sentence: str, file: str, *names: str) -> Promise:
    """Return a promise whose tests are in one file."""
    return Promise(section, sentence, tuple(f"{file}::test_{name}" for name in names))


PROMISES: tuple[Promise, ...] = (
    promise(
        "Edges",
        'No condition means `status == "completed"`; a condition that does not name `status` means '
        '`status == "completed" && (…)`. So `status == "failed"` makes a handler.',
        EDGES,
        "a_condition_decides_whether_a_required_edge_delivers",
        "a_condition_that_does_not_name_status_needs_a_completed_upstream",
        "a_handler_runs_when_its_upstream_failed",
        "a_handler_is_skipped_when_its_upstream_completed",
    ),
    promise(
        "Edges",
        "A task is skipped as soon as one required edge is dead; it is ready when every edge is decided and no "
        "required one is dead.",
        EDGES,
        "a_dead_required_edge_skips_its_target_while_another_upstream_still_runs",
        "a_task_starts_only_after_every_required_upstream_completed",
        "a_task_skipped_by_one_edge_is_not_made_ready_by_another_in_the_same_decision",
    ),
    promise(
        "Edges",
        "A dead optional edge delivers nothing; a task whose edges are all optional and all dead still runs.",
        EDGES,
        "a_dead_optional_edge_does_not_keep_its_target_from_running",
    ),
    promise(
        "Edges",
        "Exclusive branches rejoin through optional edges.",
        EDGES,
        "exclusive_branches_rejoin_through_optional_edges",
    ),
    promise(
        "Edges",
        "A condition that raises fails the target (`condition_error`, not retried) on a required edge, and is dead "
        "with a warning on an optional one.",
        EDGES,
        "a_condition_that_raises_fails_the_target_of_a_required_edge",
        "a_condition_that_raises_on_an_optional_edge_is_dead_with_a_warning",
    ),
    promise(
        "Edges",
        "the verdict is in the event; replay never evaluates.",
        STATE,
        "the_fold_believes_the_verdict_and_never_evaluates",
    ),
    promise(
        "Edges",
        "`replanning` is not settled.",
        SPLICE,
        "pending_required_descendants_are_paused_and_everything_else_goes_on",
    ),
    promise(
        "Values and data flow",
        "A key named in `data_requirements` that is missing from an object fails the target without running it; on "
        "an optional edge it delivers nothing, with a warning.",
        EDGES,
        "a_missing_key_fails_the_target_of_a_required_edge_without_running_it",
        "a_missing_key_on_an_optional_edge_delivers_nothing_and_warns",
    ),
    promise(
        "Values and data flow",
        "An output that is not an object flows whole under each required name.",
        EDGES,
        "an_output_that_is_not_an_object_flows_whole",
    ),
    promise(
        "Ends",
        "A failed task is *tolerated* when at least one task depends on it and none was skipped because of it.",
        ENDS,
        "a_failure_that_every_dependent_lives_with_is_tolerated",
        "a_failure_that_skipped_one_dependent_is_not_tolerated",
        "a_failed_task_nobody_depends_on_fails_the_orchestration",
    ),
    promise(
        "Ends",
        "Skips by a false condition never fail it.",
        ENDS,
        "skips_by_a_false_condition_never_fail_it",
    ),
    promise(
        "Ends",
        "`errors` maps a task id to `{code, message, retryable, attempt, system}`.",
        ENDS,
        "a_tolerated_failure_keeps_its_error",
    ),
    promise(
        "Failure, in this order",
        "attempts = 1 + `max_retries`",
        RETRIES,
        "a_task_gets_one_attempt_and_its_retries",
        "a_tasks_own_retries_override_the_default_and_zero_is_a_number",
    ),
    promise(
        "Failure, in this order",
        "the delay is uniform in [0, min(60 s, 1 s · `backoff_factor`^(n−1))]; what a system asks for "
        "(`Retry-After`) is respected.",
        RETRIES,
        "the_longest_back_off_grows_by_the_factor_up_to_a_minute",
        "the_drawn_delay_is_recorded",
        "a_system_that_asks_for_a_longer_wait_gets_it",
        "a_shorter_retry_after_does_not_shorten_the_back_off",
    ),
    promise(
        "Failure, in this order",
        "In ADAPTIVE, an alternative plan, where a collaborator can make one.",
        SPLICE,
        "a_task_that_used_up_its_attempts_asks_for_an_alternative",
        "only_adaptive_asks",
        "nobody_to_ask_means_nobody_is_asked",
    ),
    promise(
        "Failure, in this order",
        "Then the task is failed, what requires it is skipped, the rest still finishes.",
        ENDS,
        "a_failure_lets_the_rest_finish",
    ),
    promise(
        "Failure, in this order",
        "A failure that repeating cannot help goes straight to 2.",
        SPLICE,
        "a_failure_that_repeating_cannot_help_asks_at_once",
    ),
    promise(
        "Failure, in this order",
        "A timeout counts as retryable.",
        TIMEOUTS,
        "an_attempt_that_stopped_for_its_timeout_is_retried",
        "a_task_that_always_times_out_fails",
    ),
    promise(
        "Alternative plans",
        "The failing task is `replanning`, its pending required descendants are `paused`",
        SPLICE,
        "pending_required_descendants_are_paused_and_everything_else_goes_on",
    ),
    promise(
        "Alternative plans",
        "They end as `superseded` and pending again, or failed and skipped.",
        SPLICE,
        "an_alternative_takes_the_tasks_place",
        "a_task_two_replannings_hold_waits_for_both",
        "no_alternative_fails_the_task_and_skips_what_needs_it",
    ),
    promise(
        "Alternative plans",
        "Its roots inherit the failed task's incoming edges; its ids get the suffix `~1`, `~2`.",
        SPLICE,
        "the_roots_inherit_the_incoming_edges_as_they_were_decided",
        "an_alternative_of_an_alternative_counts_on",
        "new_ids_never_meet_ids_that_are_there",
    ),
    promise(
        "Alternative plans",
        "Dependents keep their edges and references: whatever names a superseded task means its replacement.",
        SPLICE,
        "dependents_take_the_replacements_output_for_the_superseded_ones",
    ),
    promise(
        "Alternative plans",
        "Limits: 2 per task, 5 per orchestration; an identical alternative is refused.",
        SPLICE,
        "a_task_is_replanned_twice_at_most",
        "an_orchestration_is_replanned_five_times_at_most",
        "questions_under_way_count_against_the_limit",
        "what_failed_is_no_alternative_for_itself",
        "an_alternative_that_failed_is_refused_the_second_time",
    ),
    promise(
        "Idempotency and durability",
        "An attempt cut off by a crash is recorded as interrupted at takeover and runs again; interruptions use up no "
        "retries.",
        TAKEOVER,
        "interrupted_attempts_go_again_under_the_next_number",
        "an_interruption_costs_no_retry",
        "completed_tasks_stay_completed_over_a_crash",
    ),
    promise(
        "Control",
        "Pause is immediate: running attempts finish and may report; no start, retry or replan begins.",
        CONTROL,
        "a_pause_starts_nothing_more_and_lets_running_attempts_finish",
        "a_retry_that_is_due_while_paused_waits_for_the_resume",
        "an_alternative_is_not_asked_for_while_paused",
    ),
    promise(
        "Control",
        "An orchestration whose last task settles while paused ends.",
        CONTROL,
        "an_orchestration_whose_last_task_settles_while_paused_ends",
    ),
    promise(
        "Control",
        "Cancel: what has not started ends at once. A running attempt has `cancel_grace_seconds` (10), then it is "
        "abandoned with a note that work may go on.",
        CONTROL,
        "a_cancel_ends_what_waits_at_once_and_asks_what_runs_to_stop",
        "an_attempt_that_does_not_stop_is_abandoned_with_a_note",
    ),
    promise(
        "Control",
        "A result that arrives before the cancellation is committed counts.",
        CONTROL,
        "a_result_that_arrives_before_the_attempt_stopped_counts",
        "a_cancel_that_came_too_late_for_everything_leaves_it_completed",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "`max_concurrent_tasks` limits the running attempts of one orchestrator over all its orchestrations; "
        "back-offs hold no slot.",
        SCHEDULER,
        "never_more_attempts_run_than_there_are_slots",
        "orchestrations_share_the_slots_by_urgency",
        "engines_can_share_one_pool",
        "every_ending_of_an_attempt_frees_its_slot",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "SIMPLE is one at a time in strict topological order (ties by insertion): a task that waits holds its place.",
        QUEUE,
        "strict_order_is_topological_with_ties_by_insertion",
        "strict_order_runs_one_at_a_time_however_many_slots_there_are",
        "a_task_that_waits_for_its_back_off_holds_its_place",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "Ready tasks start by the user's priority, then by the longest remaining path over expected durations.",
        PRIORITIZER,
        "the_users_priority_comes_before_the_rank",
        "of_equal_priority_the_longest_remaining_path_comes_first",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "with the weights from the settings, nothing normalised.",
        PRIORITIZER,
        "the_weighted_formula_is_exact",
        "the_weights_are_options",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "the engine uses max(now, last now), so time never runs backwards.",
        CONTROL,
        "time_never_runs_backwards",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "A duration runs from an attempt's start to its outcome, summed over attempts, without back-off or waiting.",
        METRICS,
        "a_back_off_is_no_work_but_takes_time",
        "a_diamond_is_measured",
    ),
    promise(
        "Slots, time, priorities, numbers",
        "measured durations, and 1.0 when nothing ran.",
        METRICS,
        "nothing_ran_is_perfectly_efficient",
        "efficiency_is_how_close_the_run_came_to_the_best_there_could_be",
    ),
)
