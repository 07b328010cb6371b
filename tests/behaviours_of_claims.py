"""Promises of docs/semantics.md about work that is offered, results that are looked at, and how much systems take.

May import: tests.promise.
"""

from __future__ import annotations

from tests.promise import Promise, promise

OFFERED = "Work that is offered"
VERIFIED = "Reported is not verified"
GATES = "How much a system takes"

ENGINE = "unit/test_engine_claims.py"
ODD = "unit/test_engine_claims_in_odd_moments.py"
DESK = "execution/test_claims.py"
ACCEPTED = "execution/test_claims_accepted.py"
STORED = "contract/test_storage_claims.py"
KILLED = "chaos/test_claims_killed.py"
GATE = "unit/test_gates.py"

CLAIM_PROMISES: tuple[Promise, ...] = (
    promise(
        OFFERED,
        "A task of the system `agent` is offered when everything it needs is there: any process gives it to a worker, "
        "in one transaction, whoever drives.",
        DESK,
        "one_orchestrator_drives_and_another_one_gives_out_and_takes_in",
        "twenty_workers_at_once_never_share_a_task",
        "what_needs_a_yes_is_offered_only_after_it",
    ),
    promise(
        OFFERED,
        "An offer and a claim hold no slot; in SIMPLE an offered task holds its place.",
        ENGINE,
        "ready_tasks_are_offered_all_at_once_and_hold_no_slot",
        "a_claim_is_an_attempt_that_holds_no_slot_and_what_it_delivers_goes_on",
        "one_at_a_time_an_offer_waits_for_its_turn_and_holds_its_place",
    ),
    promise(
        OFFERED,
        "What is claimed or reported is durable when the call returns; whoever drives reads of it in its inbox, in "
        "that order, or its successor does.",
        KILLED,
        "claimants_go_on_while_their_driver_is_killed_and_another_one_takes_over",
        "fifty_claimants_in_three_processes_do_a_thousand_offers_once_each",
    ),
    promise(
        OFFERED,
        "The most urgent offer goes first, then the oldest.",
        DESK,
        "the_most_urgent_task_goes_first_and_nobody_gets_one_twice",
        "a_task_is_given_only_to_who_has_the_skills_it_asks_for",
        "a_worker_does_not_get_back_what_it_failed_while_others_are_there",
    ),
    promise(
        OFFERED,
        "A claim is an attempt: its lease begins anew with every report, and it fails when the lease ends, or the "
        "task's own `timeout_seconds`.",
        DESK,
        "any_report_renews_the_lease",
        "a_silent_worker_loses_its_task_to_the_next_one",
        "a_task_may_set_a_lease_of_its_own",
    ),
    promise(
        OFFERED,
        "It never runs out sooner than a lease after somebody took over, nor while the orchestration is paused.",
        ENGINE,
        "a_claim_never_runs_out_sooner_than_a_lease_after_a_takeover",
        "a_paused_orchestration_takes_reports_and_lets_no_claim_run_out",
        "a_claim_that_keeps_reporting_still_ends_with_the_tasks_own_time",
    ),
    promise(
        OFFERED,
        "A brief has at most 3,000 characters: goal, task, inputs as their beginning and where to read on, what must "
        "hold, limits.",
        DESK,
        "a_worker_is_told_all_it_needs_in_3_000_characters_however_much_there_is",
    ),
    promise(
        OFFERED,
        "`failed` is retried after a back-off like any other failure, and counts as a definite answer. `blocked` is "
        "not retried.",
        ENGINE,
        "a_failed_claim_is_retried_after_its_back_off_and_offered_anew_without_the_worker_that_failed",
        "a_blocked_task_is_not_tried_again",
    ),
    promise(
        OFFERED,
        "`release` offers the task again at once: before any progress it was no attempt, after it it uses up a retry.",
        ENGINE,
        "a_release_before_progress_is_no_attempt",
        "a_release_after_progress_uses_up_a_retry",
    ),
    promise(
        OFFERED,
        "A late report counts, and the claim holds again, as long as nobody else has taken the task; else it is "
        "refused, with the name of who has it.",
        DESK,
        "a_late_report_counts_while_nobody_else_has_the_task",
        "a_silent_worker_loses_its_task_to_the_next_one",
        "what_is_cancelled_is_taken_back_at_once_and_its_worker_is_told",
    ),
    promise(
        OFFERED,
        "A report that is repeated is answered as the first one was, and changes nothing.",
        DESK,
        "a_report_that_is_repeated_gets_the_first_answer_and_changes_nothing",
    ),
    promise(
        OFFERED,
        "With `idempotent: false` a claim that runs out leaves the task `unknown`; a late report still settles it.",
        DESK,
        "what_must_not_be_repeated_waits_for_a_decision_when_its_worker_is_silent",
    ),
    promise(
        OFFERED,
        "So does a result that is refused or can't be kept: the worker says that it was done.",
        ODD,
        "what_must_not_be_repeated_is_decided_about_when_its_result_is_refused",
        "what_must_not_be_repeated_is_decided_about_when_its_output_can_not_be_kept",
    ),
    promise(
        OFFERED,
        "A worker may report tasks to be done in place of its own: the claim ends, and the last of them delivers, as "
        "an alternative does, but for the limits.",
        DESK,
        "a_worker_may_put_tasks_in_the_place_of_its_own",
        "subtasks_that_are_no_plan_are_refused_and_the_claim_holds",
    ),
    promise(
        OFFERED,
        "Cancelling takes offers and claims back at once. A claimed task can't be edited; one that is offered can, "
        "which makes another offer of it.",
        ENGINE,
        "a_cancelled_orchestration_takes_offers_and_claims_back_at_once",
        "a_claimed_task_can_not_be_changed",
        "an_offered_task_that_is_changed_is_offered_anew_and_a_claim_of_the_old_offer_is_void",
    ),
    promise(
        OFFERED,
        "`auto` leaves a task to the agent only where whoever submits says that it may be asked; elsewhere only a "
        "task that names `agent` goes there.",
        DESK,
        "a_task_nobody_can_do_is_offered_only_where_that_is_allowed",
    ),
    promise(
        VERIFIED,
        "With `acceptance` a result counts only when all it names holds: a condition over `output`, a JSON Schema, a "
        "tool that fails where it is not right and finds the result as `${output}` and among its inputs.",
        ACCEPTED,
        "what_does_not_hold_is_refused_and_somebody_else_may_try",
        "a_function_may_look_at_a_result",
        "a_command_may_look_at_a_result",
        "what_looks_at_a_result_can_not_change_it",
    ),
    promise(
        VERIFIED,
        "It holds for every system.",
        ACCEPTED,
        "what_any_system_delivers_is_looked_at_and_made_again_where_it_does_not_hold",
        "what_must_not_be_repeated_waits_for_a_decision_when_its_result_is_refused",
    ),
    promise(
        VERIFIED,
        "what a worker reports, while the task is still `claimed`, and again by whoever takes over",
        ENGINE,
        "what_is_reported_done_is_looked_at_before_it_counts",
        "a_reported_result_waits_for_its_check_across_a_takeover",
    ),
    promise(
        VERIFIED,
        "What does not hold fails the attempt as `not_accepted`, retryable. A tool that can't be reached is no refusal",
        ACCEPTED,
        "a_result_that_is_never_right_fails_the_task_and_says_why",
        "what_can_not_be_looked_at_now_is_no_refusal",
    ),
    promise(
        VERIFIED,
        "What `verify` tells, and what the cache holds, is looked at, too: what is not accepted is `unclear` there, "
        "and passed over here.",
        ACCEPTED,
        "what_verify_tells_is_looked_at_too",
        "a_refused_result_is_nobody_s_result_and_a_kept_one_must_hold_for_whoever_uses_it",
    ),
    promise(
        VERIFIED,
        "A refused result is stored nowhere that another task could take it from.",
        ACCEPTED,
        "a_refused_result_is_nobody_s_result_and_a_kept_one_must_hold_for_whoever_uses_it",
    ),
    promise(
        VERIFIED,
        "An alternative's delivering task, and a fallback, must hold the same, unless the alternative says otherwise.",
        ACCEPTED,
        "a_refusal_is_counted_where_the_task_goes_on_elsewhere_at_once",
        "the_last_of_the_tasks_in_place_of_one_must_hold_the_same",
    ),
    promise(
        GATES,
        "A system has at most so many attempts at once, so many starts in a time, and none before a time, as declared "
        "or learned.",
        GATE,
        "no_more_attempts_run_on_a_system_than_it_takes_and_the_rest_hold_no_slot",
        "a_rate_is_never_exceeded_however_the_starts_fall",
        "nothing_starts_on_a_system_before_its_time_and_the_engine_wakes_by_itself",
    ),
    promise(
        GATES,
        "Where several systems have work, one that is more than twice as slow as another gives way once it holds its "
        "share of the slots. Among equals the ranking alone decides.",
        GATE,
        "a_slow_system_gives_way_once_it_holds_its_share_and_takes_the_rest_when_nobody_wants_it",
        "among_systems_that_are_equally_quick_the_ranking_alone_decides",
    ),
    promise(
        GATES,
        "A limit that shrinks lets what runs go on.",
        GATE,
        "a_limit_that_shrinks_lets_what_runs_go_on_and_one_that_grows_starts_more_at_once",
    ),
)
