//! The conformance suite for back ends: one case for each behavior of the [`Store`] trait, each mounted as one test.
//!
//! A back end provides a [`BackEnd`] and calls [`mount_conformance!`](crate::mount_conformance) once. The back end is
//! done when all cases pass. A bug found in one back end becomes a case for all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "the cases are tests, and their names are sentences"
)]

pub mod acting_keys;
pub mod authority;
pub mod callers;
pub mod changes;
pub mod cut_offs;
pub mod durability;
pub mod events;
pub mod following;
pub mod instance_keys;
pub mod instances;
pub mod issue;
pub mod machine_keys;
pub mod machine_lists;
pub mod machines;
pub mod pool;
pub mod revocation;
pub mod room;
pub mod scopes;
pub mod scopes_claim;
pub mod signing_keys;
pub mod sweep;
pub mod token_lists;
pub mod token_updates;
pub mod tokens;
pub mod verification;
mod world;

use std::sync::Arc;

use async_trait::async_trait;

pub use world::World;
#[cfg(test)]
#[allow(unused_imports, reason = "each back end's own tests use some of them")]
pub(crate) use world::{at, change_at, data_keys, some_change};

use crate::Store;

/// A store under test.
#[async_trait]
pub trait BackEnd: Send + Sync {
    /// The store, empty at first.
    fn store(&self) -> Arc<dyn Store>;

    /// Closes the store, which nobody else holds any more, and opens what it left.
    async fn reopen(&mut self);

    /// Opens the same data once more, as another process does. `None` where only one process may have it open.
    async fn second_handle(&self) -> Option<Arc<dyn Store>>;
}

/// Mounts every case as a test of its own: `mount_conformance!(sqlite, make())`, where `make()` is a future of a
/// `Box<dyn BackEnd>`. The expression is evaluated two modules below the place of the call.
#[macro_export]
macro_rules! mount_conformance {
    ($name:ident, $make:expr) => {
        $crate::mount_conformance! { @cases $name, $make,
            authority {
                data_keys_come_back_oldest_first,
                a_second_initialization_is_a_conflict,
                the_clock_floor_never_falls,
                an_idle_store_is_in_order,
                measures_have_names_and_values_that_never_fall,
                nodes_in_use_are_distinct,
            }
            instances {
                a_new_instance_is_found_at_once_with_its_keys,
                instances_are_listed_oldest_first,
                an_instance_id_is_used_once,
                there_is_one_default_instance_at_most,
                a_failed_insertion_leaves_nothing_of_the_instance,
                new_settings_replace_the_old_ones,
                settings_that_changed_meanwhile_are_not_replaced,
                concurrent_changes_of_settings_follow_one_another,
                settings_of_an_unknown_instance_are_not_changed,
                turning_reveal_off_erases_sealed_keys_of_this_instance_only,
                turning_pooling_off_erases_sealed_tokens_of_this_instance_only,
                no_sealed_key_is_kept_where_reveal_is_off,
                no_token_is_pooled_where_pooling_is_off,
            }
            instance_keys {
                an_added_instance_key_is_found,
                instance_keys_are_limited_by_the_live_ones,
                a_revoked_instance_key_is_not_found_and_stays_listed,
                an_instance_key_is_revoked_once,
                the_last_live_instance_key_cannot_be_revoked,
                an_instance_key_of_another_instance_is_not_revoked,
                an_instance_key_digest_is_used_once,
                a_digest_of_another_version_is_not_found,
            }
            scopes_claim {
                the_claim_is_there_since_the_instance_was_created,
                switching_the_claim_sets_its_time_anew,
                other_settings_leave_the_time_of_the_claim,
                a_jwt_from_before_the_claim_names_no_receivers,
            }
            signing_keys {
                a_published_key_is_listed_and_not_active,
                one_signing_key_is_published_at_a_time,
                signing_keys_are_limited,
                activation_makes_the_active_key_verify_only,
                only_a_published_key_is_activated,
                the_active_key_is_not_deleted,
                a_key_counts_as_unused_behind_its_last_jwt_only,
                a_signing_key_id_is_used_once,
                a_signing_key_of_another_instance_is_left_alone,
                a_jwt_moves_the_last_expiry_of_its_key_forwards_only,
            }
            machines {
                a_new_machine_is_found_with_its_scopes_and_key,
                a_machine_with_an_unknown_scope_is_not_made,
                a_scope_to_another_instances_machine_is_unknown,
                a_machine_id_is_used_once,
                a_failed_machine_leaves_no_scope_and_no_change,
                a_machine_of_another_instance_is_not_found,
                an_update_changes_what_is_given_and_moves_the_revision,
                an_empty_update_changes_nothing_and_logs_nothing,
                an_unknown_machine_is_not_updated,
                a_deleted_machine_is_gone_with_keys_and_scopes,
                deletion_takes_the_machine_out_of_its_callers,
                an_unknown_machine_is_not_deleted,
                a_machine_of_another_instance_is_not_changed,
                a_machine_id_is_never_used_again,
            }
            machine_lists {
                machines_are_listed_by_creation_in_both_directions,
                machines_are_listed_by_name_byte_for_byte,
                equal_names_follow_their_ids,
                pages_cover_the_list_without_gap_or_overlap,
                a_query_finds_part_of_a_name_in_any_case,
                a_query_finds_exactly_one_id,
                a_query_takes_wildcards_literally,
                lists_show_machines_of_one_instance_only,
                lists_show_the_scopes_of_each_machine,
            }
            scopes {
                a_new_scope_is_seen_at_once_and_moves_the_revision,
                scopes_are_listed_oldest_first,
                a_scope_exists_once,
                a_scope_needs_both_machines,
                a_scope_within_another_instance_is_refused,
                scopes_are_limited,
                a_deleted_scope_is_gone_at_once,
                an_absent_scope_is_not_deleted,
                concurrent_scopes_are_all_kept_in_both_places,
            }
            machine_keys {
                a_machine_key_is_found_by_its_digest,
                a_machine_key_digest_is_used_once,
                a_machine_key_id_names_one_key_of_a_machine,
                rotation_limits_the_life_of_older_keys,
                rotation_never_lengthens_a_life,
                rotation_with_no_overlap_deletes_the_older_keys,
                rotation_drops_the_oldest_keys_beyond_the_limit,
                rotation_of_another_instances_machine_is_refused,
                reveal_shows_the_newest_key_and_is_logged,
                reveal_of_a_key_without_a_sealed_copy_is_not_logged,
                reveal_of_another_instances_machine_finds_nothing,
                expired_machine_keys_are_deleted,
            }
            callers {
                an_instance_key_is_found_with_its_instance,
                a_revoked_instance_key_finds_nobody,
                a_machine_key_is_found_with_its_machine_and_instance,
                a_caller_is_as_it_is_now,
                a_key_of_a_deleted_machine_finds_nobody,
                an_expired_machine_key_is_found,
            }
            tokens {
                a_new_token_is_found_at_once,
                a_token_is_not_found_from_another_instance,
                a_token_is_found_in_any_instance,
                a_token_shows_the_state_of_its_signing_key,
                a_token_locator_is_used_once,
                tokens_vanish_with_their_machine,
                everything_about_a_token_comes_back,
                last_uses_are_kept_and_never_go_back,
            }
            issue {
                a_token_of_a_changed_machine_is_refused,
                a_token_of_a_deleted_machine_is_refused,
                a_token_of_a_key_that_is_gone_is_refused,
                a_token_of_an_expired_key_is_refused,
                a_key_of_another_machine_issues_nothing,
                a_deleted_machine_key_issues_nothing_after_reopening,
                a_token_of_changed_settings_is_refused,
                a_jwt_needs_its_signing_key,
                a_jwt_of_another_instances_key_is_refused,
            }
            pool {
                an_equal_request_gets_the_same_token,
                the_token_with_most_life_left_is_used_again,
                a_token_with_too_little_life_is_not_used_again,
                a_token_with_another_key_is_not_used_again,
                another_machines_token_is_not_used_again,
                a_revoked_token_is_not_used_again,
                an_updated_token_is_not_used_again,
                an_expired_token_is_not_used_again,
                a_token_without_end_is_used_again,
                a_changed_machine_gets_no_token_from_the_pool,
                concurrent_equal_requests_converge,
                a_full_machine_gets_an_equal_token_and_no_other,
                expired_sealed_tokens_are_erased,
            }
            token_lists {
                tokens_are_listed_newest_first_in_pages,
                dead_tokens_are_listed_on_request,
                jwts_are_listed_on_request,
                tokens_of_another_instance_are_not_listed,
            }
            token_updates {
                an_update_changes_claims_and_expiry,
                an_update_may_take_claims_and_expiry_away,
                an_update_may_revoke,
                a_dead_token_is_not_updated,
                a_jwt_is_not_updated,
                a_token_of_someone_else_is_not_updated,
            }
            revocation {
                a_revoked_token_is_seen_at_once,
                the_first_revocation_is_kept,
                a_token_is_revoked_by_its_whole_id,
                a_token_is_revoked_by_its_owner_only,
                a_token_of_another_instance_is_not_revoked,
            }
            cut_offs {
                ended_tokens_show_their_cut_off,
                a_cut_off_is_one_record_and_is_there_after_reopening,
                tokens_of_nothing_are_not_ended,
                ended_tokens_leave_the_pool,
                a_token_that_is_older_than_the_cut_off_never_enters_the_pool,
                sealed_copies_of_ended_tokens_are_erased,
                ended_tokens_are_listed_on_request,
                an_ended_token_is_not_updated,
                a_token_of_the_cut_off_or_later_is_good,
                a_token_that_was_prepared_before_a_cut_off_is_refused,
                a_second_cut_off_at_the_same_time_lies_later,
                a_cut_off_of_either_kind_lies_behind_those_of_the_other_kind,
            }
            room {
                ended_tokens_make_room_and_live_ones_stay,
                tokens_before_a_cut_off_make_room,
                nothing_goes_below_the_limit,
                tokens_are_counted_up_to_the_limit,
                jwts_count_like_opaque_tokens,
                a_revoked_jwt_makes_no_room_while_receivers_must_know,
                room_is_made_within_one_machine,
                the_oldest_ended_tokens_make_room_first,
            }
            sweep {
                a_sweep_deletes_what_ended_long_enough_ago,
                a_sweep_deletes_tokens_of_deleted_machines,
                a_sweep_goes_on_where_it_stopped,
                a_sweep_keeps_a_revoked_jwt_until_receivers_may_forget_it,
                a_sweep_leaves_what_was_cut_off_until_it_expires,
            }
            verification {
                a_verification_shows_the_caller_and_the_token,
                a_verification_finds_no_token_of_another_instance,
                a_verification_shows_each_change_at_once,
                a_verification_shows_the_state_of_the_signing_key,
                a_verification_reflects_every_acknowledged_record,
            }
            changes {
                changes_are_numbered_without_gaps_for_each_instance,
                every_code_covers_the_record_before,
                concurrent_changes_are_chained,
                changes_are_read_in_parts,
                refused_operations_leave_no_record,
                records_come_back_as_they_were,
                instances_and_the_authority_have_logs_of_their_own,
            }
            events {
                initialization_is_recorded_with_the_authority,
                each_change_of_an_instance_is_one_record,
                each_change_of_an_instance_key_is_one_record,
                each_change_of_a_signing_key_is_one_record,
                each_change_of_a_machine_is_one_record,
                each_change_of_a_machine_key_is_one_record,
                each_change_of_a_scope_is_one_record,
                each_change_of_a_token_is_one_record,
                an_update_that_revokes_is_recorded_as_a_revocation,
                an_issue_is_recorded_where_somebody_else_asked,
            }
            acting_keys {
                a_revoked_instance_key_changes_nothing,
                an_instance_key_may_revoke_itself,
                a_machine_key_that_ended_changes_nothing,
                a_gone_key_is_told_only_where_something_would_change,
            }
            following {
                a_cursor_of_the_log_is_read_on_from,
                a_cursor_that_the_log_does_not_contain_is_told_apart,
                the_head_is_the_place_of_the_last_record,
                nobody_waits_where_there_is_more,
                a_waiting_reader_is_woken_and_finds_the_record,
                an_acknowledged_record_is_counted_and_listed,
                a_refused_operation_wakes_nobody,
            }
            durability {
                everything_is_there_after_reopening,
                a_revocation_is_there_after_reopening,
                sequence_and_revision_go_on_after_reopening,
                readers_never_see_an_older_state_than_was_acknowledged,
                many_writers_are_all_acknowledged_and_kept,
            }
        }
    };
    (@cases $name:ident, $make:expr, $($noun:ident { $($case:ident,)* })*) => {
        mod $name {
            $(mod $noun {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        let world = $crate::conformance::World::new($make.await).await;
                        $crate::conformance::$noun::$case(world).await;
                    }
                )*
            })*
        }
    };
}
