//! Lists of machines.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;
use countersign_protocol::page::{MachineOrder, Page, SortBy};

use super::world::{World, at};
use crate::{MachineQuery, MachineRow, MachineWithScopes, NewMachine};

pub(super) fn by_age(is_descending: bool) -> MachineOrder {
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

pub(super) fn all() -> Page {
    Page {
        limit: 500,
        offset: 0,
    }
}

pub(super) async fn list(
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
