//! The authority itself: data keys, the clock, the state of the store.

use std::collections::{BTreeSet, HashSet};

use super::world::{World, at, data_keys, some_change};
use crate::{DataKeyPurpose, LastUse, Node, StoreError};

pub async fn data_keys_come_back_oldest_first(world: World) {
    let keys = world.store.data_keys().await.unwrap();
    assert_eq!(keys.len(), 3);
    for (purpose, _) in DataKeyPurpose::ALL {
        let key = keys.iter().find(|key| key.purpose == purpose).unwrap();
        assert_eq!(
            (key.version, key.wrapped.0.as_slice(), key.created_at),
            (1, [7; 60].as_slice(), at(0))
        );
    }
    assert!(keys.is_sorted_by_key(|key| key.version));
}

pub async fn a_second_initialization_is_a_conflict(world: World) {
    let outcome = world.store.initialize(data_keys(), some_change()).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert_eq!(world.store.data_keys().await.unwrap().len(), 3);
}

pub async fn the_clock_floor_never_falls(world: World) {
    let store = &world.store;
    assert!(store.clock_floor().await.unwrap() <= at(0));
    store.record_uses(Vec::new(), at(5000)).await.unwrap();
    assert_eq!(store.clock_floor().await.unwrap(), at(5000));
    store.record_uses(Vec::new(), at(4000)).await.unwrap();
    assert_eq!(store.clock_floor().await.unwrap(), at(5000));
    let unknown = LastUse {
        locator: world.token_id().locator(),
        at: at(1),
    };
    store.record_uses(vec![unknown], at(6000)).await.unwrap();
    assert_eq!(store.clock_floor().await.unwrap(), at(6000));
}

pub async fn an_idle_store_is_in_order(world: World) {
    world.store.check().await.unwrap();
}

pub async fn measures_have_names_and_values_that_never_fall(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "billing").await;
    let before = world.store.measures();
    for _ in 0..10 {
        let token = world.token(&machine).await;
        world.find(instance, token).await.unwrap();
    }
    let after = world.store.measures();
    assert!(!before.is_empty());
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.name, before.help), (after.name, after.help));
        assert!(after.value >= before.value, "{before:?} {after:?}");
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        assert!(
            !after.name.is_empty() && after.name.bytes().all(is_name),
            "{after:?}"
        );
        assert!(!after.help.is_empty(), "{after:?}");
    }
    let names: BTreeSet<_> = after.iter().map(|measure| measure.name).collect();
    assert_eq!(names.len(), after.len());
    let has_grown = before
        .iter()
        .zip(&after)
        .any(|(before, after)| after.value > before.value);
    assert!(has_grown, "{after:?}");
}

pub async fn nodes_in_use_are_distinct(world: World) {
    assert_eq!(world.store.node(), Node::ONLY);
    let (second, third) = (world.second_handle().await, world.second_handle().await);
    let handles: Vec<_> = second.into_iter().chain(third).collect();
    let nodes = handles.iter().map(|handle| handle.node());
    let nodes: HashSet<_> = nodes.chain([world.store.node()]).collect();
    assert_eq!(nodes.len(), handles.len() + 1);
    // All of them see the same data, and changes of one another.
    for handle in &handles {
        let instance = world.instance().await;
        assert!(handle.instance(instance).await.unwrap().is_some());
        let machine = world.new_machine(instance, "a");
        let id = machine.id;
        handle.insert_machine(machine, some_change()).await.unwrap();
        assert!(world.store.machine(instance, id).await.unwrap().is_some());
    }
}
