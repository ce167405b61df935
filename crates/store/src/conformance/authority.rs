//! The authority itself: data keys, the clock, the state of the store.

use super::world::{World, at, data_keys};
use crate::{DataKeyPurpose, LastUse, StoreError};

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

pub async fn a_second_initialisation_is_a_conflict(world: World) {
    let outcome = world.store.initialise(data_keys()).await;
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

pub async fn statistics_count_commits_and_reads(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "billing").await;
    let before = world.store.statistics();
    let token = world.token(&machine).await;
    world.find(instance, token).await.unwrap();
    let after = world.store.statistics();
    assert!(after.commits > before.commits);
    assert!(after.committed_operations > before.committed_operations);
    assert!(after.index_hits + after.index_misses > before.index_hits + before.index_misses);
}
