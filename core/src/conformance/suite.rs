//! The list of the cases, and the macro that makes a test of each.

/// Makes a module `$name` with one `#[test]` per case of the [suite](crate::conformance), for the engine that
/// `$make` makes; the groups that apply to it follow.
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $make:expr $(, $group:ident)* $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn make() -> ::std::sync::Arc<dyn $crate::engine::Engine> {
                ($make)()
            }

            /// The groups that are named are those that apply.
            #[test]
            fn named_groups_are_the_capabilities() {
                $crate::conformance::check_groups(&make, &[$(stringify!($group)),*]);
            }

            $crate::conformance_cases!([$($group)*]);
        }
    };
}

/// The list of the suite: group, file, cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($named:tt) => {
        $crate::conformance_group! { always $named
            storing:
                insert_stores
                insert_keeps_every_field
                insert_adds_nothing
                a_known_id_is_a_duplicate
                a_batch_may_repeat_itself
                a_restored_job_keeps_its_past
                an_unknown_id_is_nothing
                payloads_come_back_as_they_went
                counts_know_each_state
                queues_are_counted_apart;
            contract:
                a_success_is_kept
                a_failure_is_kept
                final_states_are_final
                a_stale_fence_changes_nothing
                the_fence_only_grows
                a_transition_names_where_the_job_stands
                again_without_delay_is_queued
                a_job_that_keeps_its_place_stands_where_it_stood
                what_is_passed_on_does_not_time_out
                attempts_leave_a_history
                a_success_is_an_attempt
                a_turn_answers_each_transition
                a_turn_ends_and_claims
                a_request_to_cancel_is_kept
                a_request_to_cancel_names_a_claim
                a_paused_queue_gives_nothing_out;
            batches:
                a_batch_is_applied_whole
                a_batch_is_refused_whole
                a_refused_batch_says_why
                a_repeated_insert_is_no_conflict
                the_last_token_unblocks
                one_batch_may_bring_all_tokens;
            bells:
                what_can_be_claimed_rings
                each_job_rings_once
                what_makes_room_rings
                room_is_announced_to_all
                an_earlier_due_time_rings
                the_end_of_a_job_rings;
            sealing:
                a_sealed_engine_changes_nothing
                a_seal_misses_nothing
                close_is_idempotent
                each_engine_is_empty;
            claims:
                equal_jobs_are_claimed_in_order
                higher_priorities_go_first
                an_urgent_job_overtakes
                a_job_that_comes_back_stands_behind
                a_claim_keeps_to_its_limit
                a_claim_names_its_queue
                kinds_not_asked_for_stay
                allowances_are_counted_down
                the_first_claim_fills_in
                a_claim_says_when_it_is_due
                each_job_has_one_holder;
            capacity:
                a_full_queue_refuses
                only_waiting_jobs_take_room
                a_job_that_comes_back_is_not_refused
                no_capacity_is_no_bound
                capacity_is_exact_among_pushers
                a_refused_push_gives_the_job_back
                a_batch_says_how_far_it_came
                queues_have_capacities_of_their_own
                a_blocked_push_goes_on
                a_blocked_push_gives_up
                pushers_of_two_queues_both_go_on
                a_small_queue_lets_everyone_through
                a_stop_ends_the_wait_for_room;
            keys:
                a_key_makes_one_job
                a_conflict_ends_the_insert
                a_key_is_freed_by_cancelling
                a_key_is_held_until_the_body_ends
                another_job_under_the_key_is_a_conflict
                many_pushes_of_a_key_make_one_job
                a_key_has_one_holder
                a_job_is_found_by_its_key
                a_repeated_id_changes_nothing;
            listing:
                pages_show_each_job_once
                pages_are_stable
                a_bad_page_size_is_refused
                a_page_after_an_unknown_id_is_not_the_first
                an_export_ends_with_the_first_error
                an_export_is_of_one_instant;
            time:
                a_start_in_the_past_means_now
                a_lost_lease_is_not_extended
                upkeep_says_when_to_come_again
                a_wait_may_be_too_short;
            retry:
                jitter_spreads_the_pauses
                the_default_number_of_attempts
                the_nearer_word_counts
                zero_attempts_are_refused
                the_pause_that_counts_is_checked
                a_fatal_failure_ends_the_job;
            limits:
                bodies_are_limited_in_all
                bodies_are_limited_per_queue
                bodies_are_limited_per_kind
                an_empty_claim_costs_no_slot
                limits_can_be_changed
                a_limit_that_comes_back_still_counts
                a_limit_of_zero_is_refused
                a_free_slot_wakes_who_waits
                each_kind_wakes_its_own_consumer
                a_consumer_that_waits_is_woken
                a_batch_wakes_many
                a_batch_wakes_many_of_one_set
                queues_take_turns
                a_consumer_may_name_its_queues;
            life:
                a_job_has_a_state_at_once
                a_result_is_read_by_id
                an_error_is_read_by_id
                an_unknown_id_is_not_found
                one_slot_keeps_the_order
                priorities_count
                json_comes_through_exactly
                names_are_only_names
                payloads_have_a_limit
                a_bad_answer_is_a_failure_with_a_reason
                a_batch_is_checked_first
                a_batch_that_is_given_away_keeps_what_was_not_taken
                nothing_leaks_between_jobs
                a_dropped_lease_is_a_failed_attempt
                a_handler_may_cancel_its_job
                follow_ups_come_with_the_answer
                a_hook_that_panics_changes_nothing
                a_panic_is_a_failed_attempt
                a_panic_may_carry_anything
                a_full_event_buffer_brakes_nothing
                a_wait_returns_at_the_end
                the_pusher_may_make_the_id
                a_kind_may_be_declared_late
                an_unknown_kind_may_be_refused
                a_job_may_wait_for_tokens;
            manage:
                a_running_job_is_cancelled_when_its_body_ends
                a_finished_job_is_not_cancelled
                a_cancellation_races_a_success
                a_paused_queue_starts_nothing
                paused_before_the_first_claim
                the_length_is_what_waits
                a_purge_ends_what_waits
                a_purge_ends_all_pages
                stats_add_up
                explain_names_the_limit
                explain_tells_of_a_queue
                a_finished_job_is_retried
                a_retry_is_made_once
                a_retry_may_have_another_input
                what_is_not_over_is_not_retried
                cancelling_is_told
                bad_configuration_is_refused;
            news:
                a_log_is_told_in_words
                a_log_may_call_the_dispatcher
                a_log_that_panics_changes_nothing
                a_log_is_let_go_once
                a_stream_has_a_descriptor
                what_was_there_before_is_told_first
                pressure_is_told_whatever_the_level;
            readiness:
                a_descriptor_says_that_there_is_a_job
                a_job_is_announced_to_one_descriptor
                every_kind_reaches_its_descriptor
                what_lets_a_job_start_is_announced
                a_free_slot_is_announced
                a_slot_is_kept_for_a_descriptor
                a_consumer_that_goes_passes_it_on
                a_stop_is_announced
                an_interrupt_is_announced
                a_descriptor_does_not_keep_from_waiting
                a_crowd_waits_for_descriptors;
            watching:
                each_end_is_told_once
                what_has_ended_is_told_at_once
                what_is_removed_is_not_told
                a_watcher_has_a_descriptor
                what_is_forgotten_is_told
                a_stop_ends_the_watch
                an_end_counts_however_late_the_look
                a_crowd_is_watched;
            stop:
                a_stopped_dispatcher_only_answers_questions
                what_outlives_the_grace_is_handed_back
                what_is_handed_back_comes_first
                an_interrupted_attempt_may_count
                stopping_twice_is_stopping_once
                what_ends_within_the_grace_is_recorded
                a_request_to_stop_returns_at_once
                a_lease_dropped_at_a_stop_goes_back
                a_stop_ends_every_wait
                a_claim_under_way_is_waited_for
                a_claim_under_way_is_handed_back
                an_empty_claim_under_way_holds_nothing_up
                a_drain_waits_for_the_last_job
                a_push_into_a_broken_store_fails
                a_claim_from_a_broken_store_fails
                follow_ups_into_a_broken_store_fail_whole;
            dump:
                restoring_twice_changes_nothing
                finished_jobs_stay_finished
                a_dump_may_join_others
                a_restored_key_may_be_taken
                a_running_job_is_restored_with_one_attempt_less
                a_job_that_kills_its_process_fails_in_the_end
                a_spent_job_is_not_handed_out
                a_cancelled_job_is_not_restored_to_run
                a_stop_and_its_dump_lose_and_repeat_nothing
                a_cut_dump_is_refused
                a_flipped_bit_is_noticed
                moved_lines_are_noticed
                a_newer_dump_is_refused
                what_is_no_dump_is_refused
                a_failed_dump_leaves_the_former
                a_dump_in_the_midst_of_work_is_whole
                extremes_survive_a_dump;
            terms:
                a_term_has_one_holder
                a_term_is_given_once;
            crowd:
                large_payloads_all_arrive
                every_snapshot_adds_up
                a_stop_in_a_crowd_loses_nothing
                many_names_are_told_apart;
            flows:
                a_concurrency_key_is_kept;
            law:
                every_operation_keeps_the_law
                a_crowd_keeps_the_law;
            pressure:
                pressure_is_the_share_of_jobs
                shed_jobs_are_shown
                a_restore_sheds_nothing;
            newcomer:
                a_newcomer_is_shed
                a_shed_newcomer_holds_no_key
                a_shed_newcomer_is_known_by_its_id
                a_batch_sheds_what_does_not_fit
                a_shed_newcomer_takes_no_room;
            overflow:
                a_policy_may_be_to_wait
                options_that_cannot_be_kept_are_refused;
        }
        $crate::conformance_group! { given_time $named
            contract:
                a_waiting_job_can_be_ended;
            claims:
                a_claimed_job_runs;
            keys:
                a_key_is_freed_by_forgetting
                a_key_survives_retries;
            listing:
                each_filter_alone_and_together
                every_state_can_be_listed
                an_export_shows_what_is_unfinished;
            time:
                a_scheduled_job_is_never_early
                due_jobs_are_queued_in_order
                a_promoted_job_stands_behind
                an_unblocked_job_still_waits_for_its_time
                time_does_not_unblock
                a_pause_counts_from_now
                overdue_jobs_are_reported
                reports_keep_to_their_limit
                the_sooner_end_is_the_cause
                a_deadline_finds_every_waiting_job
                a_deadline_lets_the_attempt_end
                no_attempt_starts_after_the_deadline
                an_extended_lease_ends_later
                a_lease_can_be_shortened
                finished_jobs_are_forgotten_by_age
                the_oldest_finished_jobs_go_first
                a_now_that_goes_back_harms_nothing
                a_clock_that_jumps_ahead_ends_what_is_due
                a_forgotten_job_is_not_found
                delays_hold_no_slot
                endless_delays_do_not_wrap
                an_attempt_that_takes_too_long
                a_timed_out_body_holds_its_slot
                every_slow_body_times_out
                a_job_past_its_deadline_expires
                an_attempt_that_ends_past_the_deadline_was_the_last
                a_lost_lease_is_an_attempt
                a_slow_handler_extends_its_lease;
            retry:
                three_attempts_are_three
                linear_backoff_grows_by_the_gap
                exponential_backoff_doubles_to_its_cap
                no_backoff_is_no_pause
                endless_attempts_need_a_pause
                a_handler_may_ask_to_run_again
                a_snooze_does_not_count
                between_attempts_a_job_is_retrying
                a_storm_of_retries_comes_back_whole;
            limits:
                a_lost_lease_keeps_its_slot;
            life:
                a_late_answer_has_no_follow_ups
                the_history_tells_of_each_attempt
                hooks_see_each_attempt_and_the_end
                a_hook_may_not_wait_for_itself
                events_tell_of_a_life
                a_wait_ends_with_every_end
                times_are_those_of_the_clock;
            pressure:
                pressure_counts_the_wait
                a_shed_job_is_forgotten_in_time;
            overload:
                not_now_is_no_failure
                a_queue_starts_at_its_rate
                a_kind_starts_at_its_rate
                an_empty_claim_uses_up_no_rate
                a_rate_wakes_who_waits
                a_standing_queue_sheds
                a_queue_that_recovers_sheds_no_more
                a_burst_is_no_overload
                a_sojourn_begins_when_a_job_may_start
                retries_keep_to_their_budget
                a_budget_has_a_floor
                who_is_told_to_wait_pays_once
                a_breaker_opens_probes_and_closes
                a_breaker_hears_only_of_what_was_called
                an_adaptive_limit_keeps_to_its_bounds
                an_adaptive_limit_may_be_fixed
                the_smaller_limit_of_a_kind_holds;
            manage:
                a_waiting_job_is_cancelled_at_once
                a_cancelled_job_that_times_out_is_cancelled
                a_pause_holds_what_becomes_ready
                long_waiting_jobs_are_found
                explain_says_why;
            readiness:
                what_is_due_is_announced;
            watching:
                an_expiry_is_told;
            stop:
                nothing_loops_behind_a_stop
                a_drain_hears_of_every_end
                an_answer_into_a_broken_store_fails;
            dump:
                a_dump_keeps_everything
                a_dump_keeps_the_order
                restored_jobs_go_on;
            terms:
                a_term_ends_with_its_time;
            crowd:
                a_crowd_keeps_every_promise;
            model:
                the_engine_follows_the_model;
        }
        $crate::conformance_group! { alone $named
            pressure:
                watermarks_are_told_in_turns;
        }
        $crate::conformance_group! { evicts $named
            watching:
                an_eviction_is_told;
            overflow:
                the_oldest_makes_room
                the_oldest_became_ready_first
                who_waits_for_a_shed_job_is_told
                nothing_to_evict_sheds_the_newcomer
                the_lowest_makes_room
                a_sample_of_none_and_of_all
                a_sample_keeps_its_share
                each_queue_sheds_by_its_own_policy
                a_lower_bound_holds_at_the_next_push
                a_batch_makes_room_for_itself
                what_comes_back_is_not_shed
                an_eviction_ends_one_job
                an_eviction_keeps_to_what_is_queued
                the_newest_may_go_first
                a_bound_is_exact_while_it_sheds
                what_is_evicted_is_never_run;
            overload:
                the_newest_go_first_while_overloaded;
        }
        $crate::conformance_group! { weighs $named
            weight:
                bytes_are_bounded_exactly
                both_bounds_hold
                all_that_waits_is_weighed
                a_batch_is_weighed_whole
                bytes_are_exact_among_pushers
                a_refusal_names_the_bytes
                a_push_waits_for_enough_room
                a_bound_counts_what_waits_already;
            pressure:
                pressure_counts_bytes;
        }
        $crate::conformance_group! { evicts_and_weighs $named
            weight:
                bytes_are_given_back_once
                no_byte_is_lost_or_found
                as_many_go_as_are_in_the_way
                what_can_never_fit_is_refused;
        }
        $crate::conformance_group! { flows $named
            flows:
                keys_take_turns
                jobs_without_a_key_are_one_flow
                a_noisy_key_starves_nobody
                a_higher_priority_takes_no_turns
                a_job_comes_back_to_its_own_flow
                turns_pass_over_kinds_not_asked_for
                a_key_runs_no_more_than_it_may
                an_overdue_attempt_counts_until_it_is_decided
                a_key_that_goes_on_rings
                one_key_may_have_its_own_limit
                a_key_stands_where_its_jobs_stand
                key_limits_hold_in_a_crowd
                a_key_starts_at_its_rate
                only_what_starts_uses_the_rate;
            overload:
                a_queue_limits_its_keys
                a_queue_has_a_rate_for_each_key
                each_key_has_its_own_breaker
                a_key_whose_job_is_shed_goes_on;
        }
        $crate::conformance_group! { coalesces $named
            flows:
                the_first_of_a_key_is_evicted
                the_fattest_flow_makes_room
                a_newer_job_takes_the_place_of_its_key
                a_batch_coalesces_one_by_one
                coalescing_is_exact_among_pushers;
        }
        $crate::conformance_group! { host_objects $named
            payloads:
                a_host_object_travels_by_reference
                a_dump_names_what_it_cannot_encode
                a_dump_holds_what_was_accepted
                a_key_needs_bytes;
            dump:
                dumps_to_one_path_do_not_meet;
        }
        $crate::conformance_group! { encodes $named
            payloads:
                an_object_is_encoded_at_the_push
                a_result_is_encoded_at_the_end;
        }
    };
}

/// One group: its cases run if it is among the named ones, and are ignored otherwise.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_group {
    (always $named:tt $($file:ident: $($case:ident)*;)*) => {
        $($(
            #[test]
            fn $case() {
                $crate::conformance::$file::$case(&make);
            }
        )*)*
    };
    (given_time [given_time $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (host_objects [host_objects $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (encodes [encodes $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (alone [alone $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (evicts [evicts $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (weighs [weighs $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (evicts_and_weighs [evicts_and_weighs $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (flows [flows $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    (coalesces [coalesces $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!(always [] $($cases)*);
    };
    ($group:ident [$other:ident $($rest:ident)*] $($cases:tt)*) => {
        $crate::conformance_group!($group [$($rest)*] $($cases)*);
    };
    ($group:ident [] $($file:ident: $($case:ident)*;)*) => {
        $($(
            #[test]
            #[ignore = "belongs to a group that does not apply to this engine"]
            fn $case() {
                $crate::conformance::$file::$case(&make);
            }
        )*)*
    };
}
