"""Promises of docs/semantics.md as data: the sentence as it stands there, and the tests that hold the program to it.

`test_behaviours.py` ties them both ways: every sentence is in the document, every rule of the sections listed has a
promise, every test named is there. A rule that changes in the document shows here, and so do the tests it concerns.
"""

from __future__ import annotations

from tests.behaviours_of_claims import CLAIM_PROMISES
from tests.behaviours_of_plans import PLAN_PROMISES
from tests.promise import Promise, promise

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
UNKNOWN = "unit/test_engine_unknown.py"
RETRY = "unit/test_engine_retry.py"
CACHE = "unit/test_engine_cache.py"
ASKED = "execution/test_control.py"
LEASES = "execution/test_leases.py"
AGAIN = "execution/test_used_again.py"

COMPLETE_SECTIONS = (
    "Edges",
    "Ends",
    "Failure, in this order",
    "Alternative plans",
    "Composites",
    "Approvals",
    "Work that is offered",
    "Reported is not verified",
    "How much a system takes",
    "Editing a graph that runs",
    "Plans that run while they are made",
    "What must not happen twice",
    "What need not happen again",
    "Control",
)
"""Sections of which every rule has a promise here."""


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
        "`unknown`, `awaiting_approval`, `offered`, `claimed`, `expanded` and `replanning` are not settled.",
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
        "In ADAPTIVE, an alternative plan: of the collaborator, a language model, a playbook, in this order; then of "
        "whoever submitted the orchestration, where somebody is there to ask.",
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
        "A failure that repeating cannot help goes straight to 3.",
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
        "Failure, in this order",
        "So does silence: with `heartbeat_timeout_seconds`, an attempt that gives no sign of life for so long is "
        "stopped like one that is out of time.",
        TIMEOUTS,
        "an_attempt_that_gives_no_sign_of_life_is_stopped",
        "a_sign_of_life_gives_the_attempt_its_whole_silence_again",
        "the_signs_of_life_of_an_earlier_attempt_do_not_count",
    ),
    promise(
        "Failure, in this order",
        "An end that leaves open whether the effect happened (a crash, a timeout, silence, a lost connection, a "
        "takeover) skips all of this for a task with `idempotent: false`: it becomes `unknown`. Only a system's "
        "definite error is retried there.",
        UNKNOWN,
        "an_attempt_that_ran_out_of_time_leaves_its_task_unknown",
        "a_lost_connection_leaves_the_task_unknown",
        "an_open_end_is_not_replanned",
        "a_definite_error_is_retried",
        "an_idempotent_task_runs_again_whatever_was_left_open",
    ),
    promise(
        "What must not happen twice",
        "the same for all automatic attempts of a task and for a decision to run it again, so that a system that "
        "honours it repeats no effect; only what does something else begins a new generation: an explicit retry, a "
        "fallback, a changed spec.",
        UNKNOWN,
        "deciding_retry_runs_the_task_again_under_the_same_key",
        "verify_that_knows_of_no_effect_runs_the_task_again",
    ),
    promise(
        "What must not happen twice",
        "With `idempotent: false` it is recorded as left open, and the task is `unknown`: nothing is guessed. What "
        "needs it waits; everything else goes on.",
        UNKNOWN,
        "an_attempt_that_a_crash_cut_off_leaves_its_task_unknown",
        "an_unknown_task_holds_up_only_what_needs_it",
    ),
    promise(
        "What must not happen twice",
        "`done` completes the task with the output it tells, `not_done` runs it again, anything else (a failure, no "
        "answer in time) leaves the decision open and joins what is known. It is asked once for each attempt, or again "
        "by the next driver if its answer never came.",
        UNKNOWN,
        "verify_is_asked_first",
        "verify_that_knows_of_the_effect_completes_the_task",
        "verify_that_can_not_say_leaves_the_decision_to_people",
        "verify_is_asked_again_by_the_next_driver_when_its_answer_never_came",
        "verify_is_asked_anew_about_the_next_attempt",
    ),
    promise(
        "What must not happen twice",
        "A decision is `retry`, `done` (with the task's output) or `failed`. It may be made while nobody drives: "
        "attempts of a driver that is gone are ended first, and nothing is started. A decision nobody waits for is "
        "refused.",
        UNKNOWN,
        "deciding_done_completes_the_task_with_the_output_given",
        "deciding_failed_fails_the_task_and_skips_what_needs_it",
        "a_decision_can_be_made_before_anybody_drives",
        "a_decision_nobody_waits_for_is_refused",
        "a_decision_is_made_once",
    ),
    promise(
        "What must not happen twice",
        "An `unknown` task is cancelled at once. A cancelled attempt that must not be repeated says that its effect "
        "may have happened, and a retry makes its task `unknown` again: reopening it decides nothing.",
        UNKNOWN,
        "a_retry_of_what_was_cancelled_in_the_middle_leaves_the_decision_open",
        "an_unknown_task_is_cancelled_at_once",
        "a_cancelled_attempt_says_that_its_effect_may_have_happened",
    ),
    promise(
        "What must not happen twice",
        "What an attempt raises while it is being stopped is no definite answer. A task of an alternative plan for "
        "what must not be repeated must not be repeated either.",
        UNKNOWN,
        "what_a_stopped_attempt_raises_while_it_cleans_up_is_no_definite_answer",
        "an_alternative_for_what_must_not_be_repeated_must_not_be_either",
    ),
    promise(
        "What need not happen again",
        "The cache is looked at when a task becomes ready, before it takes a slot; a hit completes it without an "
        "attempt.",
        CACHE,
        "a_hit_completes_the_task_without_an_attempt",
        "the_cache_is_asked_once_and_before_anything_is_started",
        "a_miss_lets_the_task_run",
        "the_next_driver_asks_again",
        "a_hit_while_paused_is_asked_for_again_when_it_is_resumed",
    ),
    promise(
        "What need not happen again",
        "Only successes are stored, in the transaction of the completion, and never those of tasks with "
        "`idempotent: false` or an approval.",
        AGAIN,
        "failures_are_not_cached",
        "what_must_not_be_repeated_is_not_cached",
        "an_equal_task_takes_the_cached_output",
        "other_arguments_or_another_context_are_not_equal",
        "a_cached_output_expires",
    ),
    promise(
        "What need not happen again",
        "a task without an approval is completed by the earlier output when it does the same on the same system "
        "under the same declaration, sees the same context, is fed by the same edges, which deliver as they did, and "
        "all its upstream tasks are reused. Conditions are decided anew.",
        AGAIN,
        "an_edited_dag_runs_only_what_changed_and_what_depends_on_it",
        "another_context_reuses_nothing_and_says_so",
        "a_changed_declaration_is_not_reused",
        "conditions_are_decided_anew_by_reused_outputs",
        "what_shapes_only_how_a_task_runs_may_differ",
    ),
    promise(
        "Drivers and leases",
        "A contender on the same host that sees that process gone takes over at once; anyone else only after seeing "
        "the same count of heartbeats unchanged for one lease length of its own clock.",
        LEASES,
        "a_process_of_this_host_that_is_gone_has_lost_its_leases_at_once",
        "a_driver_elsewhere_has_lost_its_leases_when_its_count_stood_still_for_a_lease_length",
        "a_heartbeat_begins_the_wait_anew",
        "a_server_takes_over_what_a_driver_elsewhere_has_left",
    ),
    promise(
        "Drivers and leases",
        "After any gap longer than a third of the lease a driver renews before it commits or starts anything. What it "
        "has lost meanwhile it lets go: its attempts are ended, their outcomes discarded, and it says so.",
        LEASES,
        "after_a_gap_the_leases_are_renewed_before_anything_is_committed",
        "a_driver_that_lost_its_lease_ends_its_attempts_and_says_so",
    ),
    promise(
        "Drivers and leases",
        "`serve` takes over, at any time, what it can run; the rest stays orphaned and its status names what is "
        "missing or different.",
        LEASES,
        "a_server_leaves_alone_what_it_can_not_run_and_what_is_paused",
    ),
    promise(
        "What must not happen twice",
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
        "a new generation for the chosen failed tasks (all of them when none is chosen), for everything cancelled, and "
        "for what was skipped because of them; completed tasks stay, and so does an optional dependent that ran "
        "without the data.",
        RETRY,
        "a_failed_task_and_what_was_skipped_because_of_it_run_again",
        "a_retry_begins_a_new_generation_and_counts_failures_anew",
        "a_chosen_task_alone_is_retried",
        "a_cancelled_orchestration_goes_on_with_everything_that_was_cancelled",
        "an_optional_dependent_that_ran_without_the_data_stays",
        "a_failed_task_of_an_orchestration_that_goes_on_can_be_retried",
    ),
    promise(
        "Control",
        "A task that failed because an edge can't be decided is retried only with the task before it.",
        RETRY,
        "what_failed_because_an_edge_can_not_be_decided_is_not_retried_by_itself",
    ),
    promise(
        "Control",
        "An orchestration that is longer under way than its `timeout_seconds` is cancelled, paused or not, and ends "
        "`failed`; a retry gives it its whole time again.",
        TIMEOUTS,
        "an_orchestration_that_runs_out_of_its_time_is_cancelled_and_ends_failed",
        "an_orchestrations_time_goes_on_while_nobody_drives_it",
        "a_paused_orchestration_runs_out_of_its_time_too",
        "a_retry_gives_the_orchestration_its_whole_time_again",
    ),
    promise(
        "Control",
        "Whoever drives an orchestration carries a request out: this process; or another one, through a request stored "
        "in the database",
        ASKED,
        "another_process_pauses_and_resumes_what_this_one_drives",
        "another_process_cancels_what_this_one_drives",
        "a_request_is_answered_within_half_a_second",
        "a_request_the_driver_does_not_answer_is_carried_out_by_the_next_one_before_anything_starts",
        "what_nobody_drives_is_paused_and_left_to_nobody",
        "a_failed_orchestration_is_reopened_and_seen_through",
    ),
    promise(
        "Control",
        "A request that does not fit the state is refused with the state and what is possible; nothing changes.",
        ASKED,
        "a_finished_orchestration_refuses_everything_and_says_what_is_possible",
        "what_the_driver_refuses_is_refused_to_the_asker",
        "a_retry_of_a_task_that_is_not_there_is_refused_and_changes_nothing",
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
        "back-offs, approvals, offers, claims, questions and composites hold no slot.",
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
    *PLAN_PROMISES,
    *CLAIM_PROMISES,
)
