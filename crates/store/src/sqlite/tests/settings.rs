//! Erasing secrets where a switch is turned off.

use rusqlite::Connection;
use tempfile::TempDir;

use super::super::jobs::Write;
use super::world_in;
use crate::StoreOptions;
use countersign_protocol::settings::InstanceSettings;

#[tokio::test]
async fn secrets_are_erased_where_a_switch_is_turned_off_and_not_again() {
    let (store, world) = world_in(TempDir::new().unwrap(), StoreOptions::default()).await;
    let instance = world.instance().await;
    world.machine(instance, "a").await;
    let set = async |secret_reveal| {
        let settings = InstanceSettings {
            secret_reveal,
            ..InstanceSettings::default()
        };
        world.set(instance, settings).await;
    };
    let sealed = || {
        let count = "SELECT count(*) FROM machine_keys WHERE sealed IS NOT NULL";
        let read = |connection: &Connection| connection.query_row(count, [], |row| row.get(0));
        store.shared.readers.read::<i64>(read).unwrap()
    };
    assert_eq!(sealed(), 1);
    set(false).await;
    assert_eq!(sealed(), 0);
    let plant = |write: &mut Write<'_>| {
        write.execute("UPDATE machine_keys SET sealed = x'01'", [])?;
        Ok(())
    };
    store.writer.write_single(plant).await.unwrap();
    set(false).await;
    assert_eq!(sealed(), 1, "nobody looked again");
    set(true).await;
    set(false).await;
    assert_eq!(sealed(), 0);
}
