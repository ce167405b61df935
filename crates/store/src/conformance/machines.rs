//! Machines and their lists.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;

use super::world::{World, at, change, some_change};
use crate::{
    ChangeKind, InsertMachine, MachineOrder, MachineQuery, MachineRow, MachineUpdate,
    MachineWithScopes, NewMachine, Page, SortBy, StoreError,
};

pub async fn a_new_machine_is_found_with_its_scopes_and_key(world: World) {
    let instance = world.instance().await;
    let (b, c) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    let new = NewMachine {
        scopes: vec![c.id, b.id],
        ..world.new_machine(instance, "a")
    };
    let outcome = world
        .store
        .insert_machine(new.clone(), some_change(instance))
        .await
        .unwrap();
    let InsertMachine::Inserted(made) = outcome else {
        panic!("{outcome:?}")
    };
    let a = &made.machine;
    assert_eq!(
        (a.id, a.instance, a.name.as_str(), a.default_token_ttl),
        (new.id, instance, "a", 3600)
    );
    assert_eq!((a.created_at, a.updated_at), (at(0), at(0)));
    assert_eq!(
        a.scopes.iter().collect::<Vec<_>>(),
        [c.id.as_str(), b.id.as_str()]
    );
    assert_eq!(made.scoped, [c, b]);
    assert_eq!(&world.current(a).await, a);
    assert_eq!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .unwrap(),
        made
    );
    assert!(
        world
            .store
            .machine_key_by_digest(&new.key.digest)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(world.changes(instance).await.len(), 4);
}

pub async fn a_machine_with_an_unknown_scope_is_not_made(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let unknown = world.machine_id();
    let new = NewMachine {
        scopes: vec![b.id, unknown],
        ..world.new_machine(instance, "a")
    };
    let outcome = world
        .store
        .insert_machine(new.clone(), some_change(instance))
        .await
        .unwrap();
    assert!(
        matches!(outcome, InsertMachine::ScopeNotFound(id) if id == unknown),
        "{outcome:?}"
    );
    assert!(
        world
            .store
            .machine(instance, new.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .store
            .machine_key_by_digest(&new.key.digest)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn a_scope_to_another_instances_machine_is_unknown(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.machine(other, "b").await;
    let new = NewMachine {
        scopes: vec![theirs.id],
        ..world.new_machine(mine, "a")
    };
    let outcome = world
        .store
        .insert_machine(new, some_change(mine))
        .await
        .unwrap();
    assert!(
        matches!(outcome, InsertMachine::ScopeNotFound(id) if id == theirs.id),
        "{outcome:?}"
    );
}

pub async fn a_machine_id_is_used_once(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let a = world.machine(mine, "a").await;
    let new = NewMachine {
        id: a.id,
        ..world.new_machine(other, "b")
    };
    let outcome = world.store.insert_machine(new, some_change(other)).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(world.store.machine(other, a.id).await.unwrap().is_none());
    assert_eq!(world.current(&a).await, a);
}

pub async fn a_failed_machine_leaves_no_scope_and_no_change(world: World) {
    let instance = world.instance().await;
    let b = world.new_machine(instance, "b");
    let taken = b.key.clone();
    let b = world.insert(b).await;
    // The key is the last thing to be stored, and it conflicts.
    let new = NewMachine {
        scopes: vec![b.id],
        key: taken,
        ..world.new_machine(instance, "a")
    };
    let outcome = world
        .store
        .insert_machine(new.clone(), some_change(instance))
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(
        world
            .store
            .machine(instance, new.id)
            .await
            .unwrap()
            .is_none()
    );
    let again = NewMachine {
        key: world.machine_key(),
        scopes: Vec::new(),
        ..new
    };
    let made = world.insert(again).await;
    assert!(made.scopes.is_empty());
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_machine_of_another_instance_is_not_found(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.machine(other, "b").await;
    // In both orders, so that what one reader keeps in memory does not answer the other.
    assert!(
        world
            .store
            .machine(mine, theirs.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .store
            .machine(other, theirs.id)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        world
            .store
            .machine(mine, theirs.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .store
            .machine_with_scopes(mine, theirs.id)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn an_update_changes_what_is_given_and_moves_the_revision(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let a = world.machine_with(instance, "a", &[&b]).await;
    let update = MachineUpdate {
        name: Some("A new name".to_owned()),
        default_token_ttl: None,
    };
    let updated = world
        .store
        .update_machine(instance, a.id, update, at(70), some_change(instance))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            updated.machine.name.as_str(),
            updated.machine.default_token_ttl
        ),
        ("A new name", 3600)
    );
    assert_eq!(
        (updated.machine.updated_at, updated.machine.created_at),
        (at(70), at(0))
    );
    assert!(updated.machine.revision > a.revision);
    assert_eq!(updated.scoped, [b]);
    assert_eq!(world.current(&a).await, updated.machine);
    let update = MachineUpdate {
        name: None,
        default_token_ttl: Some(60),
    };
    world
        .store
        .update_machine(instance, a.id, update, at(80), some_change(instance))
        .await
        .unwrap()
        .unwrap();
    let now = world.current(&a).await;
    assert_eq!(
        (now.name.as_str(), now.default_token_ttl, now.updated_at),
        ("A new name", 60, at(80))
    );
    assert_eq!(
        list(&world, instance, Some("NEW NAME"), by_age(false), all())
            .await
            .1,
        1
    );
    assert_eq!(world.changes(instance).await.len(), 5);
}

pub async fn an_empty_update_changes_nothing_and_logs_nothing(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    let outcome = world
        .store
        .update_machine(
            instance,
            a.id,
            MachineUpdate::default(),
            at(70),
            some_change(instance),
        )
        .await
        .unwrap();
    assert_eq!(outcome.unwrap().machine, a);
    assert_eq!(world.current(&a).await, a);
    assert_eq!(world.changes(instance).await.len(), 2);
}

fn renamed() -> MachineUpdate {
    MachineUpdate {
        name: Some("renamed".to_owned()),
        default_token_ttl: None,
    }
}

pub async fn an_unknown_machine_is_not_updated(world: World) {
    let instance = world.instance().await;
    let unknown = world.machine_id();
    let outcome = world
        .store
        .update_machine(instance, unknown, renamed(), at(1), some_change(instance))
        .await
        .unwrap();
    assert!(outcome.is_none());
    assert_eq!(world.changes(instance).await.len(), 1);
}

pub async fn a_deleted_machine_is_gone_with_keys_and_scopes(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let new = NewMachine {
        scopes: vec![b.id],
        ..world.new_machine(instance, "a")
    };
    let digest = new.key.digest;
    let a = world.insert(new).await;
    world.current(&a).await;
    world
        .store
        .machine_key_by_digest(&digest)
        .await
        .unwrap()
        .unwrap();
    let entry = change(instance, ChangeKind::MachineDeleted, a.id.as_str());
    assert!(
        world
            .store
            .delete_machine(instance, a.id, at(5), entry)
            .await
            .unwrap()
    );
    assert!(world.store.machine(instance, a.id).await.unwrap().is_none());
    assert!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .store
            .machine_key_by_digest(&digest)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        world
            .store
            .reveal_machine_key(instance, a.id, some_change(instance))
            .await
            .unwrap(),
        None
    );
    assert_eq!(world.current(&b).await, b);
    assert_eq!(
        list(&world, instance, None, by_age(false), all()).await.1,
        1
    );
    let changes = world.changes(instance).await;
    assert_eq!(
        (changes.len(), changes[3].kind),
        (4, ChangeKind::MachineDeleted)
    );
}

pub async fn deletion_takes_the_machine_out_of_its_callers(world: World) {
    let instance = world.instance().await;
    let (b, c) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    let a = world.machine_with(instance, "a", &[&b, &c]).await;
    world.current(&a).await;
    assert!(
        world
            .store
            .delete_machine(instance, b.id, at(90), some_change(instance))
            .await
            .unwrap()
    );
    let now = world.current(&a).await;
    assert_eq!(now.scopes.iter().collect::<Vec<_>>(), [c.id.as_str()]);
    assert!(now.revision > a.revision);
    assert_eq!(now.updated_at, at(90));
    assert_eq!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .unwrap()
            .scoped,
        [c]
    );
    // It can be made again and is not called by anyone.
    let again = world
        .insert(NewMachine {
            id: b.id,
            ..world.new_machine(instance, "b")
        })
        .await;
    assert!(!world.current(&a).await.scopes.contains(&again.id));
}

pub async fn an_unknown_machine_is_not_deleted(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    assert!(
        !world
            .store
            .delete_machine(instance, world.machine_id(), at(1), some_change(instance))
            .await
            .unwrap()
    );
    assert!(
        world
            .store
            .delete_machine(instance, a.id, at(1), some_change(instance))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .delete_machine(instance, a.id, at(1), some_change(instance))
            .await
            .unwrap()
    );
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_machine_of_another_instance_is_not_changed(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.machine(other, "b").await;
    assert!(
        world
            .store
            .update_machine(mine, theirs.id, renamed(), at(1), some_change(mine))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !world
            .store
            .delete_machine(mine, theirs.id, at(1), some_change(mine))
            .await
            .unwrap()
    );
    assert_eq!(world.current(&theirs).await, theirs);
    assert_eq!(world.changes(mine).await.len(), 1);
}

pub async fn a_machine_number_is_never_used_again(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    world
        .store
        .delete_machine(instance, a.id, at(1), some_change(instance))
        .await
        .unwrap();
    assert!(world.machine(instance, "b").await.number > a.number);
}

fn by_age(is_descending: bool) -> MachineOrder {
    MachineOrder {
        by: SortBy::CreatedAt,
        is_descending,
    }
}

fn by_name(is_descending: bool) -> MachineOrder {
    MachineOrder {
        by: SortBy::Name,
        is_descending,
    }
}

fn all() -> Page {
    Page {
        limit: 500,
        offset: 0,
    }
}

async fn list(
    world: &World,
    instance: InstanceId,
    text: Option<&str>,
    order: MachineOrder,
    page: Page,
) -> (Vec<MachineWithScopes>, u64) {
    let query = MachineQuery {
        text: text.map(str::to_owned),
        order,
        page,
    };
    world.store.list_machines(instance, query).await.unwrap()
}

async fn names(
    world: &World,
    instance: InstanceId,
    text: Option<&str>,
    order: MachineOrder,
) -> Vec<String> {
    let (machines, total) = list(world, instance, text, order, all()).await;
    assert_eq!(machines.len() as u64, total);
    machines
        .iter()
        .map(|machine| machine.machine.name.clone())
        .collect()
}

/// Makes machines with these names, one a millisecond.
async fn machines(world: &World, instance: InstanceId, names: &[&str]) -> Vec<Arc<MachineRow>> {
    let mut made = Vec::new();
    for (millis, name) in (0..).zip(names) {
        made.push(
            world
                .insert(NewMachine {
                    created_at: at(millis),
                    ..world.new_machine(instance, name)
                })
                .await,
        );
    }
    made
}

pub async fn machines_are_listed_by_creation_in_both_directions(world: World) {
    let instance = world.instance().await;
    machines(&world, instance, &["b", "c", "a"]).await;
    assert_eq!(
        names(&world, instance, None, by_age(false)).await,
        ["b", "c", "a"]
    );
    assert_eq!(
        names(&world, instance, None, by_age(true)).await,
        ["a", "c", "b"]
    );
}

pub async fn machines_are_listed_by_name_byte_for_byte(world: World) {
    let instance = world.instance().await;
    machines(&world, instance, &["b", "Z", "a", "ä", "A"]).await;
    assert_eq!(
        names(&world, instance, None, by_name(false)).await,
        ["A", "Z", "a", "b", "ä"]
    );
    assert_eq!(
        names(&world, instance, None, by_name(true)).await,
        ["ä", "b", "a", "Z", "A"]
    );
}

pub async fn equal_names_follow_their_ids(world: World) {
    let instance = world.instance().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.machine(instance, "same").await.id);
    }
    ids.sort_unstable();
    for order in [by_name(false), by_age(false)] {
        let (listed, _) = list(&world, instance, None, order, all()).await;
        assert_eq!(
            listed
                .iter()
                .map(|machine| machine.machine.id)
                .collect::<Vec<_>>(),
            ids
        );
    }
    ids.reverse();
    for order in [by_name(true), by_age(true)] {
        let (listed, _) = list(&world, instance, None, order, all()).await;
        assert_eq!(
            listed
                .iter()
                .map(|machine| machine.machine.id)
                .collect::<Vec<_>>(),
            ids
        );
    }
}

pub async fn pages_cover_the_list_without_gap_or_overlap(world: World) {
    let instance = world.instance().await;
    machines(&world, instance, &["a", "b", "c", "d", "e"]).await;
    let mut seen = Vec::new();
    for offset in [0, 2, 4, 6] {
        let (page, total) = list(
            &world,
            instance,
            None,
            by_name(false),
            Page { limit: 2, offset },
        )
        .await;
        assert_eq!(total, 5);
        seen.extend(page.into_iter().map(|machine| machine.machine.name.clone()));
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    let (page, total) = list(
        &world,
        instance,
        None,
        by_name(false),
        Page {
            limit: 10,
            offset: u64::MAX,
        },
    )
    .await;
    assert_eq!((page.len(), total), (0, 5));
}

pub async fn a_query_finds_part_of_a_name_in_any_case(world: World) {
    let instance = world.instance().await;
    machines(
        &world,
        instance,
        &["Billing Service", "ÜBER billing", "ledger"],
    )
    .await;
    assert_eq!(
        names(&world, instance, Some("bILLing"), by_age(false)).await,
        ["Billing Service", "ÜBER billing"]
    );
    assert_eq!(
        names(&world, instance, Some("über"), by_age(false)).await,
        ["ÜBER billing"]
    );
    assert_eq!(
        names(&world, instance, Some("g s"), by_age(false)).await,
        ["Billing Service"]
    );
    assert!(
        names(&world, instance, Some("nothing"), by_age(false))
            .await
            .is_empty()
    );
    let (page, total) = list(
        &world,
        instance,
        Some("billing"),
        by_age(false),
        Page {
            limit: 1,
            offset: 1,
        },
    )
    .await;
    assert_eq!((page[0].machine.name.as_str(), total), ("ÜBER billing", 2));
}

pub async fn a_query_finds_exactly_one_id(world: World) {
    let instance = world.instance().await;
    let made = machines(&world, instance, &["a", "b"]).await;
    assert_eq!(
        names(&world, instance, Some(made[1].id.as_str()), by_age(false)).await,
        ["b"]
    );
    assert!(
        names(
            &world,
            instance,
            Some(&made[1].id.as_str()[..20]),
            by_age(false)
        )
        .await
        .is_empty()
    );
}

pub async fn a_query_takes_wildcards_literally(world: World) {
    let instance = world.instance().await;
    machines(
        &world,
        instance,
        &["100%", "a_b", "axb", "it's", "back\\slash"],
    )
    .await;
    assert_eq!(
        names(&world, instance, Some("%"), by_age(false)).await,
        ["100%"]
    );
    assert_eq!(
        names(&world, instance, Some("_"), by_age(false)).await,
        ["a_b"]
    );
    assert_eq!(
        names(&world, instance, Some("'"), by_age(false)).await,
        ["it's"]
    );
    assert_eq!(
        names(&world, instance, Some("\\"), by_age(false)).await,
        ["back\\slash"]
    );
}

pub async fn lists_show_machines_of_one_instance_only(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    machines(&world, mine, &["a"]).await;
    let theirs = machines(&world, other, &["b", "c"]).await;
    assert_eq!(names(&world, mine, None, by_age(false)).await, ["a"]);
    assert!(
        names(&world, mine, Some("b"), by_age(false))
            .await
            .is_empty()
    );
    assert!(
        names(&world, mine, Some(theirs[0].id.as_str()), by_age(false))
            .await
            .is_empty()
    );
    assert!(
        names(&world, world.instance_id(), None, by_age(false))
            .await
            .is_empty()
    );
}

pub async fn lists_show_the_scopes_of_each_machine(world: World) {
    let instance = world.instance().await;
    let made = machines(&world, instance, &["a", "b"]).await;
    let c = world
        .machine_with(instance, "c", &[&made[1], &made[0]])
        .await;
    let d = world.machine_with(instance, "d", &[&c]).await;
    let (listed, _) = list(&world, instance, None, by_name(false), all()).await;
    assert!(listed[0].scoped.is_empty());
    assert_eq!(
        listed[2].scoped,
        [Arc::clone(&made[1]), Arc::clone(&made[0])]
    );
    assert_eq!(listed[3].machine, d);
    assert_eq!(listed[3].scoped, [c]);
}
