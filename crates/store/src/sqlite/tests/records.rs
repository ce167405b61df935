//! A change whose record cannot be written is not made, neither in the database nor in the index.

use countersign_protocol::change::{Cause, Log};
use countersign_protocol::ids::{InstanceId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use tempfile::TempDir;

use super::super::SqliteStore;
use super::super::schema::TABLES;
use super::world_in;
use crate::conformance::{World, at, change_at, some_change};
use crate::{
    MachineUpdate, NewToken, Presented, Result, Store, StoreError, StoreOptions, TokenUpdate,
};

fn row_text(row: &Row<'_>, columns: usize) -> rusqlite::Result<String> {
    let values = (0..columns).map(|column| row.get_ref(column));
    let values = values.collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
    Ok(format!("{values:?}"))
}

/// Every row of every table.
fn dump(store: &SqliteStore) -> Vec<String> {
    let all = |connection: &Connection| {
        let mut rows = Vec::new();
        for (table, order) in TABLES {
            let query = format!("SELECT * FROM {table} ORDER BY {order}, 2");
            let mut statement = connection.prepare(&query)?;
            let columns = statement.column_count();
            let found = statement.query_map([], |row| row_text(row, columns))?;
            for row in found {
                rows.push(format!("{table} {}", row?));
            }
        }
        Ok(rows)
    };
    store.shared.readers.read(all).unwrap()
}

/// Runs SQL in the store's own connection, as an operation of its own.
async fn execute(store: &SqliteStore, sql: &'static str) {
    let done = store.writer.write_single(move |write| {
        write.connection.execute_batch(sql)?;
        Ok(())
    });
    done.await.unwrap();
}

fn assert_refused<T: std::fmt::Debug>(operation: &str, outcome: Result<T>) {
    let error = outcome.expect_err(operation);
    assert!(
        matches!(&error, StoreError::Conflict(text) if text.contains("no records")),
        "{operation}: {error:?}"
    );
}

#[tokio::test]
async fn an_operation_whose_record_cannot_be_written_does_nothing() {
    let (store, world) = world_in(TempDir::new().unwrap(), StoreOptions::default()).await;
    let instance = world.instance().await;
    let key = world.added_instance_key(instance).await;
    let receiver = world.machine(instance, "receiver").await;
    let new = world.new_machine(instance, "sender");
    let machine_key = Presented::Machine(new.key.digest);
    let sender = world.insert(new).await;
    let to_delete = world.machine(instance, "to delete").await;
    let token = world.token(&sender).await;
    let jwt = world.issue(world.new_jwt(&sender)).await;
    let pooled = world.issue(world.new_pooled(&sender, 1, 0)).await;
    let next = world.signing_key(instance);
    let published = store.insert_signing_key(next.clone(), 16, some_change());
    published.await.unwrap();
    let scope = store.insert_scope(instance, receiver.id, sender.id, 150, some_change());
    scope.await.unwrap();
    // Where no signing key waits for its turn.
    let other = world.instance().await;
    execute(
        &store,
        "CREATE TRIGGER no_log BEFORE INSERT ON changes
         BEGIN SELECT RAISE(ABORT, 'no records'); END",
    )
    .await;
    let before = dump(&store);
    let seen = seen_by_readers(&world, &store, instance, machine_key, &[token, jwt, pooled]).await;

    let id = instance;
    let settings = InstanceSettings {
        secret_reveal: false,
        token_pooling: false,
        ..InstanceSettings::default()
    };
    let current = world.current_instance(id).await;
    let update = MachineUpdate {
        name: Some("other".to_owned()),
        ..MachineUpdate::default()
    };
    let token_update = TokenUpdate {
        claims: Some(None),
        expires_at: Some(None),
        revoked: None,
    };
    let (from, to) = (sender.id, receiver.id);
    let new = world.new_instance();
    let first_key = world.instance_key(new.id);
    let first_signing_key = world.first_signing_key(new.id);
    assert_refused(
        "insert_instance",
        store
            .insert_instance(new, first_key, first_signing_key, some_change())
            .await,
    );
    assert_refused(
        "update_instance_settings",
        store
            .update_instance_settings(id, current.revision, settings, change_at(1))
            .await,
    );
    assert_refused(
        "end_instance_tokens",
        store.end_instance_tokens(id, change_at(1)).await,
    );
    assert_refused(
        "insert_instance_key",
        store
            .insert_instance_key(world.instance_key(id), 20, some_change())
            .await,
    );
    assert_refused(
        "revoke_instance_key",
        store.revoke_instance_key(id, key.id, change_at(1)).await,
    );
    assert_refused(
        "insert_signing_key",
        store
            .insert_signing_key(world.signing_key(other), 16, some_change())
            .await,
    );
    assert_refused(
        "delete_signing_key",
        store
            .delete_signing_key(id, next.id, None, change_at(1))
            .await,
    );
    assert_refused(
        "activate_signing_key",
        store
            .activate_signing_key(id, next.id, Cause::Request, change_at(1))
            .await,
    );
    assert_refused(
        "insert_machine",
        store
            .insert_machine(world.new_machine(id, "new"), some_change())
            .await,
    );
    assert_refused(
        "update_machine",
        store.update_machine(id, from, update, change_at(1)).await,
    );
    assert_refused(
        "delete_machine",
        store.delete_machine(id, to_delete.id, change_at(1)).await,
    );
    assert_refused(
        "end_machine_tokens",
        store.end_machine_tokens(id, from, change_at(1)).await,
    );
    assert_refused(
        "insert_scope",
        store.insert_scope(id, from, to, 150, change_at(1)).await,
    );
    assert_refused(
        "delete_scope",
        store.delete_scope(id, to, from, change_at(1)).await,
    );
    assert_refused(
        "rotate_machine_key",
        store
            .rotate_machine_key(id, from, world.machine_key(), at(0), 5, change_at(1))
            .await,
    );
    assert_refused(
        "reveal_machine_key",
        store.reveal_machine_key(id, from, change_at(1)).await,
    );
    let issued = NewToken {
        change: Some(change_at(1)),
        ..world.new_token(&sender)
    };
    assert_refused("insert_token", store.insert_token(issued).await);
    for token in [token, jwt, pooled] {
        let revoked = store.revoke_token(id, None, token, None, change_at(1));
        assert_refused("revoke_token", revoked.await);
    }
    assert_refused(
        "update_token",
        store
            .update_token(id, None, pooled, token_update, change_at(1))
            .await,
    );

    assert_eq!(dump(&store), before);
    let again = seen_by_readers(&world, &store, instance, machine_key, &[token, jwt, pooled]).await;
    assert_eq!(again, seen);
    // What needs no record goes on, and so does everything once records can be written.
    world.token(&sender).await;
    execute(&store, "DROP TRIGGER no_log").await;
    let deleted = store.delete_machine(id, to_delete.id, change_at(1)).await;
    assert!(deleted.unwrap());
}

/// What reads from memory say.
async fn seen_by_readers(
    world: &World,
    store: &SqliteStore,
    instance: InstanceId,
    key: Presented,
    tokens: &[TokenId],
) -> Vec<String> {
    let mut seen = vec![
        format!("{:?}", store.list_instances().await.unwrap()),
        format!("{:?}", store.caller(key).await.unwrap()),
        format!("{:?}", store.list_instance_keys(instance).await.unwrap()),
        format!(
            "{:?}",
            store.log_head(Log::Instance(instance)).await.unwrap()
        ),
        format!("{:?}", store.log_head(Log::Authority).await.unwrap()),
    ];
    for id in tokens {
        seen.push(format!("{:?}", world.find(instance, *id).await));
    }
    seen
}
