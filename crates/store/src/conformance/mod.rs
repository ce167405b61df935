//! What every back end must do: one case for each behaviour of the [`Store`] trait, mounted as one test each.
//!
//! A back end provides a [`BackEnd`] and calls [`mount_conformance!`](crate::mount_conformance) once. It is done when all cases pass; a
//! fault found in one becomes a case for all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "the cases are tests, and their names are sentences"
)]

pub mod authority;
pub mod changes;
pub mod durability;
pub mod instances;
pub mod machine_keys;
pub mod machines;
pub mod pool;
pub mod scopes;
pub mod signing_keys;
pub mod tokens;
mod world;

use std::sync::Arc;

use async_trait::async_trait;

pub use world::World;
#[cfg(test)]
pub(crate) use world::{at, data_keys, some_change};

use crate::Store;

/// A store under test.
#[async_trait]
pub trait BackEnd: Send + Sync {
    /// The store, empty at first.
    fn store(&self) -> Arc<dyn Store>;

    /// Ends the store, which nobody else holds on to any more, and opens what it left.
    async fn reopen(&mut self);
}

/// Mounts every case as a test of its own: `mount_conformance!(sqlite, make())`, where `make()` is a future of a
/// `Box<dyn BackEnd>`. The expression is evaluated two modules below the place of the call.
#[macro_export]
macro_rules! mount_conformance {
    ($name:ident, $make:expr) => {
        $crate::mount_conformance! { @cases $name, $make,
            authority {
                data_keys_come_back_oldest_first,
                a_second_initialisation_is_a_conflict,
                the_clock_floor_never_falls,
                an_idle_store_is_in_order,
                statistics_count_commits_and_reads,
            }
            instances {
                a_new_instance_is_found_at_once_with_its_keys,
                instances_are_listed_oldest_first,
                an_instance_id_is_used_once,
                a_failed_insertion_leaves_nothing_of_the_instance,
                new_settings_replace_the_old_ones,
                settings_that_changed_meanwhile_are_not_replaced,
                concurrent_changes_of_settings_follow_one_another,
                settings_of_an_unknown_instance_are_not_changed,
                turning_reveal_off_erases_sealed_keys_of_this_instance_only,
                turning_pooling_off_erases_sealed_tokens_of_this_instance_only,
                no_sealed_key_is_kept_where_reveal_is_off,
                no_token_is_pooled_where_pooling_is_off,
                an_added_instance_key_is_found,
                instance_keys_are_limited_by_the_live_ones,
                a_revoked_instance_key_is_not_found_and_stays_listed,
                an_instance_key_is_revoked_once,
                the_last_live_instance_key_cannot_be_revoked,
                an_instance_key_of_another_instance_is_not_revoked,
                an_instance_key_digest_is_used_once,
                a_digest_of_another_version_is_not_found,
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
                a_machine_number_is_never_used_again,
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
                rotation_limits_the_life_of_older_keys,
                rotation_never_lengthens_a_life,
                rotation_with_no_overlap_deletes_the_older_keys,
                rotation_drops_the_oldest_keys_beyond_the_limit,
                rotation_of_another_instances_machine_is_refused,
                reveal_shows_the_newest_key_and_is_logged,
                reveal_of_a_key_without_a_sealed_copy_is_not_logged,
                reveal_of_another_instances_machine_finds_nothing,
                keys_that_are_over_are_deleted,
            }
            tokens {
                a_new_token_is_found_at_once,
                a_token_is_not_found_from_another_instance,
                a_token_locator_is_used_once,
                a_token_of_a_changed_machine_is_refused,
                a_token_of_a_deleted_machine_is_refused,
                tokens_vanish_with_their_machine,
                a_token_of_a_key_that_is_gone_is_refused,
                a_token_of_a_key_that_is_over_is_refused,
                a_key_of_another_machine_issues_nothing,
                a_machine_key_number_is_never_used_again,
                a_jwt_needs_its_signing_key,
                a_jwt_of_another_instances_key_is_refused,
                everything_about_a_token_comes_back,
                tokens_are_listed_newest_first_in_pages,
                dead_tokens_are_listed_on_request,
                jwts_are_listed_on_request,
                tokens_of_another_instance_are_not_listed,
                a_revoked_token_is_seen_at_once,
                the_first_revocation_is_kept,
                a_token_is_revoked_by_its_whole_id,
                a_token_is_revoked_by_its_owner_only,
                a_token_of_another_instance_is_not_revoked,
                an_update_changes_claims_and_expiry,
                an_update_may_take_claims_and_expiry_away,
                an_update_may_revoke,
                a_dead_token_is_not_updated,
                a_jwt_is_not_updated,
                a_token_of_someone_else_is_not_updated,
                last_uses_are_kept_and_never_go_back,
                a_sweep_deletes_what_was_over_long_enough,
                a_sweep_deletes_tokens_of_deleted_machines,
                a_sweep_goes_on_where_it_stopped,
                live_tokens_are_limited_and_dead_ones_make_room,
                jwts_count_like_opaque_tokens,
                a_machine_keeps_no_more_tokens_than_it_may_hold,
                nothing_is_deleted_where_a_sweep_made_room,
                nobody_is_refused_while_room_is_made,
                a_lower_limit_teaches_nothing_about_a_higher_one,
                the_limit_holds_under_concurrency,
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
                expired_sealed_tokens_are_erased,
            }
            changes {
                changes_are_numbered_without_gaps_for_each_instance,
                every_code_covers_the_entry_before,
                refused_operations_leave_no_entry,
                concurrent_changes_are_chained,
                changes_are_read_in_parts,
                entries_come_back_as_they_were,
                a_revoked_instance_key_changes_nothing,
                an_instance_key_may_revoke_itself,
                a_machine_key_that_ended_changes_nothing,
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
