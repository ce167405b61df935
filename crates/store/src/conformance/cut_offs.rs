//! Ending all tokens of a machine or an instance.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;
use countersign_protocol::time::Timestamp;

use super::token_lists::{everything, list, query};
use super::world::{World, at, change_at, some_change};
use crate::{InsertToken, MachineRow, NewToken, RevokeToken, TokenQuery, TokenUpdate, UpdateToken};

/// What ends tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    Machine,
    Instance,
}

const BOTH: [Of; 2] = [Of::Machine, Of::Instance];

/// Ends the tokens and returns the cut-off. Tokens that are made from then on know the instance's new revision.
async fn end(world: &World, of: Of, machine: &MachineRow, millis: i64) -> Timestamp {
    let (instance, change) = (machine.instance, change_at(millis));
    let cut_off = match of {
        Of::Machine => {
            world
                .store
                .end_machine_tokens(instance, machine.id, change)
                .await
        }
        Of::Instance => world.store.end_instance_tokens(instance, change).await,
    };
    world.current_instance(instance).await;
    cut_off.unwrap().unwrap()
}

async fn machine(world: &World) -> (InstanceId, Arc<MachineRow>) {
    let instance = world.instance().await;
    (instance, world.machine(instance, "a").await)
}

pub async fn ended_tokens_show_their_cut_off(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let neighbor = world.machine(instance, "b").await;
        let (_, stranger) = self::machine(&world).await;
        let mut ids = Vec::new();
        for created_at in [0, 100] {
            for token in [world.new_token(&machine), world.new_jwt(&machine)] {
                let token = NewToken {
                    created_at: at(created_at),
                    ..token
                };
                ids.push(world.issue(token).await);
            }
        }
        let neighbors = world.token(&neighbor).await;
        let strangers = world.token(&stranger).await;
        let before = world.current_instance(instance).await;
        let cut_off = end(&world, of, &machine, 100).await;
        assert!(
            cut_off > at(100),
            "tokens of the same millisecond end as well"
        );
        let world = &world;
        let cut_off_of = async |instance, id| {
            let found = world.find(instance, id).await.unwrap();
            let anywhere = world.store.find_token(found.row.id.locator()).await;
            assert_eq!(anywhere.unwrap().unwrap().cut_off_at(), found.cut_off_at());
            found.cut_off_at()
        };
        for id in &ids {
            assert_eq!(cut_off_of(instance, *id).await, Some(cut_off));
            // The tokens themselves are not changed.
            assert_eq!(world.find(instance, *id).await.unwrap().row.revoked, None);
        }
        let expected = (of == Of::Instance).then_some(cut_off);
        assert_eq!(cut_off_of(instance, neighbors).await, expected);
        assert_eq!(cut_off_of(stranger.instance, strangers).await, None);
        let (now, instance_now) = (
            world.current(&machine).await,
            world.current_instance(instance).await,
        );
        assert_eq!(now.updated_at, machine.updated_at);
        match of {
            Of::Machine => {
                assert_eq!(
                    (now.issued_before, now.revision),
                    (Some(cut_off), machine.revision + 1)
                );
                assert_eq!(instance_now, before);
            }
            Of::Instance => {
                assert_eq!(instance_now.issued_before, Some(cut_off));
                assert_eq!(instance_now.revision, before.revision + 1);
                assert_eq!(now, machine);
            }
        }
    }
}

pub async fn a_cut_off_is_one_record_and_is_there_after_reopening(world: World) {
    let mut world = world;
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(world.token(&machine).await);
        }
        let cut_off = end(&world, of, &machine, 9).await;
        assert_eq!(world.changes(instance).await.len(), 3);
        world = world.reopen().await;
        for id in ids {
            let found = world.find(instance, id).await.unwrap();
            assert_eq!(found.cut_off_at(), Some(cut_off));
        }
        assert_eq!(world.changes(instance).await.len(), 3);
        // Only what is newer than the cut-off is good, and a later one ends that, too.
        assert!(end(&world, of, &machine, 9).await > cut_off);
    }
}

pub async fn tokens_of_nothing_are_not_ended(world: World) {
    let (instance, machine) = machine(&world).await;
    let other = world.instance().await;
    let store = &world.store;
    let ended = store
        .end_machine_tokens(other, machine.id, some_change())
        .await;
    assert_eq!(ended.unwrap(), None);
    let ended = store
        .end_machine_tokens(instance, world.machine_id(), some_change())
        .await;
    assert_eq!(ended.unwrap(), None);
    let unknown = world.instance_id();
    let ended = store.end_instance_tokens(unknown, some_change()).await;
    assert_eq!(ended.unwrap(), None);
    assert_eq!(world.current(&machine).await, machine);
    for (id, count) in [(instance, 2), (other, 1), (unknown, 0)] {
        assert_eq!(world.changes(id).await.len(), count);
    }
}

pub async fn ended_tokens_leave_the_pool(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let neighbor = world.machine(instance, "b").await;
        let first = world.issue(world.new_pooled(&machine, 1, 0)).await;
        let neighbors = world.issue(world.new_pooled(&neighbor, 1, 0)).await;
        let cut_off = end(&world, of, &machine, 100).await;
        let pooled = |machine: &Arc<MachineRow>| NewToken {
            created_at: cut_off,
            ..world.new_pooled(machine, 1, 0)
        };
        let current = world.current(&machine).await;
        let second = world.issue(pooled(&current)).await;
        let outcome = world.store.insert_token(pooled(&current)).await.unwrap();
        let InsertToken::Reused { token, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(token.row.id, second);
        assert!(token.cut_off_at().is_none() && first != second);
        let outcome = world.store.insert_token(pooled(&neighbor)).await.unwrap();
        match (of, outcome) {
            (Of::Machine, InsertToken::Reused { token, .. }) => assert_eq!(token.row.id, neighbors),
            (Of::Instance, InsertToken::Inserted) => {}
            (_, outcome) => panic!("{outcome:?}"),
        }
    }
}

pub async fn a_token_that_is_older_than_the_cut_off_never_enters_the_pool(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let cut_off = end(&world, of, &machine, 100).await;
        let current = world.current(&machine).await;
        // The clock of the process that issues it is behind.
        let late = || NewToken {
            created_at: at(50),
            ..world.new_pooled(&current, 1, 0)
        };
        for _ in 0..2 {
            let id = world.issue(late()).await;
            let found = world.find(instance, id).await.unwrap();
            assert_eq!(found.cut_off_at(), Some(cut_off));
        }
        let good = NewToken {
            created_at: cut_off,
            ..world.new_pooled(&current, 1, 0)
        };
        let good = world.issue(good).await;
        let outcome = world.store.insert_token(late()).await.unwrap();
        let InsertToken::Reused { token, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(token.row.id, good);
    }
}

pub async fn sealed_copies_of_ended_tokens_are_erased(world: World) {
    let (instance, machine) = machine(&world).await;
    let (neighbor, other) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    for machine in [&machine, &neighbor, &other] {
        world.issue(world.new_pooled(machine, 1, 0)).await;
    }
    end(&world, Of::Machine, &machine, 0).await;
    // What is erased already is not erased because it expired.
    let late = at(i64::from(i32::MAX));
    world
        .store
        .delete_machine(instance, other.id, some_change())
        .await
        .unwrap();
    let swept = world.store.sweep_tokens(None, 100, at(0), at(0)).await;
    assert_eq!(swept.unwrap().deleted, 1);
    assert_eq!(world.store.erase_expired_secrets(late).await.unwrap(), 1);
    world.issue(world.new_pooled(&neighbor, 1, 0)).await;
    end(&world, Of::Instance, &machine, 0).await;
    assert_eq!(world.store.erase_expired_secrets(late).await.unwrap(), 0);
}

pub async fn ended_tokens_are_listed_on_request(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let (old, jwt) = (
            world.token(&machine).await,
            world.issue(world.new_jwt(&machine)).await,
        );
        let cut_off = end(&world, of, &machine, 100).await;
        let new = NewToken {
            created_at: cut_off,
            ..world.new_token(&world.current(&machine).await)
        };
        let new = world.issue(new).await;
        assert_eq!(list(&world, &machine, query()).await, (vec![new], 1));
        let with_expired = TokenQuery {
            include_revoked: false,
            ..everything()
        };
        assert_eq!(list(&world, &machine, with_expired).await, (vec![new], 1));
        let with_revoked = TokenQuery {
            include_revoked: true,
            ..query()
        };
        assert_eq!(
            list(&world, &machine, with_revoked).await,
            (vec![new, old], 2)
        );
        let all = list(&world, &machine, everything()).await;
        assert_eq!(all, (vec![new, jwt, old], 3));
        let query = TokenQuery {
            machine: machine.id,
            ..everything()
        };
        let (listed, _) = world.store.list_tokens(instance, query).await.unwrap();
        let cut_offs: Vec<_> = listed.iter().map(crate::StoredToken::cut_off_at).collect();
        assert_eq!(cut_offs, [None, Some(cut_off), Some(cut_off)]);
    }
}

pub async fn an_ended_token_is_not_updated(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let id = world.token(&machine).await;
        end(&world, of, &machine, 5).await;
        let update = || TokenUpdate {
            expires_at: Some(None),
            ..TokenUpdate::default()
        };
        let store = &world.store;
        let outcome = store
            .update_token(instance, None, id, update(), change_at(5))
            .await;
        assert!(matches!(outcome, Ok(UpdateToken::NotLive)), "{outcome:?}");
        let stored = world.find(instance, id).await.unwrap();
        assert!(stored.row.expires_at.is_some());
        assert_eq!(world.changes(instance).await.len(), 3);
        // It can still be revoked, with a reason.
        let outcome = world.revoke(instance, id).await;
        assert!(matches!(outcome, RevokeToken::Revoked(_)), "{outcome:?}");
    }
}

pub async fn a_token_of_the_cut_off_or_later_is_good(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let cut_off = end(&world, of, &machine, 100).await;
        let current = world.current(&machine).await;
        for created_at in [cut_off, cut_off.plus_millis(1).unwrap()] {
            for token in [world.new_token(&current), world.new_jwt(&current)] {
                let token = NewToken {
                    created_at,
                    ..token
                };
                let id = world.issue(token).await;
                let found = world.find(instance, id).await.unwrap();
                assert_eq!(found.cut_off_at(), None);
            }
        }
    }
}

pub async fn a_token_that_was_prepared_before_a_cut_off_is_refused(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        world.issue(world.new_pooled(&machine, 1, 0)).await;
        let prepared = [
            world.new_token(&machine),
            world.new_jwt(&machine),
            world.new_pooled(&machine, 1, 0),
        ];
        end(&world, of, &machine, 0).await;
        for token in prepared {
            let id = token.id;
            // Its time would be late enough.
            let token = NewToken {
                created_at: at(1000),
                ..token
            };
            let outcome = world.store.insert_token(token).await.unwrap();
            assert!(
                matches!(outcome, InsertToken::Changed),
                "{of:?} {outcome:?}"
            );
            assert!(world.find(instance, id).await.is_none());
        }
    }
}

pub async fn a_second_cut_off_at_the_same_time_lies_later(world: World) {
    for of in BOTH {
        let (instance, machine) = machine(&world).await;
        let first = end(&world, of, &machine, 100).await;
        let between = NewToken {
            created_at: first,
            ..world.new_token(&world.current(&machine).await)
        };
        let between = world.issue(between).await;
        // Also where the clock of another process is behind.
        for (millis, least) in [(100, first), (50, first.plus_millis(1).unwrap())] {
            let cut_off = end(&world, of, &machine, millis).await;
            assert!(cut_off > least, "{of:?}");
            let found = world.find(instance, between).await.unwrap();
            assert_eq!(found.cut_off_at(), Some(cut_off));
        }
        assert_eq!(world.changes(instance).await.len(), 5);
    }
}

pub async fn a_cut_off_of_either_kind_lies_behind_those_of_the_other_kind(world: World) {
    for order in [[Of::Machine, Of::Instance], [Of::Instance, Of::Machine]] {
        let (instance, machine) = machine(&world).await;
        let neighbor = world.machine(instance, "b").await;
        end(&world, Of::Machine, &neighbor, 100).await;
        let first = end(&world, order[0], &machine, 500).await;
        let between = NewToken {
            created_at: first,
            ..world.new_token(&world.current(&machine).await)
        };
        let between = world.issue(between).await;
        let found = world.find(instance, between).await.unwrap();
        assert_eq!(found.cut_off_at(), None);
        // The clock stands still, or that of another process is behind.
        for millis in [500, 100] {
            let cut_off = end(&world, order[1], &machine, millis).await;
            assert!(cut_off > first, "{order:?}");
            let found = world.find(instance, between).await.unwrap();
            assert_eq!(found.cut_off_at(), Some(cut_off), "{order:?}");
        }
    }
}
